//! Both ways of a session, until both ended or one side broke.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::errno;
use crate::report::CloseReason;
use crate::tcp::direction::{Broken, Direction};

/// Bytes delivered so far, readable while the session lives.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    up: AtomicU64,
    down: AtomicU64,
}

impl Traffic {
    /// Bytes the target's socket accepted.
    pub(crate) fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    /// Bytes the peer's socket accepted.
    pub(crate) fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }
}

/// Relays `payload`, then everything either side sends, until both have ended.
///
/// The end of one side is carried over to the other at once and its answers still come back. When one side
/// breaks, what it had sent before is delivered as far as the other side takes it without delay; the caller
/// then resets both.
pub(crate) async fn both_ways(
    peer: &TcpStream,
    target: &TcpStream,
    payload: BytesMut,
    traffic: &Traffic,
) -> Result<(), RelayError> {
    let mut up = Direction::new(peer, target, payload, &traffic.up);
    let mut down = Direction::new(target, peer, BytesMut::new(), &traffic.down);

    let broken = tokio::select! {
        // Reading first: data that came before a reset is moved in the ordinary way.
        biased;
        ended = async { tokio::try_join!(
            async { up.run().await.map_err(RelayError::going_up) },
            async { down.run().await.map_err(RelayError::going_down) },
        ) } => match ended {
            Ok(((), ())) => return Ok(()),
            Err(broken) => broken,
        },
        error = failure(peer) => RelayError { side: Side::Peer, error },
        error = failure(target) => RelayError { side: Side::Target, error },
    };

    let last_words = match broken.side {
        Side::Peer => &mut up,
        Side::Target => &mut down,
    };
    // Whether they were taken in time or not, the session is over.
    timeout(LAST_WORDS, last_words.run_dry()).await.ok();
    Err(broken)
}

/// Waits for the connection to break.
///
/// Reading and writing notice a reset only when there is a reason to do either: not while the other side is too
/// slow, and not behind a FIN, after which reads say "end" for ever (the kernel's SOCK_DONE comes first).
async fn failure(stream: &TcpStream) -> io::Error {
    if let Err(error) = stream.ready(Interest::ERROR).await {
        return error;
    }
    match stream.take_error() {
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

/// How long a broken side's last bytes may take to be accepted by the other. TCP promises nothing for them; a
/// reader that keeps up gets them, one that does not delays the reset by this much.
const LAST_WORDS: Duration = Duration::from_secs(1);
