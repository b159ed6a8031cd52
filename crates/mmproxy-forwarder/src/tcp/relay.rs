//! Both ways of a session, until both ended or one side broke.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::TcpStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::time::timeout;

use crate::errno;
use crate::report::CloseReason;
use crate::tcp::direction::{Broken, Direction, Way};
use crate::tcp::last_words;
use crate::tcp::socket::{Socket, Watched, keep_alive};
use crate::tick::Asked;
use crate::worker::Seat;

/// Who looks on while a session relays.
pub(crate) trait Onlooker {
    /// A turn of the session begins.
    fn turn(&self, peer: &TcpStream, target: &TcpStream);

    /// One side has ended and the other was told.
    fn half_closed(&self, ended: Side);
}

/// Two connections and what is on its way between them: nearly all that an idle session consists of.
pub(crate) struct Relay {
    sides: Sides,
    ways: Ways,
}

struct Sides {
    peer: Socket,
    target: Socket,
}

struct Ways {
    up: Direction,
    down: Direction,
}

impl Relay {
    /// `payload` is what the peer sent behind its header.
    pub(crate) fn new(peer: Socket, target: Socket, payload: BytesMut) -> Self {
        let ways = Ways { up: Direction::new(payload), down: Direction::new(BytesMut::new()) };
        Self { sides: Sides { peer, target }, ways }
    }

    /// Begins to relay for the session of `seat`.
    pub(crate) fn begin<'a>(&'a mut self, seat: &'a Seat) -> Relaying<'a> {
        Relaying {
            sides: &self.sides,
            ways: &mut self.ways,
            seat,
            probes: Probes::Unasked,
            peer_watch: Watch::default(),
            target_watch: Watch::default(),
        }
    }

    /// Closes both in order.
    pub(crate) fn finish(self) {
        let Sides { peer, target } = self.sides;
        peer.finish();
        target.finish();
    }
}

/// A relay at work. There is one in every idle session, too, so it is small: what it can ask for again it does not keep.
pub(crate) struct Relaying<'a> {
    sides: &'a Sides,
    ways: &'a mut Ways,
    seat: &'a Seat,
    probes: Probes,
    peer_watch: Watch<'a>,
    target_watch: Watch<'a>,
}

impl<'a> Relaying<'a> {
    /// Relays everything either side sends until both have ended; [`finish`](Relay::finish) is what is left to do then.
    ///
    /// The end of one side is carried over to the other at once and its answers still come back. When one side breaks,
    /// [`hear_out`](Self::hear_out) comes first; dropping the relay then resets both.
    pub(crate) fn poll(
        &mut self,
        onlooker: &impl Onlooker,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), RelayError>> {
        let Sides { peer, target } = self.sides;
        onlooker.turn(peer.get_ref(), target.get_ref());
        let (upward, downward) = (self.upward(), self.downward());
        let Ways { up, down } = &mut *self.ways;
        // Reading first: data that came before a reset is moved in the ordinary way.
        let one = up.poll(upward, down.is_done(), cx).map_err(RelayError::going_up)?;
        let other = down.poll(downward, up.is_done(), cx).map_err(RelayError::going_down)?;
        self.seat.traffic.note_turn();
        match (one.is_ready(), other.is_ready()) {
            (true, true) => return Poll::Ready(Ok(())),
            (false, false) => {}
            (peer_ended, _) => {
                if self.seat.note_half_closed() {
                    onlooker.half_closed(if peer_ended { Side::Peer } else { Side::Target });
                }
            }
        }
        if let Poll::Ready(error) = self.peer_watch.poll(up.is_deaf(), peer, cx) {
            return Poll::Ready(Err(RelayError { side: Side::Peer, error }));
        }
        if let Poll::Ready(error) = self.target_watch.poll(down.is_deaf(), target, cx) {
            return Poll::Ready(Err(RelayError { side: Side::Target, error }));
        }
        self.ask_for_probes(cx);
        Poll::Pending
    }

