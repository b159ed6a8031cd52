//! What services must not have in common.

use std::collections::HashSet;
use std::net::IpAddr;

use mmproxy_routing::{Mark, Table};

use super::Meaning;
use crate::cli::{ProtocolArg, ReturnPathMode, Routing};
use crate::config::mistake::{Mistake, Spot};
use crate::config::read::TypedService;
use crate::config::scalar::Scalar;
use crate::spec::ServiceSpec;
use crate::way_in::told_apart;

/// Looks at each service beside those before it.
pub(super) fn find(services: &[TypedService], meaning: &mut Meaning<'_>) {
    let mut mistakes = Vec::new();
    for (index, service) in services.iter().enumerate() {
        listeners_of_one(service, &mut mistakes);
        for before in &services[..index] {
            names(before, service, &mut mistakes);
            listeners(before, service, &mut mistakes);
            return_paths(before, service, &mut mistakes);
        }
    }
    meaning.mistakes.append(&mut mistakes);
}

fn names(one: &TypedService, other: &TypedService, mistakes: &mut Vec<Mistake>) {
    let (Some(one), Some(other)) = (one.keys.name.given(), other.keys.name.given()) else { return };
    if one.value == other.value {
        let title = format!("two services have the name `{}`", other.value.0);
        let mistake = Mistake::new(title, other.spot.clone(), "and here").beside(one.spot.clone(), "here");
        mistakes.push(mistake.help("logs and metrics tell services apart by their names: choose another"));
    }
}

/// The services that each port of a range became have names that no other may have.
pub(super) fn names_of_ports(services: &[ServiceSpec], meaning: &mut Meaning<'_>) {
    let mut seen = HashSet::new();
    for service in services.iter().filter(|service| !seen.insert(service.name.as_str())) {
        // Services of one name as they were typed have been found.
        if meaning.mistakes.is_empty() {
            let title = format!("two services have the name `{}`", service.name);
            let mistake = Mistake::new(title, Spot::Nowhere, "it is the name of one port of a range, too");
            meaning.mistakes.push(mistake.help("call the service something else"));
        }
    }
}

/// An address and port has one listener for each protocol.
fn listeners(one: &TypedService, other: &TypedService, mistakes: &mut Vec<Mistake>) {
    if one.keys.protocol.value() != other.keys.protocol.value() {
        return;
    }
    let (Some(ones), Some(others)) = (one.keys.listen.given(), other.keys.listen.given()) else { return };
    for second in &others.value {
        if let Some(first) = ones.value.iter().find(|first| first.value.overlaps(second.value)) {
            mistakes.push(twice(&first.spot, first.value.text(), &second.spot));
        }
    }
}

fn listeners_of_one(service: &TypedService, mistakes: &mut Vec<Mistake>) {
    let Some(listen) = service.keys.listen.given() else { return };
    for (index, second) in listen.value.iter().enumerate() {
        if let Some(first) = listen.value[..index].iter().find(|first| first.value.overlaps(second.value)) {
            mistakes.push(twice(&first.spot, first.value.text(), &second.spot));
        }
    }
}

fn twice(first: &Spot, address: String, second: &Spot) -> Mistake {
    Mistake::new(format!("{address} is listened on twice"), second.clone(), "listened on again here")
        .beside(first.clone(), "listened on here")
}

/// Services whose targets are in the same network namespace share marks and tables only if they mean the same by them.
fn return_paths(one: &TypedService, other: &TypedService, mistakes: &mut Vec<Mistake>) {
    if one.keys.target_netns.get() == other.keys.target_netns.get() {
        let (first, second) = (replies(one), replies(other));
        if first.mixes_marks(&second) && first.table != second.table {
            mistakes.push(
                collision("replies would be looked up in the wrong table", &first, &second).help(SAME_OR_NOT),
            );
        }
        if first.table == second.table && first.route.differs(&second.route) {
            mistakes.push(
                collision("one table cannot have both of their routes", &first, &second)
                    .help("give one of the services a table of its own, such as `table = 102`"),
            );
        }
    }
    // What comes in is handed over in this host's namespace, which may be the targets', too.
    for (way_in, back) in [(one, other), (other, one)] {
        let Some(way_in) = arrivals(way_in).filter(|_| back.keys.target_netns.is_absent()) else { continue };
        let back = replies(back);
        if way_in.mixes_marks(&back) || way_in.table == back.table {
            mistakes.push(
                collision("what comes in would be taken for a reply", &back, &way_in)
                    .help("choose marks and tables that all differ"),
            );
        }
    }
    if let (Some(first), Some(second)) = (arrivals(one), arrivals(other))
        && first.mixes_marks(&second)
        && first.table != second.table
    {
        mistakes.push(
            collision("what comes in would be looked up in the wrong table", &first, &second)
                .help(SAME_OR_NOT),
        );
    }
}

