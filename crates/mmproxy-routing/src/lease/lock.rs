//! One start or stop at a time.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::knock::{Knock, knock};
use crate::error::RoutingError;

/// The right to change the return path of this network namespace; given back when dropped.
///
/// An abstract unix socket: its name exists once in a network namespace and vanishes with the process that holds
/// it, however that ends. Waiting is a connection to the holder, which ends when the holder lets go.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its name, which is the lock")] UnixListener);

impl Lock {
    /// Waits for the lock, but not for ever: the section that it protects takes milliseconds.
    pub(crate) async fn take() -> Result<Self, RoutingError> {
        Self::take_within(PATIENCE).await
    }

    async fn take_within(patience: Duration) -> Result<Self, RoutingError> {
        let mut holder = 0;
        match timeout(patience, Self::wait(&mut holder)).await {
            Ok(result) => result,
            Err(_) => Err(RoutingError::Locked { holder, seconds: patience.as_secs() }),
        }
    }

    async fn wait(holder: &mut i32) -> Result<Self, RoutingError> {
        let failed = |source| RoutingError::kernel("lock the return path", source);
        let name = SocketAddr::from_abstract_name(NAME).map_err(failed)?;
        loop {
            match UnixListener::bind_addr(&name) {
                Ok(listener) => return Ok(Self(listener)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(failed(error)),
            }
            match knock(NAME).map_err(failed)? {
                Knock::Answered { socket, pid, .. } => {
                    *holder = pid;
                    socket.set_nonblocking(true).map_err(failed)?;
                    let stream = UnixStream::from_std(socket).map_err(failed)?;
                    // The holder never writes: this ends when its socket does.
                    stream.ready(Interest::READABLE).await.map_err(failed)?;
                }
                // Let go in between, or about to listen.
                Knock::Nobody | Knock::Crowded => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// Like all names here, without a version: versions of mmproxy must exclude each other too.
const NAME: &[u8] = b"mmproxy/lock";

/// How long others may hold the lock before a start or stop gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts when nobody can be waited for.
const PAUSE: Duration = Duration::from_millis(2);
