//! Counters at one moment: a plain value that goes from process to process and is added to others.

use std::collections::BTreeMap;

use mmproxy_forwarder::{CloseReason, FlowEnd};
use serde::{Deserialize, Serialize};

use super::histogram::Times;

/// Everything that was counted at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Snapshot {
    /// By name.
    pub(crate) services: BTreeMap<String, ServiceSnapshot>,
    /// By name: `mmproxy`, or the worker's.
    pub(crate) processes: BTreeMap<String, ProcessSnapshot>,
    /// Whether everything of the return path is there, by where it is: `host`, or the network namespace of targets.
    pub(crate) return_path: BTreeMap<String, bool>,
    /// Threads that serve.
    pub(crate) threads: u64,
    /// Worker processes that ended without being told to.
    pub(crate) worker_restarts: u64,
    /// Attempts to take up a changed configuration, by outcome: `applied`, `refused`.
    pub(crate) reloads: BTreeMap<String, u64>,
}

/// What one service has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ServiceSnapshot {
    /// Sessions that began.
    pub(crate) opened: u64,
    /// Sessions that ended, by close reason.
    pub(crate) closed: BTreeMap<String, u64>,
    /// Those of them that never reached the target.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Headers read, by version.
    pub(crate) headers: BTreeMap<String, u64>,
    pub(crate) header_time: Times,
    pub(crate) dial_time: Times,
    pub(crate) first_byte_time: Times,
    /// Payload by `direction/path`.
    pub(crate) bytes: BTreeMap<String, u64>,
    /// Client ports that could not be kept, by cause.
    pub(crate) port_fallbacks: BTreeMap<String, u64>,
    pub(crate) accept_pauses: u64,
    pub(crate) flows_opened: u64,
    /// By end.
    pub(crate) flows_closed: BTreeMap<String, u64>,
    /// Datagrams forwarded, by direction.
    pub(crate) datagrams: BTreeMap<String, u64>,
    /// Datagrams dropped, by reason.
    pub(crate) dropped: BTreeMap<String, u64>,
    pub(crate) replies_fragmented: u64,
    /// Whether each target was up when it was asked last.
    pub(crate) targets: BTreeMap<String, bool>,
}

/// What one process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ProcessSnapshot {
    /// Descriptors in use; `None` where /proc does not tell.
    pub(crate) descriptors: Option<u64>,
    /// How many there may be.
    pub(crate) descriptor_limit: u64,
    /// Seconds since 1970 when it started.
    pub(crate) started: u64,
}

/// One thing that has to hold for the gateway to be ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) holds: bool,
}

impl Snapshot {
    /// Adds what another process counted.
    pub(crate) fn add(&mut self, other: &Self) {
        for (name, service) in &other.services {
            self.services.entry(name.clone()).or_default().add(service);
        }
        self.processes.extend(other.processes.iter().map(|(name, process)| (name.clone(), *process)));
        for (place, intact) in &other.return_path {
            // Whoever sees it broken is right.
            self.return_path.entry(place.clone()).and_modify(|known| *known &= intact).or_insert(*intact);
        }
        self.threads += other.threads;
        self.worker_restarts += other.worker_restarts;
        add(&mut self.reloads, &other.reloads);
    }

    /// What stays of it when its process has ended: its counters, and nothing of its state. Sessions and flows
    /// that lived ended with it: a process that is told to end has none left.
    #[must_use]
    pub(crate) fn ended(mut self) -> Self {
        self.processes.clear();
        self.return_path.clear();
        self.threads = 0;
        for service in self.services.values_mut() {
            service.targets.clear();
            let (active, flows) = (service.active(), service.flows_active());
            for (closed, reason, lost) in [
                (&mut service.closed, CloseReason::WorkerLost.label(), active),
                (&mut service.flows_closed, FlowEnd::WorkerLost.label(), flows),
            ] {
                *closed.entry(reason.to_owned()).or_default() += lost;
            }
        }
        self
    }

    /// What has to hold, and whether it does. Ready is where everything does.
    pub(crate) fn checks(&self) -> Vec<Check> {
        let targets = self.services.iter().flat_map(|(service, counted)| {
            counted.targets.iter().map(move |(target, up)| Check {
                what: format!("target {target} of service {service} is reachable"),
                holds: *up,
            })
        });
        let return_path = self.return_path.iter().map(|(place, intact)| Check {
            what: format!("the return path is intact ({place})"),
            holds: *intact,
        });
        targets.chain(return_path).collect()
    }
}

impl ServiceSnapshot {
    /// Sessions that live.
    pub(crate) fn active(&self) -> u64 {
        self.opened.saturating_sub(self.closed.values().sum())
    }

