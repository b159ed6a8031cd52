//! The status as tables.

use std::fmt;
use std::time::Duration;

use crate::control::{ServiceStatus, Status};
use crate::metrics::{ServiceSnapshot, Snapshot};
use crate::table::Table;
use crate::units::{size, time};

/// A status for people: two looks, so that there are rates.
pub(super) struct Shown<'a> {
    pub(super) before: &'a Status,
    pub(super) after: &'a Status,
    pub(super) between: Duration,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { version, pid, uptime_s, services, workers, counted } = self.after;
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
            &[
                "SERVICE",
                "LISTENS ON",
                "TARGETS",
                "LIVE",
                "OPENED",
                "PER S",
                "REFUSED",
                "UP",
                "PER S",
                "DOWN",
                "PER S",
            ],
            &[3, 4, 5, 6, 7, 8, 9, 10],
        );
        for service in services {
            let of = |status: &Status| {
                Figures::of(service, status.counted.services.get(&service.name).unwrap_or(&empty))
            };
            table.row(row(service, (of(self.before), of(self.after)), self.between, counted));
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

/// What rates are made of.
struct Figures {
    live: u64,
    opened: u64,
    refused: u64,
    up: u64,
    down: u64,
}

impl Figures {
    fn of(service: &ServiceStatus, counted: &ServiceSnapshot) -> Self {
        let (live, opened) = if service.protocol == "udp" {
            (counted.flows_active(), counted.flows_opened)
        } else {
            (counted.active(), counted.opened)
        };
        let bytes = |direction: &str| {
            counted
                .bytes
                .iter()
                .filter(|(label, _)| label.starts_with(direction))
                .map(|(_, bytes)| bytes)
                .sum()
        };
        Self {
            live,
            opened,
            refused: counted.refused.values().chain(counted.dropped.values()).sum(),
            up: bytes("up"),
            down: bytes("down"),
        }
    }
}

fn row(
    service: &ServiceStatus,
    (before, after): (Figures, Figures),
    between: Duration,
    counted: &Snapshot,
) -> [String; 11] {
    let known = counted.services.get(&service.name);
    let targets =
        service.targets.iter().map(|target| match known.and_then(|known| known.targets.get(target)) {
            Some(true) => format!("{target} up"),
            Some(false) => format!("{target} DOWN"),
            None => target.clone(),
        });
    let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / between.as_secs_f64();
    [
        service.name.clone(),
        format!("{} {}", service.protocol, service.listen.join(" ")),
        targets.collect::<Vec<_>>().join(" "),
        after.live.to_string(),
        after.opened.to_string(),
        format!("{:.0}", rate(before.opened, after.opened)),
        after.refused.to_string(),
        size(after.up),
        size(rate(before.up, after.up) as u64),
        size(after.down),
        size(rate(before.down, after.down) as u64),
    ]
}
