//! What was typed, as meant: files of networks read, defaults applied, ranges written out, contradictions found.

mod allowed;
mod conflicts;
mod headers;
mod targets;

use std::path::Path;

use self::targets::Targets;
use super::ReadList;
use super::keys::{GlobalKeys, List, ServiceKeys};
use super::mistake::{Mistake, Mistakes, Sources, Spot};
use super::read::{Typed, TypedService};
use super::scalar::{Endpoint, Scalar as _, UserName};
use super::slot::{AnySlot as _, Slot, Value};
use crate::cli::{HealthCheckArg, KEEP, ProtocolArg};
use crate::jail::UserSpec;
use crate::spec::{
    Global, JailSpec, LimitsSpec, ReturnPathSpec, ServiceSpec, Spec, TargetsSpec, Timeouts, TproxySpec,
    UdpSpec,
};
use crate::way_in;
use crate::worker::available_cores;

/// Makes a [`Spec`] of what was typed, unless there are `mistakes` already or some are found.
///
/// `file` is what was to be loaded; `None` where flags were typed.
pub(super) fn of(
    typed: &Typed,
    mistakes: Vec<Mistake>,
    sources: Sources,
    file: Option<&Path>,
    lists: &ReadList,
) -> Result<Spec, Mistakes> {
    let mut meaning = Meaning { mistakes, sources, flags: file.is_none(), lists };
    if typed.services.is_empty() && meaning.mistakes.is_empty() {
        let mistake = Mistake::new("nothing is served", Spot::Nowhere, "there is no [[service]]");
        meaning.mistakes.push(mistake.help("`mmproxy config example` shows one"));
    }
    conflicts::find(&typed.services, &mut meaning);
    meaning.max_sessions(typed);
    let jail = meaning.jail(&typed.global);
    let services: Vec<Option<Vec<ServiceSpec>>> =
        typed.services.iter().map(|service| meaning.service(service)).collect();
    let services: Option<Vec<ServiceSpec>> = services
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .map(|services| services.into_iter().flatten().collect());
    conflicts::names_of_ports(services.as_deref().unwrap_or_default(), &mut meaning);
    let Meaning { mut mistakes, sources, .. } = meaning;
    match services.zip(jail) {
        Some((services, jail)) if mistakes.is_empty() => Ok(Spec {
            global: Global {
                workers: typed.global.workers.value().0.unwrap_or_else(available_cores),
                max_sessions: typed.global.max_sessions.get(),
                drain: typed.global.drain.value().0,
                verbosity: typed.global.verbosity.value(),
                jail,
                log_format: typed.global.log_format.get(),
                admin: typed.global.admin.get(),
                control: typed.global.control.get(),
                deny_state: typed.global.deny_state.get(),
            },
            services,
        }),
        _ => {
            mistakes.sort_by_key(Mistake::place);
            Err(Mistakes { mistakes, sources, file: file.map(Path::to_owned) })
        }
    }
}

/// What is found out on the way.
struct Meaning<'a> {
    mistakes: Vec<Mistake>,
    sources: Sources,
    /// Whether keys are called by the names of flags.
    flags: bool,
    lists: &'a ReadList,
}