    fn ask_for_probes(&mut self, cx: &Context<'_>) {
        match self.probes {
            Probes::Unasked => self.probes = Probes::Due(self.seat.beat().ask(cx.waker())),
            Probes::Due(asked) if self.seat.beat().has_come(asked) => {
                self.probes = Probes::Sent;
                for side in [&self.sides.peer, &self.sides.target] {
                    if let Some(keepalive) = self.seat.worker.gateway.config.dial.keepalive {
                        // It cannot fail on a TCP socket; if it did, the session would still be one worth having.
                        keep_alive(&SockRef::from(&**side), keepalive).ok();
                    }
                }
            }
            Probes::Due(_) | Probes::Sent => {}
        }
    }

    /// Delivers what `side`, which is broken, had said before, as far as the other side takes it within the time that
    /// the configuration gives last words.
    pub(crate) async fn hear_out(self, side: Side) {
        let (upward, downward) = (self.upward(), self.downward());
        let (speaker, way) = match side {
            Side::Peer => (&mut self.ways.up, upward),
            Side::Target => (&mut self.ways.down, downward),
        };
        let said = async {
            let dry = poll_fn(|cx| speaker.poll_dry(way, cx)).await;
            // What the listener's socket took has not reached it yet, and a reset would throw it away.
            if dry.map_or_else(|broken| broken.is_from(), |()| true) {
                last_words::arrived(way.to).await;
            }
        };
        tokio::select! {
            biased;
            // Whether they were taken in time or not, the session is over.
            _ = timeout(self.seat.worker.gateway.config.last_words, said) => {}
            _ = failure(way.to) => {}
        }
        self.seat.traffic.note_turn();
    }

    fn upward(&self) -> Way<'a> {
        let Seat { worker, traffic, .. } = self.seat;
        Way {
            from: &self.sides.peer,
            to: &self.sides.target,
            moved: &traffic.up,
            total: &worker.totals.up,
            pipes: &worker.pipes,
        }
    }

    fn downward(&self) -> Way<'a> {
        let Seat { worker, traffic, .. } = self.seat;
        Way {
            from: &self.sides.target,
            to: &self.sides.peer,
            moved: &traffic.down,
            total: &worker.totals.down,
            pipes: &worker.pipes,
        }
    }
}

/// Whether the kernel was asked for probes, which notice a vanished host. It is once the session has lived for a moment:
/// one that has ended by then has no use for what takes eight system calls and two timers.
enum Probes {
    Unasked,
    Due(Asked),
    Sent,
}

/// Hears of a failure while nobody reads from the connection.
#[derive(Default)]
struct Watch<'a>(Option<Box<Failure<'a>>>);

/// In a second box: it is rare, and there is room for two of them in every session.
type Failure<'a> = Pin<Box<dyn Future<Output = io::Error> + Send + 'a>>;

impl<'a> Watch<'a> {
    fn poll(&mut self, deaf: bool, stream: &'a Watched, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !deaf {
            self.0 = None;
            return Poll::Pending;
        }
        self.0.get_or_insert_with(|| Box::new(Box::pin(failure(stream)))).as_mut().as_mut().poll(cx)
    }
}

/// Waits for the connection to break.
///
/// Reading and writing notice a reset only when there is a reason to do either: not while the other side is too
/// slow, and not behind a FIN, after which reads say "end" for ever (the kernel's SOCK_DONE comes first).
async fn failure(stream: &Watched) -> io::Error {
    if let Err(error) = stream.ready(Interest::ERROR).await {
        return error;
    }
    match stream.get_ref().take_error() {
        Ok(Some(error)) | Err(error) => error,
        // A read or a write took the error just now.
        Ok(None) => io::Error::from_raw_os_error(nix::libc::ECONNRESET),
    }
}

/// One side broke while bytes were relayed.
#[derive(Debug, thiserror::Error)]
#[error("connection to the {side} broke")]
pub struct RelayError {
    /// The side that broke.
    pub side: Side,
    /// What the kernel said.
    #[source]
    pub error: io::Error,
}