/// What looks packets up in a table, and where that was written.
struct Path {
    what: &'static str,
    /// `None` where packets are not known by a mark.
    mark: Option<Mark>,
    table: Table,
    route: Route,
    spot: Spot,
}

/// The source address that the route of a table gives, for IPv4 and for IPv6, where it is known before the start: the
/// mode `port` gives the target's, the others give none.
#[derive(Clone, Copy, Default)]
struct Route {
    v4: Option<Option<IpAddr>>,
    v6: Option<Option<IpAddr>>,
}

impl Path {
    fn mixes_marks(&self, other: &Self) -> bool {
        matches!((self.mark, other.mark), (Some(one), Some(other)) if !told_apart(one, other))
    }

    fn said(&self) -> String {
        let mark = self.mark.map(|mark| format!("mark {} and ", mark.text())).unwrap_or_default();
        format!("{mark}table {} for {}", self.table, self.what)
    }
}

impl Route {
    fn differs(&self, other: &Self) -> bool {
        let differ = |one: Option<_>, other: Option<_>| one.is_some() && other.is_some() && one != other;
        differ(self.v4, other.v4) || differ(self.v6, other.v6)
    }
}

fn replies(service: &TypedService) -> Path {
    let keys = &service.keys;
    let v4 = keys.target_v4.get().map(|target| target.0.first.ip());
    let v6 = keys.target_v6.get().map(|target| target.0.first.ip());
    let none = |target: Option<IpAddr>| target.map(|_| None);
    let (marked, route) = match (keys.return_path.value(), keys.protocol.value()) {
        (ReturnPathMode::Port, _) => (false, Route { v4: v4.map(Some), v6: v6.map(Some) }),
        // Whether a target elsewhere is one of this host's addresses is for the start to find out.
        (ReturnPathMode::Auto, ProtocolArg::Udp) => {
            let inside = !keys.target_netns.is_absent();
            let ours = |target: Option<IpAddr>| target.filter(|ip| inside || ip.is_loopback()).map(Some);
            (false, Route { v4: ours(v4), v6: ours(v6) })
        }
        (ReturnPathMode::Source, _) => (false, Route { v4: none(v4), v6: none(v6) }),
        (ReturnPathMode::Auto, ProtocolArg::Tcp)
        | (ReturnPathMode::Fwmark | ReturnPathMode::Connmark | ReturnPathMode::Socket, _) => {
            (true, Route { v4: none(v4), v6: none(v6) })
        }
    };
    let route = if keys.routing.value() == Routing::Off { Route::default() } else { route };
    let spot = place(&[keys.table.spot(), keys.mark.spot()], service);
    Path { what: "replies", mark: marked.then(|| keys.mark.value()), table: keys.table.value(), route, spot }
}

/// Of services that have any.
fn arrivals(service: &TypedService) -> Option<Path> {
    let keys = &service.keys;
    let ports = keys.tproxy_ports.given()?;
    (!ports.value.is_empty()).then(|| Path {
        what: "what comes in",
        mark: Some(keys.tproxy_mark.value()),
        table: keys.tproxy_table.value(),
        route: Route::default(),
        spot: place(&[keys.tproxy_table.spot(), keys.tproxy_mark.spot()], service),
    })
}

fn place(spots: &[Spot], service: &TypedService) -> Spot {
    super::first(&[spots, &[service.keys.name.spot(), service.spot.clone()]].concat())
}

fn collision(cause: &str, first: &Path, second: &Path) -> Mistake {
    let title = format!("marks or tables of two services collide: {cause}");
    Mistake::new(title, second.spot.clone(), second.said()).beside(first.spot.clone(), first.said())
}

const SAME_OR_NOT: &str = "give both services the same mark and table, or marks and tables that all differ";
