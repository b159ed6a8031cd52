//! One session, from `accept(2)` to its report.

mod ledger;

use std::future::poll_fn;
use std::net::TcpStream;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{sleep, timeout};

use crate::addr::TargetAddr;
use crate::choice::ClientFrom;
use crate::config::GatewayConfig;
use crate::error::SessionError;
use crate::health::{HealthCheckEnd, HealthChecks};
use crate::netns::{Lifeline, NamespaceGone};
use crate::report::CloseReason;
use crate::tcp::accept::Accepted;
use crate::tcp::dial;
use crate::tcp::header::{self, Announcement, Glance, HeaderReadError};
use crate::tcp::relay::{Relay, Relaying};
use crate::tcp::socket::{Fresh, Socket};
use crate::tcp::timeouts::Silence;
use crate::worker::Seat;
use ledger::Ledger;

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
    ///
    /// Each idle session has this future: errors are boxed, and nothing is in it twice, as with combinators.
    fn relay(
        &mut self,
        lifeline: Option<Lifeline>,
    ) -> impl Future<Output = Result<(), Box<SessionError>>> + Send {
        let Self { relay, ledger } = self;
        let config = &ledger.seat.worker.gateway.config;
        let mut watching = Watching {
            ledger,
            relaying: relay.begin(&ledger.seat),
            silence: Silence::new(&config.silence, &ledger.seat),
            outlived: lifeline.map(|lifeline| Box::pin(outlived(lifeline, config.drain))),
        };
        async move {
            let ended = poll_fn(|cx| watching.poll(cx)).await;
            if let Err(error) = &ended
                && let SessionError::Relay(broken) = &**error
            {
                Box::pin(watching.relaying.hear_out(broken.side)).await;
            }
            ended
        }
    }

    /// Closes both connections, then reports.
    fn close(self: Box<Self>, ended: Result<(), Box<SessionError>>) {
        let Self { relay, mut ledger } = *self;
        match ended {
            Ok(()) => {
                relay.finish();
                ledger.tell_closed(CloseReason::Finished, None);
            }
            Err(error) => {
                drop(relay);
                ledger.tell_closed(error.reason(), Some(*error));
            }
        }
    }
}

/// All that ends a session that relays.
struct Watching<'a, O> {
    ledger: &'a Ledger,
    relaying: Relaying<'a>,
    silence: Silence<'a>,
    outlived: Option<Pin<Box<O>>>,
}

impl<O: Future<Output = ()>> Watching<'_, O> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Box<SessionError>>> {
        if let Poll::Ready(relayed) = self.relaying.poll(self.ledger, cx) {
            return Poll::Ready(relayed.map_err(|broken| Box::new(broken.into())));
        }
        // Behind the relay, which looks for orders.
        if let Some(error) = self.ledger.closed() {
            return Poll::Ready(Err(Box::new(error)));
        }
        if let Poll::Ready(silent) = Pin::new(&mut self.silence).poll(cx) {
            return Poll::Ready(Err(Box::new(silent.into())));
        }
        match &mut self.outlived {
            Some(outlived) => outlived.as_mut().poll(cx).map(|()| Err(Box::new(NamespaceGone.into()))),
            None => Poll::Pending,
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
                ledger.note_target(target);
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

fn watch(peer: Fresh) -> Result<Socket, SessionError> {
    Ok(peer.watch().map_err(HeaderReadError::Read)?)
}

/// Returns when the namespace of the target has been gone for `drain`. A process that ends has its sockets closed by
/// the kernel: most sessions end by that, and what was sent before is still delivered.
async fn outlived(lifeline: Lifeline, drain: Duration) {
    lifeline.cut().await;
    sleep(drain).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{PeerAddr, Targets};
    use crate::allowlist::AllowList;
    use crate::gateway::Gateway;
    use crate::observer::Unobserved;
    use crate::worker::Worker;
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
        // What the runtime adds to the first makes a block of 256 bytes; above 384 the second takes one of 448.
        assert!(size.0 <= 144 && size.1 <= 384, "{size:?} bytes");
    }
}
