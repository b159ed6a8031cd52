//! The command line, through the same slots as a file.

use std::fs;
use std::path::PathBuf;

use super::document;
use super::keys::List;
use super::meaning;
use super::mistake::{Mistake, Mistakes, Sources, Spot};
use super::read::{Typed, TypedService};
use super::scalar::{Endpoint, Name, Number, Scalar, Target, Time, TimeOrOff, UserName, Workers};
use super::slot::{Setting, Slot};
use crate::cli::{RunArgs, SandboxArg, SourcePortArg};
use crate::log::Verbosity;
use crate::resolve::DEFAULT;
use crate::spec::Spec;

/// What flags mean.
pub(crate) fn spec(args: &RunArgs) -> Result<Spec, Mistakes> {
    let mut mistakes = Vec::new();
    let typed = typed(args, &mut mistakes);
    meaning::of(&typed, mistakes, Sources::default(), None, &|path| fs::read_to_string(path))
}

/// The file that means the same, with what differs from the defaults.
pub(crate) fn text(args: &RunArgs) -> Result<String, Mistakes> {
    let mut mistakes = Vec::new();
    let typed = typed(args, &mut mistakes);
    if mistakes.is_empty() {
        return Ok(document::write(&typed));
    }
    Err(Mistakes { mistakes, sources: Sources::default(), file: None })
}

fn typed(args: &RunArgs, mistakes: &mut Vec<Mistake>) -> Typed {
    let mut typed = Typed::default();
    let mut service = TypedService { keys: Default::default(), spot: Spot::Nowhere };
    let keys = &mut service.keys;
    let mut flags = Flags { mistakes };
    let workers = args.workers.and_then(|number| std::num::NonZeroUsize::new(number.into()));
    flags.scalar(&mut typed.global.workers, Workers(workers), "--workers");
    flags.option(&mut typed.global.max_sessions, args.limits.max_sessions, "--max-sessions");
    flags.scalar(&mut typed.global.drain, Time(args.drain), "--drain");

    let verbosity = Verbosity::of(args.quiet, args.verbose);
    flags.scalar(&mut typed.global.verbosity, verbosity, if args.quiet { "--quiet" } else { "--verbose" });

    flags.option(&mut typed.global.log_format, args.eyes.log_format, "--log-format");
    flags.option(&mut typed.global.admin, args.eyes.admin, "--admin");
    flags.option(&mut typed.global.control, args.control.clone(), "--control");
    flags.option(&mut typed.global.deny_state, args.deny_state.clone(), "--deny-state");
    let jail = &args.jail;
    flags.option(&mut typed.global.user, jail.user.clone().map(UserName), "--user");
    let sandbox = if jail.do_not_sandbox { SandboxArg::Off } else { jail.sandbox };
    flags.scalar(&mut typed.global.sandbox, sandbox, "--sandbox");
    flags.scalar(&mut typed.global.sandbox_missing, jail.sandbox_missing, "--sandbox-missing");
    flags.scalar(&mut typed.global.keep_net_admin, jail.keep_net_admin, "--keep-net-admin");

    keys.name.set(Name(DEFAULT.to_owned()), Spot::Nowhere);
    flags.scalar(&mut keys.protocol, args.path.protocol, "--protocol");
    let listen = args.listen.iter().map(|&first| Endpoint { first, last: first.port() });
    list(&mut keys.listen, listen, "--listen");
    flags.scalar(&mut keys.backlog, Number(args.backlog), "--backlog");

    let endpoint = |first: std::net::SocketAddr| Endpoint { first, last: first.port() };
    let (v4, v6) = (args.targets.target_v4, args.targets.target_v6);
    flags.option(&mut keys.target_v4, v4.map(|at| Target(endpoint(at.into()))), "--target-v4");
    flags.option(&mut keys.target_v6, v6.map(|at| Target(endpoint(at.into()))), "--target-v6");
    flags.scalar(&mut keys.target_from_header, args.target_from_header, "--target-from-header");
    list(&mut keys.allow_target, args.allow_target.iter().cloned(), "--allow-target");
    flags.option(&mut keys.target_netns, args.netns.target_netns.clone(), "--target-netns");

    list(&mut keys.allow, args.allow.iter().copied(), "--allow");
    paths(&mut keys.allowed_subnets, &args.allowed_subnets, "--allowed-subnets");
    flags.scalar(&mut keys.source, args.source, "--source");
    list(&mut keys.header, args.header.iter().copied(), "--header");
    list(&mut keys.allow_source, args.allow_source.iter().copied(), "--allow-source");
    let clients = &args.clients;
    list(&mut keys.allow_client, clients.allow_client.iter().copied(), "--allow-client");
    paths(&mut keys.allow_client_file, &clients.allow_client_file, "--allow-client-file");
    list(&mut keys.deny_client, clients.deny_client.iter().copied(), "--deny-client");
    paths(&mut keys.deny_client_file, &clients.deny_client_file, "--deny-client-file");

    flags.scalar(&mut keys.return_path, args.path.return_path, "--return-path");
    flags.scalar(&mut keys.routing, args.routing, "--routing");
    flags.scalar(&mut keys.mark, args.path.mark, "--mark");
    flags.scalar(&mut keys.table, args.path.table, "--table");
    flags.scalar(&mut keys.priority, args.path.priority, "--priority");

    flags.scalar(&mut keys.listen_transparent, args.listen_transparent, "--listen-transparent");
    list(&mut keys.tproxy_ports, args.tproxy.tproxy_ports.iter().copied(), "--tproxy-ports");
    flags.scalar(&mut keys.tproxy_mark, args.tproxy.tproxy_mark, "--tproxy-mark");
    flags.scalar(&mut keys.tproxy_table, args.tproxy.tproxy_table, "--tproxy-table");

    let source_port = if args.force_real_client_port { SourcePortArg::Keep } else { args.source_port };
    flags.scalar(&mut keys.source_port, source_port, "--source-port");
    flags.scalar(&mut keys.health_checks, args.health_checks, "--health-checks");
    let time = args.header_timeout;
    flags.scalar(&mut keys.header_timeout, Time(time), "--header-timeout");
    let time = args.connect_timeout;
    flags.scalar(&mut keys.connect_timeout, Time(time), "--connect-timeout");
    let time = TimeOrOff(args.idle_timeout.0);
    flags.scalar(&mut keys.idle_timeout, time, "--idle-timeout");
    let time = TimeOrOff(args.half_closed_timeout.0);
    flags.scalar(&mut keys.half_closed_timeout, time, "--half-closed-timeout");
    let time = TimeOrOff(args.tcp_user_timeout.0);
    flags.scalar(&mut keys.tcp_user_timeout, time, "--tcp-user-timeout");
    flags.scalar(&mut keys.keepalive, args.keepalive, "--keepalive");

    let limits = args.limits;
    let per_listener = limits.max_sessions_per_listener;
    flags.option(&mut keys.max_sessions_per_listener, per_listener, "--max-sessions-per-listener");
    let per_balancer = limits.max_sessions_per_balancer;
    flags.option(&mut keys.max_sessions_per_balancer, per_balancer, "--max-sessions-per-balancer");
    let per_client = limits.max_sessions_per_client;
    flags.option(&mut keys.max_sessions_per_client, per_client, "--max-sessions-per-client");
    let per_network = limits.max_sessions_per_client_network;
    flags.option(&mut keys.max_sessions_per_client_network, per_network, "--max-sessions-per-client-network");
    flags.option(&mut keys.client_networks, limits.client_networks, "--client-networks");
    let rate = limits.new_sessions_per_second;
    flags.option(&mut keys.new_sessions_per_second, rate, "--new-sessions-per-second");
    flags.option(&mut keys.max_header_size, limits.max_header_size.map(Number), "--max-header-size");

    let udp = args.udp;
    flags.option(&mut keys.udp_header, udp.udp_header, "--udp-header");
    flags.option(&mut keys.udp_idle_timeout, udp.udp_idle_timeout.map(Time), "--udp-idle-timeout");
    flags.option(&mut keys.udp_max_flows, udp.udp_max_flows, "--udp-max-flows");
    let per_balancer = udp.udp_max_flows_per_balancer;
    flags.option(&mut keys.udp_max_flows_per_balancer, per_balancer, "--udp-max-flows-per-balancer");
    let per_network = udp.udp_max_flows_per_network;
    flags.option(&mut keys.udp_max_flows_per_network, per_network, "--udp-max-flows-per-network");
    flags.option(&mut keys.udp_io_uring, udp.udp_io_uring, "--udp-io-uring");

    typed.services.push(service);
    typed
}

