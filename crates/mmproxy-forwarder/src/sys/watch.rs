//! Descriptors that the runtime watches while we make the system calls.

use std::io;
use std::net::TcpListener;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a listening socket for connections.
///
/// # Errors
///
/// The runtime cannot watch it: out of descriptors or of epoll's own memory.
pub(crate) fn connections(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    // SAFETY: a `TcpListener` owns its descriptor, which is open, is always the same, and is closed only when the
    // listener is dropped: by the `AsyncFd` that owns it, after it has stopped watching.
    unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }.map_err(io::Error::from)
}
