//! What is known of a session, from accept to its report.

use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::Duration;

use mmproxy_codec::Version;

use crate::addr::{ClaimedSource, Family, PeerAddr, TargetAddr};
use crate::clients::ClientDenied;
use crate::config::GatewayConfig;
use crate::details::HeaderDetails;
use crate::error::SessionError;
use crate::live::{Ending, Killed, LiveSession, Order, SessionState, TcpState};
use crate::observer::{
    Observer, SessionAnnounced, SessionDialing, SessionEstablished, SessionHalfClosed, SessionOpened,
};
use crate::report::{CloseReason, OPENING_LEN, SessionId, SessionReport};
use crate::tcp::accept::Accepted;
use crate::tcp::dial::{self, ClientPort};
use crate::tcp::header::Announcement;
use crate::tcp::relay::{Onlooker, Side};
use crate::worker::{Seat, Worker};

/// The report in the making. Tells the observer exactly once, also when the session panics or its task is
/// dropped.
pub(super) struct Ledger {
    pub(super) seat: Seat,
    pub(super) known: Known,
    /// It was closed from outside.
    ending: OnceLock<Ending>,
    told: bool,
}

/// What a report says of a session that lives; the rest is known when it ends.
pub(super) struct Known {
    id: SessionId,
    pub(super) peer: PeerAddr,
    /// Where it connected to, if that is not where the listener is.
    reached: Option<Box<SocketAddr>>,
    header: Option<Version>,
    header_len: u32,
    details: Option<Box<HeaderDetails>>,
    /// Of a session that never relays; a box of a box, because all others have room for it.
    opening: Option<Box<Box<[u8]>>>,
    claimed: Option<ClaimedSource>,
    bound: Option<Bound>,
    client_port: Option<ClientPort>,
    target: Option<Sought>,
    header_time: Lap,
    dial_time: Lap,
}

/// How long a step took, in half the memory of a `Duration`.
#[derive(Clone, Copy, Default)]
struct Lap(Option<NonZeroU64>);

impl Lap {
    fn of(time: Duration) -> Self {
        Self(NonZeroU64::new(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)))
    }

    fn get(self) -> Option<Duration> {
        self.0.map(|nanos| Duration::from_nanos(nanos.get()))
    }
}

/// The address the target sees.
enum Bound {
    /// The announced client's, with this port.
    Client(u16),
    Own(Box<SocketAddr>),
}

/// A target, in half the memory of its address.
enum Sought {
    /// The configured one of this family.
    Configured(Family),
    Other(Box<TargetAddr>),
}

impl Sought {
    fn of(target: TargetAddr, config: &GatewayConfig) -> Self {
        match config.targets.configured(target.family()) {
            Some(configured) if configured == target => Self::Configured(target.family()),
            Some(_) | None => Self::Other(Box::new(target)),
        }
    }

    fn get(&self, config: &GatewayConfig) -> Option<TargetAddr> {
        match self {
            Self::Configured(family) => config.targets.configured(*family),
            Self::Other(target) => Some(**target),
        }
    }
}

impl Known {
    fn target(&self, config: &GatewayConfig) -> Option<TargetAddr> {
        self.target.as_ref()?.get(config)
    }

    fn listener(&self, worker: &Worker) -> SocketAddr {
        self.reached.as_ref().map_or(worker.address, |reached| **reached)
    }

    fn bound(&self) -> Option<SocketAddr> {
        Some(match (self.bound.as_ref()?, self.claimed) {
            (Bound::Own(own), _) => **own,
            (Bound::Client(port), claimed) => SocketAddr::new(claimed?.addr().ip(), *port),
        })
    }
}

impl Ledger {
    pub(super) fn open(seat: Seat, accepted: &Accepted) -> Self {
        let known = Known {
            id: seat.worker.gateway.gate.all.next_id(),
            peer: accepted.peer,
            reached: accepted.reached.map(Box::new),
            header: None,
            header_len: 0,
            details: None,
            opening: None,
            claimed: None,
            bound: None,
            client_port: None,
            target: None,
            header_time: Lap::default(),
            dial_time: Lap::default(),
        };
        Self { seat, known, ending: OnceLock::new(), told: false }
    }

    fn config(&self) -> &GatewayConfig {
        &self.seat.worker.gateway.config
    }

    fn observer(&self) -> &dyn Observer {
        &*self.seat.worker.gateway.observer
    }

    pub(super) fn tell_opened(&self) {
        let Known { id, peer, .. } = self.known;
        let listener = self.known.listener(&self.seat.worker);
        self.observer().session_opened(&SessionOpened { id, peer, listener });
    }

    pub(super) fn keep_opening(&mut self, bytes: &[u8]) {
        self.known.opening = Some(Box::new(bytes[..bytes.len().min(OPENING_LEN)].into()));
    }

    pub(super) fn note_announced(&mut self, announced: &mut Announcement) {
        let header_time = self.seat.traffic.opened().elapsed();
        let known = &mut self.known;
        known.header = announced.version;
        known.header_len = announced.length;
        known.details = announced.details.take();
        known.claimed = announced.client;
        known.header_time = Lap::of(header_time);
        let Known { id, peer, header, claimed, .. } = self.known;
        let details = self.known.details.as_deref();
        self.observer().session_announced(&SessionAnnounced {
            id,
            peer,
            header,
            claimed,
            details,
            header_time,
        });
    }

