//! What a service has counted: plain counters that its sessions add to, and a [`Snapshot`] of them for whoever asks.

mod histogram;
mod process;
mod render;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use mmproxy_codec::Version;
use mmproxy_forwarder::{
    AcceptPaused, ClientPort, CloseReason, DropReason, FlowEnd, FlowReport, Gateway, Observer, PortConflict,
    SessionAnnounced, SessionEstablished, SessionOpened, SessionReport, TargetAddr, TargetHealth, UdpGateway,
};

use self::histogram::Histogram;
pub(crate) use self::process::Process;
pub(crate) use self::render::{Format, render};
pub(crate) use self::snapshot::{ProcessSnapshot, ServiceSnapshot, Snapshot};

/// The counters of one service.
///
/// Adding is one instruction without a lock. Nothing is added for a byte or a datagram: those are counted by the gateway
/// itself, and asked for when somebody wants to know.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ServiceMetrics {
    opened: AtomicU64,
    closed: Closed,
    /// Those that never reached the target.
    refused: Closed,
    headers: [AtomicU64; VERSIONS.len()],
    header_time: Histogram,
    dial_time: Histogram,
    first_byte_time: Histogram,
    port_fallbacks: [AtomicU64; PortConflict::ALL.len()],
    accept_pauses: AtomicU64,
    flows_opened: AtomicU64,
    flows_closed: [AtomicU64; FlowEnd::ALL.len()],
    served: OnceLock<Served>,
    targets: OnceLock<(Vec<TargetAddr>, TargetHealth)>,
}

/// One counter for each close reason.
#[derive(Debug)]
struct Closed([AtomicU64; CloseReason::ALL.len()]);

/// The gateway of a service, which counts bytes and datagrams.
#[derive(Clone, Debug)]
pub(crate) enum Served {
    /// Of connections.
    Tcp(Gateway),
    /// Of datagrams.
    Udp(UdpGateway),
}

impl ServiceMetrics {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// From now on a snapshot has what `served` counts.
    pub(crate) fn count_with(&self, served: Served) {
        // A service has one gateway; a second one would be the same.
        self.served.set(served).ok();
    }

    /// From now on a snapshot tells whether `targets` are up.
    pub(crate) fn watch_targets(&self, targets: Vec<TargetAddr>, health: TargetHealth) {
        self.targets.set((targets, health)).ok();
    }

    /// The gateway, to be asked for its sessions.
    pub(crate) fn served(&self) -> Option<&Served> {
        self.served.get()
    }

    /// What was counted so far.
    ///
    /// Whatever happens meanwhile, sessions closed and active are together those opened: what was closed is read
    /// first, so each of them is among those opened.
    pub(crate) fn snapshot(&self) -> ServiceSnapshot {
        let mut snapshot = ServiceSnapshot {
            closed: self.closed.get(),
            refused: self.refused.get(),
            headers: labelled(VERSIONS.map(label_of).into_iter().zip(&self.headers)),
            header_time: self.header_time.get(),
            dial_time: self.dial_time.get(),
            first_byte_time: self.first_byte_time.get(),
            port_fallbacks: labelled(
                PortConflict::ALL.map(PortConflict::label).into_iter().zip(&self.port_fallbacks),
            ),
            accept_pauses: self.accept_pauses.load(Ordering::Relaxed),
            flows_closed: labelled(FlowEnd::ALL.map(FlowEnd::label).into_iter().zip(&self.flows_closed)),
            ..ServiceSnapshot::default()
        };
        snapshot.opened = self.opened.load(Ordering::Acquire);
        snapshot.flows_opened = self.flows_opened.load(Ordering::Acquire);
        match self.served.get() {
            Some(Served::Tcp(gateway)) => {
                let traffic = gateway.traffic();
                for (direction, lane) in [("up", traffic.up), ("down", traffic.down)] {
                    snapshot.bytes.insert(format!("{direction}/copy"), lane.copied);
                    snapshot.bytes.insert(format!("{direction}/splice"), lane.spliced);
                }
            }
            Some(Served::Udp(gateway)) => {
                let counts = gateway.counts();
                snapshot.bytes.insert("up/datagram".to_owned(), counts.bytes_up);
                snapshot.bytes.insert("down/datagram".to_owned(), counts.bytes_down);
                snapshot.datagrams.insert("up".to_owned(), counts.up);
                snapshot.datagrams.insert("down".to_owned(), counts.down);
                snapshot.replies_fragmented = counts.fragmented;
                let dropped =
                    DropReason::ALL.map(|reason| (reason.label().to_owned(), counts.dropped(reason)));
                snapshot.dropped = BTreeMap::from(dropped);
            }
            None => {}
        }
        if let Some((targets, health)) = self.targets.get() {
            let known = |target: &TargetAddr| Some((target.to_string(), health.is_up(target.family())?));
            snapshot.targets = targets.iter().filter_map(known).collect();
        }
        snapshot
    }

