//! One session, from `accept(2)` to its report.

use std::future::pending;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mmproxy_codec::Version;
use tokio::time::{Instant, sleep};

use crate::addr::{ClaimedSource, PeerAddr, TargetAddr};
use crate::choice::ClientFrom;
use crate::config::GatewayConfig;
use crate::error::SessionError;
use crate::netns::{Lifeline, NamespaceGone};
use crate::observer::{Observer, SessionEstablished, SessionOpened};
use crate::report::{CloseReason, OPENING_LEN, SessionId, SessionReport};
use crate::tcp::accept::Accepted;
use crate::tcp::dial::{self, ClientPort};
use crate::tcp::header::{self, Announcement, Glance, HeaderReadError};
use crate::tcp::relay::Relay;
use crate::tcp::socket::{Fresh, Socket};
use crate::tcp::timeouts::Silence;
use crate::worker::{Seat, Worker};

/// One session, from accept to its report. Dropping the future cuts the session.
///
/// Most of a session's life is spent relaying: what it needs before that is on the heap and freed then.
pub(crate) fn run(seat: Seat, accepted: Accepted) -> impl Future<Output = ()> + Send {
    let opening = Box::pin(open(seat, accepted));
    async move {
        let Some(mut session) = opening.await else { return };
        let ended = session.relay().await;
        session.close(ended);
    }
}

/// A session that has both connections. Dropped, it closes them, then reports.
struct Session {
    relay: Relay,
    /// Where the target is in another namespace.
    lifeline: Option<Lifeline>,
    ledger: Ledger,
}

/// Brings a session to the point where it relays, or reports why it does not come there.
async fn open(seat: Seat, accepted: Accepted) -> Option<Box<Session>> {
    let mut ledger = Ledger::open(seat, &accepted);
    ledger.tell_opened();
    match connect(accepted.stream, &mut ledger).await {
        Ok((relay, lifeline)) => Some(Box::new(Session { relay, lifeline, ledger })),
        Err(error) => {
            ledger.tell_closed(error.reason(), Some(error));
            None
        }
    }
}

impl Session {
    /// Relays until both sides have ended. Returning early, or being dropped, resets both.
    async fn relay(&mut self) -> Result<(), SessionError> {
        let seat = &self.ledger.seat;
        let config = &seat.worker.gateway.config;
        let mut outlived = self.lifeline.take().map(|lifeline| Box::pin(outlived(lifeline, config.drain)));
        let gone = async {
            match &mut outlived {
                Some(outlived) => outlived.await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            relayed = self.relay.run(seat) => Ok(relayed?),
            silent = Silence::new(&config.silence, seat) => Err(silent.into()),
            () = gone => Err(NamespaceGone.into()),
        }
    }

    /// Closes both connections, then reports.
    fn close(self: Box<Self>, ended: Result<(), SessionError>) {
        let Self { relay, mut ledger, .. } = *self;
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
async fn connect(
    stream: std::net::TcpStream,
    ledger: &mut Ledger,
) -> Result<(Relay, Option<Lifeline>), SessionError> {
    let worker = Arc::clone(&ledger.seat.worker);
    let config = &worker.gateway.config;

    let peer = Fresh::new(stream);
    ledger.seat.admit(ledger.known.peer)?;
    let (peer, announced, payload) = match config.client_from {
        ClientFrom::Peer => (watch(peer)?, Announcement::of_peer(ledger.known.peer), BytesMut::new()),
        ClientFrom::Header => announced(peer, config, ledger).await?,
    };
    ledger.note_announced(announced);

    let dialed = match announced.client {
        Some(claimed) => {
            let source = worker.authorise(claimed)?;
            let target = config.targets.of_client(source, announced.destination)?;
            ledger.known.target = Some(target);
            dial::spoofed(source, target, &config.dial).await?
        }
        None => {
            let target = config.targets.of_balancer(ledger.known.peer)?;
            ledger.known.target = Some(target);
            dial::plain(target, &config.dial).await?
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
            let deadline = ledger.opened + config.header_timeout;
            match Box::pin(header::read(&peer, &mut begun, &config.decode, deadline)).await {
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
    opened: Instant,
    known: Known,
    told: bool,
}

/// What a report says of a session that lives; the rest is known when it ends.
struct Known {
    id: SessionId,
    peer: PeerAddr,
    /// Where it connected to, if that is not where the listener is.
    reached: Option<Box<SocketAddr>>,
    header: Option<Version>,
    /// Of a session that never relays.
    opening: Box<[u8]>,
    claimed: Option<ClaimedSource>,
    bound: Option<Bound>,
    client_port: Option<ClientPort>,
    target: Option<TargetAddr>,
    header_time: Option<Duration>,
    dial_time: Option<Duration>,
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
            id: seat.worker.gateway.places.next_id(),
            peer: accepted.peer,
            reached: accepted.reached.map(Box::new),
            header: None,
            opening: Box::default(),
            claimed: None,
            bound: None,
            client_port: None,
            target: None,
            header_time: None,
            dial_time: None,
        };
        Self { seat, opened: Instant::now(), known, told: false }
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

    fn note_announced(&mut self, announced: Announcement) {
        self.known.header = announced.version;
        self.known.claimed = announced.client;
        self.known.header_time = Some(self.opened.elapsed());
    }

    fn note_dialed(&mut self, dialed: &dial::Dialed) {
        let since_header = |time| self.opened.elapsed().saturating_sub(time);
        self.known.dial_time = self.known.header_time.map(since_header);
        let bound = dialed.bound;
        self.known.bound = Some(match self.known.claimed {
            Some(claimed) if claimed.addr().ip() == bound.ip() => Bound::Client(bound.port()),
            Some(_) | None => Bound::Own(Box::new(bound)),
        });
        self.known.client_port = dialed.client_port;
        if let Some(target) = self.known.target {
            self.observer().session_established(&SessionEstablished {
                id: self.known.id,
                peer: self.known.peer,
                claimed: self.known.claimed,
                bound,
                target,
            });
        }
    }

    fn tell_closed(&mut self, reason: CloseReason, error: Option<SessionError>) {
        // Before the call: an observer that panics is not called again from `drop`.
        self.told = true;
        let known = &mut self.known;
        let report = SessionReport {
            id: known.id,
            peer: known.peer,
            listener: known.listener(&self.seat.worker),
            header: known.header,
            opening: std::mem::take(&mut known.opening).into_vec(),
            claimed: known.claimed,
            bound: known.bound(),
            client_port: known.client_port,
            target: known.target,
            bytes_up: self.seat.traffic.up(),
            bytes_down: self.seat.traffic.down(),
            header_time: known.header_time,
            dial_time: known.dial_time,
            total_time: self.opened.elapsed(),
            reason,
            error,
        };
        self.observer().session_closed(&report);
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let reason = if std::thread::panicking() { CloseReason::Panicked } else { CloseReason::Drained };
        // A second panic while the first one unwinds would abort the whole gateway.
        catch_unwind(AssertUnwindSafe(|| self.tell_closed(reason, None))).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Targets;
    use crate::allowlist::AllowList;
    use crate::gateway::Gateway;
    use crate::observer::Unobserved;
    use std::net::{TcpListener, TcpStream};

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
        assert!(size.0 <= 288 && size.1 <= 448, "{size:?} bytes");
    }
}