    /// Flows that live.
    pub(crate) fn flows_active(&self) -> u64 {
        self.flows_opened.saturating_sub(self.flows_closed.values().sum())
    }

    fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.accept_pauses += other.accept_pauses;
        self.flows_opened += other.flows_opened;
        self.replies_fragmented += other.replies_fragmented;
        self.header_time.add(&other.header_time);
        self.dial_time.add(&other.dial_time);
        self.first_byte_time.add(&other.first_byte_time);
        for (counts, more) in [
            (&mut self.closed, &other.closed),
            (&mut self.refused, &other.refused),
            (&mut self.headers, &other.headers),
            (&mut self.bytes, &other.bytes),
            (&mut self.port_fallbacks, &other.port_fallbacks),
            (&mut self.flows_closed, &other.flows_closed),
            (&mut self.datagrams, &other.datagrams),
            (&mut self.dropped, &other.dropped),
        ] {
            add(counts, more);
        }
        for (target, up) in &other.targets {
            self.targets.entry(target.clone()).and_modify(|known| *known &= up).or_insert(*up);
        }
    }
}

fn add(counts: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
    for (label, count) in more {
        *counts.entry(label.clone()).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    fn counts() -> impl Strategy<Value = BTreeMap<String, u64>> {
        btree_map("[a-c]", 0..1_000_u64, 0..3)
    }

    prop_compose! {
        fn service()(
            closed in counts(), more in 0..50_u64, flows_closed in counts(), bytes in counts(),
            buckets in vec(0..9_u64, 15),
        ) -> ServiceSnapshot {
            ServiceSnapshot {
                opened: closed.values().sum::<u64>() + more,
                closed,
                flows_opened: flows_closed.values().sum::<u64>() + more,
                flows_closed,
                bytes,
                header_time: Times { nanos: buckets.iter().sum(), buckets },
                ..ServiceSnapshot::default()
            }
        }
    }

    prop_compose! {
        fn snapshot()(services in btree_map("[a-c]", service(), 0..3), threads in 0..9_u64) -> Snapshot {
            Snapshot { services, threads, ..Snapshot::default() }
        }
    }

    fn balanced(snapshot: &Snapshot) -> bool {
        snapshot.services.values().all(|service| {
            service.closed.values().sum::<u64>() + service.active() == service.opened
                && service.flows_closed.values().sum::<u64>() + service.flows_active() == service.flows_opened
        })
    }

    proptest! {
        #[test]
        fn sums_do_not_depend_on_the_order_and_stay_balanced(one in snapshot(), two in snapshot(), three in snapshot()) {
            let sum = |all: [&Snapshot; 3]| {
                let mut sum = Snapshot::default();
                all.into_iter().for_each(|snapshot| sum.add(snapshot));
                sum
            };
            let total = sum([&one, &two, &three]);
            prop_assert_eq!(&total, &sum([&three, &one, &two]));
            prop_assert!(balanced(&total));
        }

        #[test]
        fn a_process_that_ended_leaves_its_counters_and_nothing_that_lives(one in snapshot()) {
            let ended = one.clone().ended();
            prop_assert!(balanced(&ended));
            for (name, service) in &ended.services {
                let lived = &one.services[name];
                prop_assert_eq!((service.active(), service.flows_active()), (0, 0));
                prop_assert_eq!(service.opened, lived.opened);
                prop_assert_eq!(service.closed["worker_lost"], lived.active());
                prop_assert_eq!(service.flows_closed["worker_lost"], lived.flows_active());
            }
        }

        #[test]
        fn a_snapshot_survives_the_way_to_another_process(one in snapshot()) {
            let line = serde_json::to_string(&one).unwrap();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(serde_json::from_str::<Snapshot>(&line).unwrap(), one);
        }
    }

    #[test]
    fn ready_is_where_every_target_is_up_and_every_return_path_intact() {
        let mut snapshot = Snapshot::default();
        assert!(snapshot.checks().is_empty());
        let service = ServiceSnapshot {
            targets: BTreeMap::from([("127.0.0.1:22".to_owned(), false)]),
            ..ServiceSnapshot::default()
        };
        snapshot.services.insert("ssh".to_owned(), service);
        snapshot.return_path.insert("host".to_owned(), true);
        let mut other = Snapshot::default();
        other.return_path.insert("host".to_owned(), false);
        snapshot.add(&other);
        let said: Vec<_> = snapshot.checks().into_iter().map(|check| (check.what, check.holds)).collect();
        assert_eq!(
            said,
            [
                ("target 127.0.0.1:22 of service ssh is reachable".to_owned(), false),
                ("the return path is intact (host)".to_owned(), false)
            ]
        );
    }
}