impl Meaning<'_> {
    /// Where no connections are served, nothing is limited.
    fn max_sessions(&mut self, typed: &Typed) {
        let none = typed.services.iter().all(|service| service.keys.protocol.value() == ProtocolArg::Udp);
        let Some(place) = typed.global.max_sessions.place().filter(|_| none && !typed.services.is_empty())
        else {
            return;
        };
        self.about_connections("max-sessions", place);
    }

    fn about_connections(&mut self, key: &str, place: Spot) {
        let title = format!("{} is about connections, and datagrams are served", self.called(key));
        let mistake = Mistake::new(title, place, "datagrams are served");
        self.mistakes
            .push(mistake.help(format!("{} and its like limit flows", self.called("udp-max-flows"))));
    }

    /// What workers are kept from. `None` where there is no such user.
    fn jail(&mut self, keys: &GlobalKeys) -> Option<JailSpec> {
        let user = match keys.user.get() {
            None => UserSpec::by_default(),
            Some(UserName(keep)) if keep == KEEP => None,
            Some(UserName(user)) => match UserSpec::find(&user) {
                Ok(user) => Some(user),
                Err(error) => {
                    let mistake = Mistake::new(error.to_string(), keys.user.spot(), "nobody of that name");
                    self.mistakes.push(
                        mistake.in_file().help(format!("{} keep changes no user", self.called("user"))),
                    );
                    return None;
                }
            },
        };
        Some(JailSpec {
            user,
            sandbox: keys.sandbox.value().sandbox(),
            may_lack: keys.sandbox_missing.value().may_lack(),
            keep_net_admin: keys.keep_net_admin.value(),
        })
    }

    /// One service; several where each port has a target of its own. `None` after a mistake.
    fn service(&mut self, typed: &TypedService) -> Option<Vec<ServiceSpec>> {
        let keys = &typed.keys;
        let before = self.mistakes.len();
        self.required(&keys.name, "name", typed);
        self.required(&keys.listen, "listen", typed);
        if let Some(listen) = keys.listen.given().filter(|listen| listen.value.is_empty()) {
            let mistake = Mistake::new("this service listens nowhere", listen.spot.clone(), "an empty list");
            self.mistakes.push(mistake.help(format!("expected {}", List::<Endpoint>::expected())));
        }
        self.protocol(keys);
        self.headers(keys);
        self.way_in(keys);
        let allowed = self.allowed(typed);
        let clients = self.clients(keys);
        let targets = self.targets(typed);
        if self.mistakes.len() > before {
            return None;
        }
        let name = keys.name.given()?.value.0.clone();
        let endpoints: Vec<_> = keys.listen.given()?.value.iter().map(|setting| setting.value).collect();
        let spec = ServiceSpec {
            name,
            protocol: keys.protocol.value(),
            listen: endpoints.iter().flat_map(|endpoint| endpoint.addresses()).collect(),
            backlog: keys.backlog.value().0,
            listen_transparent: keys.listen_transparent.value(),
            tproxy: TproxySpec {
                ports: values(&keys.tproxy_ports),
                mark: keys.tproxy_mark.value(),
                table: keys.tproxy_table.value(),
            },
            source: keys.source.value(),
            headers: headers::accepted(keys),
            allowed: allowed?,
            clients: clients?,
            allow_source: values(&keys.allow_source),
            source_port: keys.source_port.value(),
            targets: TargetsSpec { v4: None, v6: None, from_header: None },
            target_netns: keys.target_netns.get(),
            return_path: ReturnPathSpec {
                mode: keys.return_path.value(),
                routing: keys.routing.value(),
                mark: keys.mark.value(),
                table: keys.table.value(),
                priority: keys.priority.value(),
            },
            health_checks: keys.health_checks.value(),
            timeouts: Timeouts {
                header: keys.header_timeout.value().0,
                connect: keys.connect_timeout.value().0,
                idle: keys.idle_timeout.value().0,
                half_closed: keys.half_closed_timeout.value().0,
                tcp_user: keys.tcp_user_timeout.value().0,
                keepalive: keys.keepalive.value().0,
            },
            limits: limits(keys),
            udp: UdpSpec {
                which: keys.udp_header.value(),
                idle: keys.udp_idle_timeout.value().0,
                max_flows: keys.udp_max_flows.get(),
                max_flows_per_balancer: keys.udp_max_flows_per_balancer.get(),
                max_flows_per_network: keys.udp_max_flows_per_network.get(),
                io_uring: keys.udp_io_uring.value(),
            },
        };
        Some(match targets? {
            Targets::Same(targets) => vec![ServiceSpec { targets, ..spec }],
            Targets::ByPort(of_port) => spread(&spec, &endpoints, &of_port),
        })
    }

    fn required<T: Value>(&mut self, slot: &Slot<T>, key: &'static str, of: &TypedService) {
        if slot.is_absent() {
            let mistake = Mistake::new(
                format!("{} is missing", self.called(key)),
                of.spot.clone(),
                format!("this service has no `{key}`"),
            );
            self.mistakes.push(mistake.help(format!("expected {}", T::expected())));
        }
    }

    /// The two protocols share most keys; what makes no sense for one is refused.
    fn protocol(&mut self, keys: &ServiceKeys) {
        match keys.protocol.value() {
            ProtocolArg::Tcp => {
                let datagrams = [
                    ("udp-header", keys.udp_header.place()),
                    ("udp-idle-timeout", keys.udp_idle_timeout.place()),
                    ("udp-max-flows", keys.udp_max_flows.place()),
                    ("udp-max-flows-per-balancer", keys.udp_max_flows_per_balancer.place()),
                    ("udp-max-flows-per-network", keys.udp_max_flows_per_network.place()),
                    ("udp-io-uring", keys.udp_io_uring.place()),
                ];
                for (key, place) in datagrams {
                    let Some(place) = place else { continue };
                    let cure = if self.flags {
                        "add -p udp, or leave the flag out"
                    } else {
                        "add `protocol = \"udp\"`, or leave the key out"
                    };
                    let title =
                        format!("{} is about datagrams, and connections are served", self.called(key));
                    self.mistakes.push(Mistake::new(title, place, "connections are served").help(cure));
                }
            }
            ProtocolArg::Udp => self.datagrams(keys),
        }
    }

    fn datagrams(&mut self, keys: &ServiceKeys) {
        if keys.health_checks.value() == HealthCheckArg::Answer {
            let title = format!(
                "{} answer answers connections, and datagrams are served",
                self.called("health-checks")
            );
            let mistake = Mistake::new(title, keys.health_checks.spot(), "datagrams are served");
            self.mistakes.push(mistake.help("let datagrams pass, or refuse them"));
        }
        let connections = [
            ("max-sessions-per-listener", keys.max_sessions_per_listener.place()),
            ("max-sessions-per-balancer", keys.max_sessions_per_balancer.place()),
            ("max-sessions-per-client", keys.max_sessions_per_client.place()),
            ("max-sessions-per-client-network", keys.max_sessions_per_client_network.place()),
            ("client-networks", keys.client_networks.place()),
            ("new-sessions-per-second", keys.new_sessions_per_second.place()),
            ("max-header-size", keys.max_header_size.place()),
        ];
        for (key, place) in connections {
            if let Some(place) = place {
                self.about_connections(key, place);
            }
        }
        let each_port = if self.flags { "listen on each port with -l" } else { "name each port in `listen`" };
        if keys.listen_transparent.value() {
            let title = format!(
                "{} is for connections: a reply could not leave from the port that a datagram was sent to",
                self.called("listen-transparent")
            );
            let spot = keys.listen_transparent.spot();
            self.mistakes.push(Mistake::new(title, spot, "datagrams are served").help(each_port));
        }
        if !values(&keys.tproxy_ports).is_empty() {
            let title =
                format!("{} is for connections, and datagrams are served", self.called("tproxy-ports"));
            let spot = keys.tproxy_ports.spot();
            self.mistakes.push(Mistake::new(title, spot, "datagrams are served").help(each_port));
        }
    }

    /// Where mark or table are the return path's, what is on its way in would be taken for a reply, or the other way
    /// round.
    fn way_in(&mut self, keys: &ServiceKeys) {
        if values(&keys.tproxy_ports).is_empty() {
            return;
        }
        let (ours, theirs) = (keys.tproxy_mark.value(), keys.mark.value());
        if !way_in::told_apart(ours, theirs) {
            let title = format!(
                "{} {} and {} {} are not told apart",
                self.called("tproxy-mark"),
                ours.text(),
                self.called("mark"),
                theirs.text()
            );
            let spot = first(&[keys.tproxy_mark.spot(), keys.mark.spot(), keys.tproxy_ports.spot()]);
            let mistake = Mistake::new(title, spot, "not told apart from the other mark");
            self.mistakes.push(mistake.help("choose numbers that differ in a bit which both masks have"));
        }
        if keys.tproxy_table.value() == keys.table.value() {
            let title = format!(
                "{} {} is the return path's {}",
                self.called("tproxy-table"),
                keys.table.value(),
                self.called("table")
            );
            let spot = first(&[keys.tproxy_table.spot(), keys.table.spot(), keys.tproxy_ports.spot()]);
            let mistake = Mistake::new(title, spot, "both would be looked up in one table");
            self.mistakes.push(mistake.help("choose two different tables"));
        }
    }

    /// What whoever typed it calls a key.
    fn called(&self, key: &str) -> String {
        if self.flags { format!("--{key}") } else { format!("`{key}`") }
    }
}

