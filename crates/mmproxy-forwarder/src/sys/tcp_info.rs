//! What the kernel knows of a TCP connection.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

/// `TCP_INFO` of `socket` (tcp(7)). Fields that an older kernel does not have are 0.
///
/// # Errors
///
/// `socket` is no TCP connection.
pub(crate) fn tcp_info(socket: &impl AsFd) -> io::Result<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is open for the length of the borrow; the kernel writes at most `length` bytes to where the
    // first pointer leads, which is as large, and one socklen_t to where the second one leads.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    nix::errno::Errno::result(result)?;
    // SAFETY: a structure of integers, for which zeroes are values like any other.
    Ok(unsafe { info.assume_init() })
}
