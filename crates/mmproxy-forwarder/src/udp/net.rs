//! The worker's side of the world: sockets, policy, observers.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use crate::addr::{PeerAddr, SpoofSource, TargetAddr};
use crate::error::SessionError;
use crate::health::{HealthCheckEnd, HealthChecks};
use crate::live::{LiveSession, SessionState};
use crate::netns::{Namespace, NamespaceGone};
use crate::observer::{DatagramsDropped, WorkerPanicked};
use crate::report::SessionId;
use crate::udp::core::{Dropped, Flow, Incoming, World};
use crate::udp::drops::DropReason;
use crate::udp::gateway::UdpShared;
use crate::udp::header::Announcement;
use crate::udp::key::FlowKey;
use crate::udp::listen::UdpListener;
use crate::udp::mailbox::Letter;
use crate::udp::report::{FlowEnd, FlowReport};
use crate::udp::sends::Sends;
use crate::udp::table::FlowId;
use crate::udp::upstream::Upstream;
use crate::worker::Worker;

/// What the worker of one listener works with.
pub(crate) struct Net<'a> {
    pub(crate) epoll: Epoll,
    /// Decides on announced clients.
    authority: Arc<Worker>,
    listener: &'a UdpListener,
    shared: &'a UdpShared,
    /// Where sockets to targets are made, if not here.
    namespace: Option<Namespace>,
    /// The last balancer that was found in the list of allowed networks.
    admitted: Option<IpAddr>,
    /// Of the tables that `admitted` was found in, and that the flows passed.
    version: u64,
    /// Datagrams that wait to be sent to targets; `None` where each is sent at once.
    pub(crate) sends: Option<Sends>,
    /// Datagrams handed to targets, and bytes each way, since they were added to the counters.
    sent: u64,
    bytes_up: u64,
    bytes_down: u64,
}

/// A flow's side toward its target.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) socket: Upstream,
    target: TargetAddr,
    id: SessionId,
}

impl Leg {
    /// Number of the flow.
    pub(crate) const fn id(&self) -> SessionId {
        self.id
    }
}

impl<'a> Net<'a> {
    /// With `together`, datagrams to targets wait in [`sends`](Self::sends).
    pub(crate) fn new(
        epoll: Epoll,
        listener: &'a UdpListener,
        shared: &'a UdpShared,
        together: bool,
    ) -> Self {
        let sends = together.then(Sends::default);
        let authority = Worker::new(Arc::clone(&shared.gateway), listener.local_addr());
        let version = shared.gateway.tables.version();
        Self {
            epoll,
            authority,
            listener,
            shared,
            namespace: None,
            admitted: None,
            version,
            sends,
            sent: 0,
            bytes_up: 0,
            bytes_down: 0,
        }
    }

    /// Whether the lists of balancers or clients were changed since this was asked last.
    pub(crate) fn lists_changed(&mut self) -> bool {
        let before = std::mem::replace(&mut self.version, self.shared.gateway.tables.version());
        if before == self.version {
            return false;
        }
        self.admitted = None;
        true
    }

    /// Whether the client of a flow is denied by now.
    pub(crate) fn denies(&self, announced: &Announcement) -> bool {
        announced.client.is_some_and(|client| self.shared.gateway.tables.check(client.ip()).is_err())
    }

    /// Whether targets are in a namespace that may go away.
    pub(crate) fn watches_namespace(&self) -> bool {
        self.shared.gateway.config.dial.namespace.is_some()
    }

    /// Looks which namespace the targets are in now; whether sockets made before are in another one.
    pub(crate) fn namespace_changed(&mut self) -> bool {
        let Some(place) = &self.shared.gateway.config.dial.namespace else { return false };
        let present = place.present().ok();
        let same = match (&self.namespace, &present) {
            (None, None) => true,
            (Some(before), Some(present)) => before.is(present),
            (None, Some(_)) | (Some(_), None) => false,
        };
        self.namespace = present;
        !same
    }

