//! The status as tables.

use std::fmt;

use crate::control::{ServiceStatus, Status};
use crate::metrics::ServiceSnapshot;
use crate::table::Table;

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

/// Seconds, in the two largest units.
pub(in crate::commands) fn time(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Bytes, in binary units.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_short() {
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3660, "1 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(time(seconds), text);
        }
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB"), (u64::MAX, "16384.0 PiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
