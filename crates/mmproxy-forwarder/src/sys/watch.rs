//! Descriptors that the runtime watches while we make the system calls.

use std::io;
use std::net::{TcpListener, TcpStream};

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

/// Watches a connection for all that can happen to it: urgent data too, so that those who read need not ask for it.
///
/// # Errors
///
/// The runtime cannot watch it: out of epoll's memory.
pub(crate) fn connection(stream: TcpStream) -> io::Result<AsyncFd<TcpStream>> {
    let everything = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
    // SAFETY: a `TcpStream` owns its descriptor, which is open, is always the same, and is closed only when the stream
    // is dropped: by the `AsyncFd` that owns it, after it has stopped watching.
    unsafe { AsyncFd::register_with_interest(stream, everything) }.map_err(io::Error::from)
}
