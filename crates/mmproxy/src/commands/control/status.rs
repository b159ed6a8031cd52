//! The status as tables.

use std::fmt;

use crate::control::{ServiceStatus, Status};
use crate::metrics::ServiceSnapshot;
use crate::table::Table;
use crate::units::{size, time};

/// A status for people.
pub(super) struct Shown<'a>(pub(super) &'a Status);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { version, pid, uptime_s, services, workers, counted } = self.0;
        writeln!(f, "mmproxy {version}, process {pid}, up {}", time(*uptime_s))?;
        let alive: Vec<String> = workers
            .iter()
            .map(|worker| format!("{} ({}, process {})", worker.worker, worker.state, worker.pid))
            .collect();
        writeln!(f, "workers: {}; ended by themselves: {}", alive.join(", "), counted.worker_restarts)?;
        let reloads: Vec<String> =
            counted.reloads.iter().map(|(outcome, times)| format!("{times} {outcome}")).collect();
        writeln!(f, "reloads: {}", reloads.join(", "))?;
        for (place, intact) in &counted.return_path {
            writeln!(f, "return path ({place}): {}", if *intact { "intact" } else { "BROKEN" })?;
        }
        let empty = ServiceSnapshot::default();
        let mut table = Table::new(
            &["SERVICE", "LISTENS ON", "TARGETS", "LIVE", "OPENED", "REFUSED", "UP", "DOWN"],
            &[3, 4, 5, 6, 7],
        );
        for service in services {
            table.row(row(service, counted.services.get(&service.name).unwrap_or(&empty)));
        }
        write!(f, "\n{table}")?;
        let mut refusals = Table::new(&["SERVICE", "REFUSED BECAUSE", "TIMES"], &[2]);
        let mut any = false;
        for (name, counted) in &counted.services {
            let reasons = counted.refused.iter().chain(&counted.dropped).filter(|(_, times)| **times > 0);
            for (reason, times) in reasons {
                any = true;
                refusals.row([name.clone(), reason.clone(), times.to_string()]);
            }
        }
        if any { write!(f, "\n\n{refusals}") } else { Ok(()) }
    }
}

fn row(service: &ServiceStatus, counted: &ServiceSnapshot) -> [String; 8] {
    let targets = service.targets.iter().map(|target| match counted.targets.get(target) {
        Some(true) => format!("{target} up"),
        Some(false) => format!("{target} DOWN"),
        None => target.clone(),
    });
    let datagrams = service.protocol == "udp";
    let (live, opened) = if datagrams {
        (counted.flows_active(), counted.flows_opened)
    } else {
        (counted.active(), counted.opened)
    };
    let refused: u64 = counted.refused.values().chain(counted.dropped.values()).sum();
    let bytes = |direction: &str| {
        counted.bytes.iter().filter(|(label, _)| label.starts_with(direction)).map(|(_, bytes)| bytes).sum()
    };
    [
        service.name.clone(),
        format!("{} {}", service.protocol, service.listen.join(" ")),
        targets.collect::<Vec<_>>().join(" "),
        live.to_string(),
        opened.to_string(),
        refused.to_string(),
        size(bytes("up")),
        size(bytes("down")),
    ]
}