    fn note_port(&self, port: Option<ClientPort>) {
        if let Some(ClientPort::Fallback(conflict)) = port {
            self.port_fallbacks[conflict as usize].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Observer for ServiceMetrics {
    fn session_opened(&self, _opened: &SessionOpened) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    fn session_announced(&self, announced: &SessionAnnounced<'_>) {
        // Without one there was nothing to wait for.
        if let Some(version) = announced.header {
            self.headers[index_of(version)].fetch_add(1, Ordering::Relaxed);
            self.header_time.observe(announced.header_time);
        }
    }

    fn session_established(&self, established: &SessionEstablished) {
        self.dial_time.observe(established.dial_time);
        self.note_port(established.client_port);
    }

    fn session_closed(&self, report: &SessionReport) {
        if let Some(time) = report.first_byte_time {
            self.first_byte_time.observe(time);
        }
        if report.bound.is_none() {
            self.refused.add(report.reason);
        }
        self.closed.add(report.reason);
    }

    fn accept_paused(&self, paused: &AcceptPaused<'_>) {
        self.accept_pauses.fetch_add(1 + paused.held_back, Ordering::Relaxed);
    }

    fn flow_opened(&self, opened: &FlowReport) {
        self.flows_opened.fetch_add(1, Ordering::Relaxed);
        self.note_port(opened.client_port);
        if let Some(version) = opened.header {
            self.headers[index_of(version)].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flow_closed(&self, _report: &FlowReport, end: FlowEnd) {
        self.flows_closed[end as usize].fetch_add(1, Ordering::Release);
    }
}

impl Closed {
    fn add(&self, reason: CloseReason) {
        // A reader that sees it sees also that the session was opened.
        self.0[reason as usize].fetch_add(1, Ordering::Release);
    }

    fn get(&self) -> BTreeMap<String, u64> {
        labelled(CloseReason::ALL.map(CloseReason::label).into_iter().zip(&self.0))
    }
}

impl Default for Closed {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

fn labelled<'a>(counters: impl Iterator<Item = (&'static str, &'a AtomicU64)>) -> BTreeMap<String, u64> {
    counters.map(|(label, counter)| (label.to_owned(), counter.load(Ordering::Acquire))).collect()
}

/// Every version, to register labels before the first header.
const VERSIONS: [Version; 3] = [Version::V1, Version::V2, Version::Spp];

const fn label_of(version: Version) -> &'static str {
    match version {
        Version::V1 => "v1",
        Version::V2 => "v2",
        Version::Spp => "spp",
    }
}

const fn index_of(version: Version) -> usize {
    match version {
        Version::V1 => 0,
        Version::V2 => 1,
        Version::Spp => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn closed_and_active_are_together_those_opened_at_any_moment() {
        let metrics = ServiceMetrics::new();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for reason in [CloseReason::Finished, CloseReason::PeerReset] {
                let (metrics, stop) = (&metrics, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        // As a session does: first the one, then the other.
                        metrics.opened.fetch_add(1, Ordering::Relaxed);
                        metrics.closed.add(reason);
                    }
                });
            }
            for _ in 0..2_000 {
                let snapshot = metrics.snapshot();
                let closed: u64 = snapshot.closed.values().sum();
                assert!(closed <= snapshot.opened, "{closed} of {} closed", snapshot.opened);
                assert_eq!(closed + snapshot.active(), snapshot.opened);
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(metrics.snapshot().active(), 0);
    }

    #[test]
    fn every_reason_has_its_label_before_the_first_session() {
        let snapshot = ServiceMetrics::new().snapshot();
        assert_eq!(snapshot.closed.len(), CloseReason::ALL.len());
        assert_eq!(snapshot.port_fallbacks.len(), PortConflict::ALL.len());
        assert!(snapshot.closed.values().all(|count| *count == 0));
    }
}
