//! One session, from `accept(2)` to its report.

use std::future::{pending, poll_fn};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use mmproxy_codec::Version;
use tokio::time::{sleep, timeout};

use crate::addr::{ClaimedSource, PeerAddr, TargetAddr};
use crate::choice::ClientFrom;
use crate::clients::ClientDenied;
use crate::config::GatewayConfig;
use crate::details::HeaderDetails;
use crate::error::SessionError;
use crate::health::{HealthCheckEnd, HealthChecks};
use crate::live::{Ending, Killed, LiveSession, Order, SessionState, TcpState};
use crate::netns::{Lifeline, NamespaceGone};
use crate::observer::{
    Observer, SessionAnnounced, SessionDialing, SessionEstablished, SessionHalfClosed, SessionOpened,
};
use crate::report::{CloseReason, OPENING_LEN, SessionId, SessionReport};
use crate::tcp::accept::Accepted;
use crate::tcp::dial::{self, ClientPort};
use crate::tcp::header::{self, Announcement, Glance, HeaderReadError};
use crate::tcp::relay::{Onlooker, Relay, Side};
use crate::tcp::socket::{Fresh, Socket};
use crate::tcp::timeouts::Silence;
use crate::worker::{Seat, Worker};

/// One session, from accept to its report. Dropping the future cuts the session.
///
/// Most of a session's life is spent relaying: what it needs before that is on the heap and freed then.
pub(crate) fn run(seat: Seat, accepted: Accepted) -> impl Future<Output = ()> + Send {
    let opening = Box::pin(open(seat, accepted));
    async move {
        let Some((mut session, lifeline)) = opening.await else { return };
        let ended = session.relay(lifeline).await;
        session.close(ended);
    }
}

/// A session that has both connections. Dropped, it closes them, then reports.
struct Session {
    relay: Relay,
    ledger: Ledger,
}

/// Brings a session to the point where it relays, or reports why it does not come there.
async fn open(seat: Seat, accepted: Accepted) -> Option<(Box<Session>, Option<Lifeline>)> {
    seat.enrol().await;
    let mut ledger = Ledger::open(seat, &accepted);
    ledger.tell_opened();
    match connect(accepted.stream, &mut ledger).await {
        Ok((relay, lifeline)) => Some((Box::new(Session { relay, ledger }), lifeline)),
        Err(error) => {
            ledger.tell_closed(error.reason(), Some(error));
            None
        }
    }
}