    pub(super) fn note_target(&mut self, target: TargetAddr) {
        self.known.target = Some(Sought::of(target, self.config()));
    }

    pub(super) fn note_dialing(&mut self, target: TargetAddr) {
        self.note_target(target);
        let Known { id, peer, claimed, .. } = self.known;
        self.observer().session_dialing(&SessionDialing { id, peer, claimed, target });
    }

    pub(super) fn note_dialed(&mut self, dialed: &dial::Dialed) {
        let before = self.known.header_time.get().unwrap_or_default();
        let dial_time = self.seat.traffic.opened().elapsed().saturating_sub(before);
        self.known.dial_time = Lap::of(dial_time);
        let bound = dialed.bound;
        self.known.bound = Some(match self.known.claimed {
            Some(claimed) if claimed.addr().ip() == bound.ip() => Bound::Client(bound.port()),
            Some(_) | None => Bound::Own(Box::new(bound)),
        });
        self.known.client_port = dialed.client_port;
        if let Some(target) = self.known.target(self.config()) {
            self.config().target_health.note(target.family(), true);
            self.observer().session_established(&SessionEstablished {
                id: self.known.id,
                peer: self.known.peer,
                claimed: self.known.claimed,
                bound,
                client_port: dialed.client_port,
                target,
                dial_time,
            });
        }
    }

    /// Does what was asked from outside; nearly always nothing was.
    pub(super) fn hear(&self, sockets: Option<(&TcpStream, &TcpStream)>) {
        for order in self.seat.orders() {
            match order {
                // Whoever asked may have gone.
                Order::Tell(to) => {
                    to.send(self.live(sockets)).ok();
                }
                Order::End(which, ending, to) => {
                    if which.matches(self.known.id, self.known.claimed) && self.ending.set(ending).is_ok() {
                        to.send(self.known.id).ok();
                    }
                }
            }
        }
    }

    /// The end that was asked for from outside, if one was.
    pub(super) fn closed(&self) -> Option<SessionError> {
        match (self.ending.get()?, self.known.claimed) {
            (Ending::Denied, Some(client)) => Some(ClientDenied::Banned(client.ip()).into()),
            // Only a client can be denied.
            (Ending::Denied, None) | (Ending::Killed, _) => Some(Killed.into()),
        }
    }

    fn live(&self, sockets: Option<(&TcpStream, &TcpStream)>) -> LiveSession {
        let known = &self.known;
        LiveSession {
            id: known.id,
            peer: known.peer,
            listener: known.listener(&self.seat.worker),
            header: known.header,
            claimed: known.claimed,
            bound: known.bound(),
            target: known.target(self.config()),
            state: match (&known.bound, &known.target) {
                (Some(_), _) if self.seat.half_closed() => SessionState::HalfClosed,
                (Some(_), _) => SessionState::Relay,
                (None, Some(_)) => SessionState::Dial,
                (None, None) => SessionState::Header,
            },
            age: self.seat.traffic.opened().elapsed(),
            bytes_up: self.seat.traffic.up(),
            bytes_down: self.seat.traffic.down(),
            peer_tcp: sockets.and_then(|(peer, _)| TcpState::of(peer)),
            target_tcp: sockets.and_then(|(_, target)| TcpState::of(target)),
        }
    }

    pub(super) fn tell_closed(&mut self, reason: CloseReason, error: Option<SessionError>) {
        // Before the call: an observer that panics is not called again from `drop`.
        self.told = true;
        let (known, traffic) = (&mut self.known, &self.seat.traffic);
        let (header_time, dial_time) = (known.header_time.get(), known.dial_time.get());
        let first_byte_time = match (header_time, dial_time, traffic.first_byte()) {
            (Some(header), Some(dial), Some(first)) => Some(first.saturating_sub(header + dial)),
            _ => None,
        };
        let report = SessionReport {
            id: known.id,
            peer: known.peer,
            listener: known.listener(&self.seat.worker),
            header: known.header,
            header_len: known.header_len,
            details: known.details.take(),
            opening: known.opening.take().map_or_else(Vec::new, |opening| opening.into_vec()),
            claimed: known.claimed,
            bound: known.bound(),
            client_port: known.client_port,
            target: known.target(&self.seat.worker.gateway.config),
            bytes_up: traffic.up(),
            bytes_down: traffic.down(),
            spliced_up: traffic.up.spliced(),
            spliced_down: traffic.down.spliced(),
            header_time,
            dial_time,
            first_byte_time,
            total_time: traffic.opened().elapsed(),
            reason,
            error,
        };
        self.observer().session_closed(&report);
    }
}

impl Onlooker for Ledger {
    fn turn(&self, peer: &TcpStream, target: &TcpStream) {
        self.hear(Some((peer, target)));
    }

    fn half_closed(&self, ended: Side) {
        let Known { id, peer, claimed, .. } = self.known;
        self.observer().session_half_closed(&SessionHalfClosed { id, peer, claimed, ended });
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if !self.told {
            let reason = if std::thread::panicking() { CloseReason::Panicked } else { CloseReason::Drained };
            // A second panic while the first one unwinds would abort the whole gateway.
            catch_unwind(AssertUnwindSafe(|| self.tell_closed(reason, None))).ok();
        }
        self.seat.leave(self.known.peer, self.known.claimed);
    }
}
