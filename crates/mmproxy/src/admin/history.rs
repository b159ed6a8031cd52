//! The last minutes, for charts.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::metrics::{ServiceSnapshot, Snapshot};

/// Rates of each service, one for each [`EVERY`], as long as [`KEPT`] of them.
#[derive(Debug, Default)]
pub(super) struct History {
    before: Option<(Instant, BTreeMap<String, Sums>)>,
    rates: BTreeMap<String, VecDeque<Rates>>,
}

/// What happened in a second of one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// Sessions or flows that began.
    pub(super) opened: f64,
    /// Sessions refused and datagrams dropped.
    pub(super) refused: f64,
    pub(super) bytes_up: f64,
    pub(super) bytes_down: f64,
    /// Sessions and flows that lived at its end; no rate.
    pub(super) active: f64,
}

/// Counters whose growth is a rate.
#[derive(Clone, Copy, Debug)]
struct Sums {
    opened: u64,
    refused: u64,
    up: u64,
    down: u64,
}

impl History {
    /// Remembers what was counted at `now`.
    pub(super) fn note(&mut self, snapshot: &Snapshot, now: Instant) {
        let sums: BTreeMap<_, _> =
            snapshot.services.iter().map(|(name, service)| (name.clone(), Sums::of(service))).collect();
        if let Some((then, before)) = &self.before {
            let seconds = now.saturating_duration_since(*then).as_secs_f64();
            if seconds <= 0.0 {
                return;
            }
            // A service that is gone has no chart.
            self.rates.retain(|name, _| sums.contains_key(name));
            for (name, sum) in &sums {
                let active = snapshot.services.get(name).map_or(0, |it| it.active() + it.flows_active());
                let rates = before.get(name).map_or_else(Rates::default, |before| before.rates(sum, seconds));
                let kept = self.rates.entry(name.clone()).or_default();
                if kept.len() == KEPT {
                    kept.pop_front();
                }
                kept.push_back(Rates { active: active as f64, ..rates });
            }
        }
        self.before = Some((now, sums));
    }

    /// The rates of a service, oldest first.
    pub(super) fn of(&self, service: &str) -> Vec<Rates> {
        self.rates.get(service).map(|rates| rates.iter().copied().collect()).unwrap_or_default()
    }
}

impl Sums {
    fn of(service: &ServiceSnapshot) -> Self {
        let way = |direction: &str| {
            let kinds = service.bytes.iter().filter(|(kind, _)| kind.starts_with(direction));
            kinds.map(|(_, bytes)| *bytes).sum()
        };
        Self {
            opened: service.opened + service.flows_opened,
            refused: service.refused.values().sum::<u64>() + service.dropped.values().sum::<u64>(),
            up: way("up/"),
            down: way("down/"),
        }
    }

    /// From this one to `later`. Counters fall only where a process was lost.
    fn rates(&self, later: &Self, seconds: f64) -> Rates {
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        Rates {
            opened: rate(self.opened, later.opened),
            refused: rate(self.refused, later.refused),
            bytes_up: rate(self.up, later.up),
            bytes_down: rate(self.down, later.down),
            active: 0.0,
        }
    }
}

/// Time between two looks.
pub(super) const EVERY: Duration = Duration::from_secs(5);

/// Ten minutes.
pub(super) const KEPT: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(opened: u64, up: u64) -> Snapshot {
        let mut service = ServiceSnapshot { opened, ..ServiceSnapshot::default() };
        service.bytes.insert("up/copy".to_owned(), up);
        service.bytes.insert("up/splice".to_owned(), up);
        Snapshot { services: BTreeMap::from([("ssh".to_owned(), service)]), ..Snapshot::default() }
    }

    #[test]
    fn rates_are_what_came_since_the_last_look_by_its_seconds() {
        let (mut history, start) = (History::default(), Instant::now());
        history.note(&counted(10, 100), start);
        assert_eq!(history.of("ssh"), []);
        history.note(&counted(20, 150), start + EVERY);
        let expected = Rates { opened: 2.0, bytes_up: 20.0, active: 20.0, ..Rates::default() };
        assert_eq!(history.of("ssh"), [expected]);
        // A counter that fell is no rate below zero.
        history.note(&counted(1, 0), start + 2 * EVERY);
        assert_eq!(history.of("ssh")[1], Rates { active: 1.0, ..Rates::default() });
    }

    #[test]
    fn ten_minutes_are_kept_and_a_service_that_is_gone_is_forgotten() {
        let (mut history, start) = (History::default(), Instant::now());
        for look in 0..1000 {
            history.note(&counted(look, 0), start + EVERY * u32::try_from(look).unwrap());
        }
        assert_eq!(history.of("ssh").len(), KEPT);
        history.note(&Snapshot::default(), start + EVERY * 1001);
        assert_eq!(history.of("ssh"), []);
    }
}