impl RelayError {
    /// The close reason this error makes.
    pub fn reason(&self) -> CloseReason {
        match (self.side, errno::is_reset(&self.error)) {
            _ if errno::is_exhausted(&self.error) => CloseReason::OutOfResources,
            (Side::Peer, true) => CloseReason::PeerReset,
            (Side::Peer, false) => CloseReason::PeerLost,
            (Side::Target, true) => CloseReason::TargetReset,
            (Side::Target, false) => CloseReason::TargetLost,
        }
    }

    fn going_up(broken: Broken) -> Self {
        match broken {
            Broken::From(error) => Self { side: Side::Peer, error },
            Broken::To(error) => Self { side: Side::Target, error },
        }
    }

    fn going_down(broken: Broken) -> Self {
        match broken {
            Broken::From(error) => Self { side: Side::Target, error },
            Broken::To(error) => Self { side: Side::Peer, error },
        }
    }
}

/// One of the two connections of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The load balancer.
    Peer,
    /// The target.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "peer",
            Self::Target => "target",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::watch;
    use nix::libc;
    use socket2::SockRef;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    /// Nobody looks on.
    impl Onlooker for Seat {
        fn turn(&self, _peer: &TcpStream, _target: &TcpStream) {}

        fn half_closed(&self, _ended: Side) {}
    }

    impl Relay {
        async fn run(&mut self, seat: &Seat) -> Result<(), RelayError> {
            let mut relaying = self.begin(seat);
            let ended = poll_fn(|cx| relaying.poll(seat, cx)).await;
            if let Err(broken) = &ended {
                relaying.hear_out(broken.side).await;
            }
            ended
        }
    }

    /// A connection: the gateway's end, and the far one.
    fn connection() -> (Watched, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let near = listener.accept().unwrap().0;
        near.set_nonblocking(true).unwrap();
        (watch::connection(near).unwrap(), far)
    }

    #[tokio::test]
    async fn what_a_side_said_before_its_reset_is_delivered_although_writing_to_it_fails_first() {
        let (peer, mut client) = connection();
        let (target, mut server) = connection();
        server.write_all(b"413 Content Too Large").unwrap();
        SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
        drop(server);

        // From here on the way up is tried first, and fails.
        drop(target.writable().await.unwrap());
        let seat = Seat::alone();
        let upload = BytesMut::from(&b"the first byte of this fails"[..]);
        let mut relay = Relay::new(Socket::new(peer), Socket::new(target), upload);
        let error = relay.run(&seat).await.unwrap_err();
        assert_eq!((error.side, error.reason()), (Side::Target, CloseReason::TargetReset));
        assert_eq!((seat.traffic.up(), seat.traffic.down()), (0, 21));
        let totals = seat.worker.totals.get();
        assert_eq!((totals.down.copied, totals.up.copied), (21, 0));
        assert!(seat.traffic.first_byte().is_some());

        let mut answer = [0; 21];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"413 Content Too Large");
        // What follows is for the caller to say: the end of a broken connection is no end of the answer.
        client.set_nonblocking(true).unwrap();
        assert_eq!(client.read(&mut answer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_reset_a_silent_host_and_want_of_memory_are_told_apart_for_either_side() {
        for (errno, peer, target) in [
            (libc::ECONNRESET, CloseReason::PeerReset, CloseReason::TargetReset),
            (libc::EPIPE, CloseReason::PeerReset, CloseReason::TargetReset),
            (libc::ETIMEDOUT, CloseReason::PeerLost, CloseReason::TargetLost),
            (libc::EHOSTUNREACH, CloseReason::PeerLost, CloseReason::TargetLost),
            (libc::ENOBUFS, CloseReason::OutOfResources, CloseReason::OutOfResources),
        ] {
            let reason = |side| RelayError { side, error: errno::os(errno) }.reason();
            assert_eq!((reason(Side::Peer), reason(Side::Target)), (peer, target));
        }
    }
}