impl Session {
    /// Relays until both sides have ended. Returning early, or being dropped, resets both. There is a `lifeline` where
    /// the target is in another namespace.
    async fn relay(&mut self, lifeline: Option<Lifeline>) -> Result<(), SessionError> {
        let seat = &self.ledger.seat;
        let config = &seat.worker.gateway.config;
        let mut outlived = lifeline.map(|lifeline| Box::pin(outlived(lifeline, config.drain)));
        let gone = async {
            match &mut outlived {
                Some(outlived) => outlived.await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            relayed = self.relay.run(&self.ledger) => Ok(relayed?),
            // Behind the relay, which looks for orders.
            error = closed(&self.ledger) => Err(error),
            silent = Silence::new(&config.silence, seat) => Err(silent.into()),
            () = gone => Err(NamespaceGone.into()),
        }
    }

    /// Closes both connections, then reports.
    fn close(self: Box<Self>, ended: Result<(), SessionError>) {
        let Self { relay, mut ledger } = *self;
        match ended {
            Ok(()) => {
                relay.finish();
                ledger.tell_closed(CloseReason::Finished, None);
            }
            Err(error) => {
                drop(relay);
                ledger.tell_closed(error.reason(), Some(error));
            }
        }
    }
}

/// The steps up to the connection to the target. Returning early, or being dropped, resets the peer.
async fn connect(stream: TcpStream, ledger: &mut Ledger) -> Result<(Relay, Option<Lifeline>), SessionError> {
    let worker = Arc::clone(&ledger.seat.worker);
    let config = &worker.gateway.config;

    let peer = Fresh::new(stream);
    ledger.seat.admit(ledger.known.peer)?;
    let (peer, mut announced, payload) = match config.client_from {
        ClientFrom::Peer => (watch(peer)?, Announcement::of_peer(ledger.known.peer), BytesMut::new()),
        ClientFrom::Header => announced(peer, config, ledger).await?,
    };
    ledger.note_announced(&mut announced);

    let dialed = match announced.client {
        Some(claimed) => {
            let source = ledger.seat.authorise(claimed)?;
            let target = config.targets.of_client(source, announced.destination)?;
            ledger.note_dialing(target);
            attended(ledger, dial::spoofed(source, target, &config.dial)).await??
        }
        None => {
            if config.health_checks == HealthChecks::Refuse {
                return Err(HealthCheckEnd::Refused.into());
            }
            let target = config.targets.of_balancer(ledger.known.peer)?;
            if config.health_checks == HealthChecks::Answer {
                ledger.known.target = Some(target);
                return Err(attended(ledger, answer(peer, target, config)).await?.into());
            }
            ledger.note_dialing(target);
            attended(ledger, dial::plain(target, &config.dial)).await??
        }
    };
    ledger.note_dialed(&dialed);
    Ok((Relay::new(peer, Socket::new(dialed.stream), payload), dialed.lifeline))
}

/// Reads the header: at once if it is there, else within the deadline.
async fn announced(
    peer: Fresh,
    config: &GatewayConfig,
    ledger: &mut Ledger,
) -> Result<(Socket, Announcement, BytesMut), SessionError> {
    match header::glance(peer.stream(), &config.decode) {
        Ok(Glance::Complete(announced, payload)) => Ok((watch(peer)?, announced, payload)),
        Ok(Glance::More(mut begun)) => {
            let peer = watch(peer)?;
            let deadline = ledger.seat.traffic.opened() + config.header_timeout;
            let read = Box::pin(header::read(&peer, &mut begun, &config.decode, deadline));
            match attended(ledger, read).await? {
                Ok(announced) => Ok((peer, announced, begun)),
                Err(error) => {
                    ledger.keep_opening(&begun);
                    if matches!(error, HeaderReadError::ConnectOnly) {
                        peer.finish();
                    }
                    Err(error.into())
                }
            }
        }
        Err((error, begun)) => {
            ledger.keep_opening(&begun);
            if matches!(error, HeaderReadError::ConnectOnly) {
                peer.finish();
            }
            Err(error.into())
        }
    }
}

/// Tells a balancer whether the target is up, by the way the connection ends.
async fn answer(peer: Socket, target: TargetAddr, config: &GatewayConfig) -> HealthCheckEnd {
    let up = match config.target_health.is_up(target.family()) {
        Some(up) => up,
        None => Box::pin(config.target_health.ask(target, &config.dial)).await,
    };
    if !up {
        return HealthCheckEnd::TargetDown(target);
    }
    // Bytes that nobody read would turn the end into a reset. What the balancer still says is of no interest; it has as
    // long to take the end as a slow reader has.
    peer.end_writing();
    Box::pin(timeout(config.last_words, peer.discard())).await.ok();
    peer.finish();
    HealthCheckEnd::Answered(target)
}

/// Waits for `work`, and listens to orders meanwhile.
async fn attended<T>(ledger: &Ledger, work: impl Future<Output = T>) -> Result<T, SessionError> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        ledger.hear(None);
        match ledger.closed() {
            Some(error) => Poll::Ready(Err(error)),
            None => work.as_mut().poll(cx).map(Ok),
        }
    })
    .await
}

/// Returns when the session was closed from outside. Whoever polls it has listened to orders before.
fn closed(ledger: &Ledger) -> impl Future<Output = SessionError> + Send {
    poll_fn(|_| ledger.closed().map_or(Poll::Pending, Poll::Ready))
}

fn watch(peer: Fresh) -> Result<Socket, SessionError> {
    Ok(peer.watch().map_err(HeaderReadError::Read)?)
}

/// Returns when the namespace of the target has been gone for `drain`. A process that ends has its sockets closed by
/// the kernel: most sessions end by that, and what was sent before is still delivered.
async fn outlived(lifeline: Lifeline, drain: Duration) {
    lifeline.cut().await;
    sleep(drain).await;
}

/// The report in the making. Tells the observer exactly once, also when the session panics or its task is
/// dropped.
struct Ledger {
    seat: Seat,
    known: Known,
    /// It was closed from outside.
    ending: OnceLock<Ending>,
    told: bool,
}

