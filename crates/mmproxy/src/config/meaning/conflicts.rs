//! What services must not have in common.

use std::collections::HashSet;

use mmproxy_routing::{Mark, Table};

use super::Meaning;
use crate::config::mistake::{Mistake, Spot};
use crate::config::read::TypedService;
use crate::config::scalar::Scalar;
use crate::config::slot::Slot;
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
        if !told_apart(first.mark, second.mark) && first.table != second.table {
            mistakes.push(collision("replies would be looked up in the wrong table", &first, &second));
        }
    }
    // What comes in is handed over in this host's namespace, which may be the targets', too.
    for (way_in, back) in [(one, other), (other, one)] {
        let Some(way_in) = arrivals(way_in).filter(|_| back.keys.target_netns.is_absent()) else { continue };
        let back = replies(back);
        if !told_apart(way_in.mark, back.mark) || way_in.table == back.table {
            mistakes.push(collision("what comes in would be taken for a reply", &back, &way_in));
        }
    }
    if let (Some(first), Some(second)) = (arrivals(one), arrivals(other))
        && !told_apart(first.mark, second.mark)
        && first.table != second.table
    {
        mistakes.push(collision("what comes in would be looked up in the wrong table", &first, &second));
    }
}

/// A mark, the table it leads to, and where either was written.
struct Path {
    what: &'static str,
    mark: Mark,
    table: Table,
    spot: Spot,
}

fn replies(service: &TypedService) -> Path {
    path("replies", &service.keys.mark, &service.keys.table, service)
}

/// Of services that have any.
fn arrivals(service: &TypedService) -> Option<Path> {
    let keys = &service.keys;
    let ports = keys.tproxy_ports.given()?;
    (!ports.value.is_empty()).then(|| path("what comes in", &keys.tproxy_mark, &keys.tproxy_table, service))
}

fn path(what: &'static str, mark: &Slot<Mark>, table: &Slot<Table>, service: &TypedService) -> Path {
    let spot = super::first(&[table.spot(), mark.spot(), service.keys.name.spot(), service.spot.clone()]);
    Path { what, mark: mark.value(), table: table.value(), spot }
}

fn collision(cause: &str, first: &Path, second: &Path) -> Mistake {
    let said = |path: &Path| format!("mark {} and table {} for {}", path.mark.text(), path.table, path.what);
    Mistake::new(
        format!("marks or tables of two services collide: {cause}"),
        second.spot.clone(),
        said(second),
    )
    .beside(first.spot.clone(), said(first))
    .help("give both services the same mark and table, or marks and tables that all differ")
}