    /// Counts a datagram that went nowhere, and tells of it now and then.
    pub(crate) fn tell_dropped(
        &self,
        reason: DropReason,
        peer: Option<PeerAddr>,
        error: &(dyn Error + 'static),
        now: Instant,
    ) {
        if let Some(held_back) = self.shared.counters.dropped(reason, now) {
            let listener = self.listener.local_addr();
            let told = DatagramsDropped { listener, peer, reason, error, held_back };
            self.shared.gateway.observer.datagrams_dropped(&told);
        }
    }

    /// Counts a panic that cost `flows`, and tells of it now and then.
    pub(crate) fn tell_panicked(&self, flows: usize, now: Instant) {
        if let Some(held_back) = self.shared.counters.panicked(now) {
            let told = WorkerPanicked { listener: self.listener.local_addr(), flows, held_back };
            self.shared.gateway.observer.worker_panicked(&told);
        }
    }

    /// Adds to the counters that other threads read.
    pub(crate) fn count(&mut self) {
        if self.sent > 0 {
            self.shared.counters.up.fetch_add(std::mem::take(&mut self.sent), Ordering::Relaxed);
            self.shared.counters.bytes_up.fetch_add(std::mem::take(&mut self.bytes_up), Ordering::Relaxed);
        }
        if self.bytes_down > 0 {
            self.shared
                .counters
                .bytes_down
                .fetch_add(std::mem::take(&mut self.bytes_down), Ordering::Relaxed);
        }
    }

    /// A datagram of `len` bytes was handed to a target.
    pub(crate) const fn sent(&mut self, len: usize) {
        self.sent += 1;
        self.bytes_up += len as u64;
    }

    /// A reply of `len` bytes came from a target.
    pub(crate) const fn returned(&mut self, len: usize) {
        self.bytes_down += len as u64;
    }

    /// What a flow tells of itself.
    pub(crate) fn live(&self, flow: &Flow<Leg>) -> LiveSession {
        let report = self.report(flow, false);
        LiveSession {
            id: report.id,
            peer: report.peer,
            listener: report.listener,
            header: report.header,
            claimed: report.claimed,
            bound: Some(report.bound),
            target: Some(report.target),
            state: SessionState::Relay,
            age: report.total_time,
            bytes_up: report.bytes_up,
            bytes_down: report.bytes_down,
            peer_tcp: None,
            target_tcp: None,
        }
    }

    fn report(&self, flow: &Flow<Leg>, established: bool) -> FlowReport {
        let leg = &flow.upstream;
        FlowReport {
            id: leg.id,
            peer: flow.peer,
            listener: self.listener.local_addr(),
            header: flow.announced.version,
            claimed: flow.announced.client,
            destination: flow.announced.destination,
            bound: leg.socket.bound,
            client_port: leg.socket.client_port,
            target: leg.target,
            datagrams_up: flow.traffic.datagrams_up,
            datagrams_down: flow.traffic.datagrams_down,
            bytes_up: flow.traffic.bytes_up,
            bytes_down: flow.traffic.bytes_down,
            established,
            total_time: flow.opened.elapsed(),
        }
    }
}

impl World for Net<'_> {
    type Upstream = Leg;
    type Pass = (Option<SpoofSource>, TargetAddr);

    fn admits(&mut self, peer: PeerAddr) -> bool {
        if self.admitted == Some(peer.ip()) {
            return true;
        }
        let admitted = self.shared.gateway.tables.allow(peer.ip());
        if admitted {
            self.admitted = Some(peer.ip());
        }
        admitted
    }

    fn hand_over(&mut self, key: &FlowKey, incoming: &Incoming<'_>) -> Option<Result<(), Dropped>> {
        let mailbox = self.listener.other_owner(key)?;
        let letter = Letter { peer: incoming.peer, local: incoming.local, bytes: incoming.bytes.into() };
        Some(if mailbox.post(letter) { Ok(()) } else { Err(Dropped::Undelivered) })
    }

    fn authorise(&mut self, peer: PeerAddr, announced: &Announcement) -> Result<Self::Pass, SessionError> {
        let config = &self.shared.gateway.config;
        match announced.client {
            Some(claimed) => {
                let source = self.authority.authorise(claimed)?;
                Ok((Some(source), config.targets.of_client(source, announced.destination)?))
            }
            None if config.health_checks == HealthChecks::Refuse => Err(HealthCheckEnd::Refused.into()),
            None => Ok((None, config.targets.of_balancer(peer)?)),
        }
    }

    fn open(&mut self, (client, target): Self::Pass) -> Result<Leg, SessionError> {
        if self.watches_namespace() && self.namespace.is_none() {
            return Err(NamespaceGone.into());
        }
        let (options, endpoints) = (&self.shared.gateway.config.dial, &self.shared.endpoints);
        let socket = Upstream::open(client, target, options, self.namespace.as_ref(), endpoints)?;
        Ok(Leg { socket, target, id: self.shared.next_id() })
    }

    fn watch(&mut self, leg: &Leg, id: FlowId) -> io::Result<()> {
        Ok(self.epoll.add(leg.socket.socket(), EpollEvent::new(EpollFlags::EPOLLIN, id.to_bits()))?)
    }

    fn send(&mut self, id: FlowId, leg: &Leg, payload: &[u8]) -> io::Result<()> {
        match &mut self.sends {
            Some(sends) => sends.add(id, payload),
            None => {
                leg.socket.send(payload)?;
                self.sent(payload.len());
            }
        }
        Ok(())
    }

    fn opened(&mut self, flow: &Flow<Leg>) {
        self.shared.gateway.observer.flow_opened(&self.report(flow, false));
    }

    fn closed(&mut self, flow: Flow<Leg>, established: bool, end: FlowEnd) {
        let report = self.report(&flow, established);
        // Closed first, as sessions are.
        drop(flow);
        if end == FlowEnd::Evicted {
            self.shared.counters.evicted.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.gateway.observer.flow_closed(&report, end);
    }
}