fn limits(keys: &ServiceKeys) -> LimitsSpec {
    LimitsSpec {
        per_listener: keys.max_sessions_per_listener.get(),
        per_balancer: keys.max_sessions_per_balancer.get(),
        per_client: keys.max_sessions_per_client.get(),
        per_client_network: keys.max_sessions_per_client_network.get(),
        client_networks: keys.client_networks.value(),
        new_sessions_per_second: keys.new_sessions_per_second.value(),
        max_header_size: keys.max_header_size.value().0 as usize,
    }
}

/// One service for each port, named after it.
fn spread(spec: &ServiceSpec, endpoints: &[Endpoint], of_port: &[TargetsSpec]) -> Vec<ServiceSpec> {
    let at = |index: usize| endpoints.iter().filter_map(move |endpoint| endpoint.addresses().nth(index));
    let services = of_port.iter().enumerate().map(|(index, targets)| {
        let listen: Vec<_> = at(index).collect();
        let port = listen.first().map_or(0, std::net::SocketAddr::port);
        ServiceSpec {
            name: format!("{}:{port}", spec.name),
            listen,
            targets: targets.clone(),
            ..spec.clone()
        }
    });
    services.collect()
}

/// The values of a list, which may be absent.
fn values<T: Clone>(slot: &Slot<List<T>>) -> Vec<T>
where
    List<T>: Value,
{
    slot.get().unwrap_or_default().into_iter().map(|setting| setting.value).collect()
}

/// The first that is a place.
fn first(spots: &[Spot]) -> Spot {
    spots.iter().find(|spot| **spot != Spot::Nowhere).cloned().unwrap_or(Spot::Nowhere)
}