/// What a report says of a session that lives; the rest is known when it ends.
struct Known {
    id: SessionId,
    peer: PeerAddr,
    /// Where it connected to, if that is not where the listener is.
    reached: Option<Box<SocketAddr>>,
    header: Option<Version>,
    header_len: u32,
    details: Option<Box<HeaderDetails>>,
    /// Of a session that never relays.
    opening: Box<[u8]>,
    claimed: Option<ClaimedSource>,
    bound: Option<Bound>,
    client_port: Option<ClientPort>,
    target: Option<TargetAddr>,
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

impl Known {
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
    fn open(seat: Seat, accepted: &Accepted) -> Self {
        let known = Known {
            id: seat.worker.gateway.gate.all.next_id(),
            peer: accepted.peer,
            reached: accepted.reached.map(Box::new),
            header: None,
            header_len: 0,
            details: None,
            opening: Box::default(),
            claimed: None,
            bound: None,
            client_port: None,
            target: None,
            header_time: Lap::default(),
            dial_time: Lap::default(),
        };
        Self { seat, known, ending: OnceLock::new(), told: false }
    }

    fn observer(&self) -> &dyn Observer {
        &*self.seat.worker.gateway.observer
    }

    fn tell_opened(&self) {
        let Known { id, peer, .. } = self.known;
        let listener = self.known.listener(&self.seat.worker);
        self.observer().session_opened(&SessionOpened { id, peer, listener });
    }

    fn keep_opening(&mut self, bytes: &[u8]) {
        self.known.opening = bytes[..bytes.len().min(OPENING_LEN)].into();
    }

    fn note_announced(&mut self, announced: &mut Announcement) {
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

    fn note_dialing(&mut self, target: TargetAddr) {
        self.known.target = Some(target);
        let Known { id, peer, claimed, .. } = self.known;
        self.observer().session_dialing(&SessionDialing { id, peer, claimed, target });
    }

    fn note_dialed(&mut self, dialed: &dial::Dialed) {
        let before = self.known.header_time.get().unwrap_or_default();
        let dial_time = self.seat.traffic.opened().elapsed().saturating_sub(before);
        self.known.dial_time = Lap::of(dial_time);
        let bound = dialed.bound;
        self.known.bound = Some(match self.known.claimed {
            Some(claimed) if claimed.addr().ip() == bound.ip() => Bound::Client(bound.port()),
            Some(_) | None => Bound::Own(Box::new(bound)),
        });
        self.known.client_port = dialed.client_port;
        if let Some(target) = self.known.target {
            self.seat.worker.gateway.config.target_health.note(target.family(), true);
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
    fn hear(&self, sockets: Option<(&TcpStream, &TcpStream)>) {
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
    fn closed(&self) -> Option<SessionError> {
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
            target: known.target,
            state: match (&known.bound, known.target) {
                (Some(_), _) if self.seat.traffic.half_closed() => SessionState::HalfClosed,
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

    fn tell_closed(&mut self, reason: CloseReason, error: Option<SessionError>) {
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
            opening: std::mem::take(&mut known.opening).into_vec(),
            claimed: known.claimed,
            bound: known.bound(),
            client_port: known.client_port,
            target: known.target,
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
    fn seat(&self) -> &Seat {
        &self.seat
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Targets;
    use crate::allowlist::AllowList;
    use crate::gateway::Gateway;
    use crate::observer::Unobserved;
    use std::net::TcpListener;
    use std::net::TcpStream;

    /// With a task's bookkeeping and what the runtime keeps of two sockets, 1.5 KiB are all that an idle session costs.
    #[tokio::test]
    async fn a_session_that_relays_is_small() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = TcpStream::connect(address).unwrap();
        let stream = listener.accept().unwrap().0;
        let targets = Targets::new(Some("127.0.0.1:22".parse().unwrap()), None).unwrap();
        let gateway = Gateway::new(GatewayConfig::new(AllowList::new(), targets), Unobserved).unwrap();
        let accepted = Accepted { stream, peer: PeerAddr::new(peer.local_addr().unwrap()), reached: None };
        let mut size = (0, 0);
        Worker::new(gateway.shared(), address).spawn(|seat| {
            let session = run(seat, accepted);
            size = (size_of_val(&session), size_of::<Session>());
            session
        });
        // What the runtime adds to the first makes a block of 384 bytes; above 448 the second takes one of 512.
        assert!(size.0 <= 288 && size.1 <= 448, "{size:?} bytes");
    }
}