/// Puts flags into slots and collects their mistakes.
struct Flags<'a> {
    mistakes: &'a mut Vec<Mistake>,
}

impl Flags<'_> {
    /// A flag that always has a value. The default is left out, as an operator would.
    fn scalar<T: Scalar>(&mut self, slot: &mut Slot<T>, value: T, flag: &'static str) {
        let same = slot.default().is_some_and(|default| default.text() == value.text());
        if !same {
            slot.flag(&value, flag, self.mistakes);
        }
    }

    fn option<T: Scalar>(&mut self, slot: &mut Slot<T>, value: Option<T>, flag: &'static str) {
        if let Some(value) = value {
            slot.flag(&value, flag, self.mistakes);
        }
    }
}

/// A flag that may be repeated.
fn list<T: Scalar>(slot: &mut Slot<List<T>>, values: impl Iterator<Item = T>, flag: &'static str) {
    let values: List<T> = values.map(|value| Setting { value, spot: Spot::Flag(flag) }).collect();
    if !values.is_empty() {
        slot.set(values, Spot::Flag(flag));
    }
}

/// Files. Not through their text: a path need not have one.
fn paths(slot: &mut Slot<List<PathBuf>>, paths: &[PathBuf], flag: &'static str) {
    if !paths.is_empty() {
        let setting = |path: &PathBuf| Setting { value: path.clone(), spot: Spot::Flag(flag) };
        slot.set(paths.iter().map(setting).collect(), Spot::Flag(flag));
    }
}
