//! What waits in a socket: how much of what was written has not arrived, and whether reading stopped before an urgent byte.

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

/// Whether the next byte to be read from `socket`, a TCP connection, is an urgent one: reading stops there although
/// more may have come (tcp(7)).
pub(crate) fn is_at_mark(socket: &impl AsFd) -> bool {
    let mut mark: libc::c_int = 0;
    // SAFETY: the descriptor is open for the length of the borrow, and SIOCATMARK writes one int to where the pointer
    // leads, which is `mark` (tcp(7)).
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCATMARK, &raw mut mark) };
    result == 0 && mark != 0
}

/// Of asm-generic/sockios.h. Where another number is meant (mips, sparc), the kernel refuses this one.
const SIOCATMARK: libc::Ioctl = 0x8905;
