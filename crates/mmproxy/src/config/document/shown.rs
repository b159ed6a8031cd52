//! The way back: what is meant as it could have been typed.

use std::net::SocketAddr;

use clap::ValueEnum;

use crate::cli::{KEEP, MissingArg, Probing, ProtocolArg, SandboxArg, SourceArg};
use crate::config::keys::{List, ServiceKeys};
use crate::config::mistake::Spot;
use crate::config::read::{Typed, TypedService};
use crate::config::scalar::{Endpoint, Name, Number, Scalar, Target, Time, TimeOrOff, UserName, Workers};
use crate::config::slot::{Setting, Slot, Value};
use crate::spec::{JailSpec, ServiceSpec, Spec};

/// Every key with a value.
pub(super) fn typed(spec: &Spec) -> Typed {
    let mut typed = Typed::default();
    set(&mut typed.global.workers, Workers(Some(spec.global.workers)));
    set_some(&mut typed.global.max_sessions, spec.global.max_sessions);
    set(&mut typed.global.drain, Time(spec.global.drain));
    set(&mut typed.global.verbosity, spec.global.verbosity);
    set_some(&mut typed.global.log_format, spec.global.log_format);
    set_some(&mut typed.global.admin, spec.global.admin);
    set_some(&mut typed.global.control, spec.global.control.clone());
    set_some(&mut typed.global.deny_state, spec.global.deny_state.clone());
    let JailSpec { user, sandbox, may_lack, keep_net_admin } = &spec.global.jail;
    let user = user.as_ref().map_or(Some(KEEP), |user| user.asked());
    set_some(&mut typed.global.user, user.map(|user| UserName(user.to_owned())));
    let same = |arg: &&SandboxArg| arg.sandbox() == *sandbox;
    set_some(&mut typed.global.sandbox, SandboxArg::value_variants().iter().find(same).copied());
    let same = |arg: &&MissingArg| arg.may_lack() == *may_lack;
    set_some(&mut typed.global.sandbox_missing, MissingArg::value_variants().iter().find(same).copied());
    set(&mut typed.global.keep_net_admin, *keep_net_admin);
    typed.services = spec.services.iter().map(service).collect();
    typed
}

fn service(spec: &ServiceSpec) -> TypedService {
    let mut keys = ServiceKeys::default();
    set(&mut keys.name, Name(spec.name.clone()));
    set(&mut keys.protocol, spec.protocol);
    set_list(&mut keys.listen, endpoints(&spec.listen));
    set(&mut keys.backlog, Number(spec.backlog));

    set_some(&mut keys.target_v4, spec.targets.v4.map(|at| Target(endpoint(at.into()))));
    set_some(&mut keys.target_v6, spec.targets.v6.map(|at| Target(endpoint(at.into()))));
    set(&mut keys.target_from_header, spec.targets.from_header.is_some());
    if let Some(allowed) = &spec.targets.from_header {
        set_list(&mut keys.allow_target, allowed.iter().cloned());
    }
    set_some(&mut keys.target_netns, spec.target_netns.clone());

    set_list(&mut keys.allow, spec.allowed.iter().copied());
    set(&mut keys.source, spec.source);
    if spec.source == SourceArg::Header {
        set_list(&mut keys.header, spec.headers.iter().copied());
    }
    set_list(&mut keys.allow_source, spec.allow_source.iter().copied());
    if let Some(allowed) = &spec.clients.allowed {
        set_list(&mut keys.allow_client, allowed.iter().copied());
    }
    set_list(&mut keys.deny_client, spec.clients.denied.iter().copied());

    set(&mut keys.return_path, spec.return_path.mode);
    set(&mut keys.routing, spec.return_path.routing);
    set(&mut keys.mark, spec.return_path.mark);
    set(&mut keys.table, spec.return_path.table);
    set(&mut keys.priority, spec.return_path.priority);

    set(&mut keys.listen_transparent, spec.listen_transparent);
    set_list(&mut keys.tproxy_ports, spec.tproxy.ports.iter().copied());
    set(&mut keys.tproxy_mark, spec.tproxy.mark);
    set(&mut keys.tproxy_table, spec.tproxy.table);

    set(&mut keys.source_port, spec.source_port);
    set(&mut keys.health_checks, spec.health_checks);
    set(&mut keys.header_timeout, Time(spec.timeouts.header));
    set(&mut keys.connect_timeout, Time(spec.timeouts.connect));
    set(&mut keys.idle_timeout, TimeOrOff(spec.timeouts.idle));
    set(&mut keys.half_closed_timeout, TimeOrOff(spec.timeouts.half_closed));
    set(&mut keys.tcp_user_timeout, TimeOrOff(spec.timeouts.tcp_user));
    set(&mut keys.keepalive, Probing(spec.timeouts.keepalive));

    if spec.protocol == ProtocolArg::Tcp {
        set_some(&mut keys.max_sessions_per_listener, spec.limits.per_listener);
        set_some(&mut keys.max_sessions_per_balancer, spec.limits.per_balancer);
        set_some(&mut keys.max_sessions_per_client, spec.limits.per_client);
        set_some(&mut keys.max_sessions_per_client_network, spec.limits.per_client_network);
        set(&mut keys.client_networks, spec.limits.client_networks);
        set(&mut keys.new_sessions_per_second, spec.limits.new_sessions_per_second);
        // No larger than what it was read from.
        set_some(&mut keys.max_header_size, u32::try_from(spec.limits.max_header_size).ok().map(Number));
    }
    // Keys of datagrams would be a mistake where connections are served, those of headers where there are none.
    if spec.protocol == ProtocolArg::Udp {
        if spec.source == SourceArg::Header {
            set(&mut keys.udp_header, spec.udp.which);
        }
        set(&mut keys.udp_idle_timeout, Time(spec.udp.idle));
        set_some(&mut keys.udp_max_flows, spec.udp.max_flows);
        set_some(&mut keys.udp_max_flows_per_balancer, spec.udp.max_flows_per_balancer);
        set_some(&mut keys.udp_max_flows_per_network, spec.udp.max_flows_per_network);
        set(&mut keys.udp_io_uring, spec.udp.io_uring);
    }
    TypedService { keys, spot: Spot::Nowhere }
}

fn set<T: Value>(slot: &mut Slot<T>, value: T) {
    slot.set(value, Spot::Nowhere);
}

fn set_some<T: Value>(slot: &mut Slot<T>, value: Option<T>) {
    if let Some(value) = value {
        set(slot, value);
    }
}

fn set_list<T: Scalar>(slot: &mut Slot<List<T>>, values: impl IntoIterator<Item = T>) {
    let values = values.into_iter().map(|value| Setting { value, spot: Spot::Nowhere });
    set(slot, values.collect());
}

/// Ports that follow each other as a range.
fn endpoints(addresses: &[SocketAddr]) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for &address in addresses {
        match endpoints.last_mut() {
            Some(last) if last.last > 0 && last.precedes(address) => last.last = address.port(),
            _ => endpoints.push(endpoint(address)),
        }
    }
    endpoints
}

const fn endpoint(first: SocketAddr) -> Endpoint {
    Endpoint { first, last: first.port() }
}
