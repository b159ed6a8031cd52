//! How much of what was written to a socket has not arrived yet.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

/// Bytes that `socket`, a TCP connection, has accepted and the other end's kernel has not acknowledged; a FIN counts
/// as one.
///
/// # Errors
///
/// `socket` is no TCP connection, or listens.
pub(crate) fn unacknowledged(socket: &impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for the length of the borrow, and TIOCOUTQ writes one int to where the pointer
    // leads, which is `bytes` (tcp(7): SIOCOUTQ).
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    nix::errno::Errno::result(result)?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}
