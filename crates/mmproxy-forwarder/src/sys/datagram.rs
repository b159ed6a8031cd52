//! Many datagrams per system call, each with the addresses it was sent from and to: recvmmsg(2) and sendmmsg(2).
//!
//! Nothing here allocates once a batch is made.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::libc;

mod control;
mod inbox;
mod name;
mod outbox;

pub(crate) use inbox::Inbox;
pub(crate) use outbox::{Outbox, Unsent};

/// Which kind of address a socket takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketFamily {
    V4,
    /// IPv4 addresses have to be mapped.
    V6,
}

/// How the kernel treats datagrams of `socket` that are larger than the path takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oversized {
    /// Sends them in fragments, the system's default.
    Fragment,
    /// Refuses them: EMSGSIZE.
    Refuse,
}

/// Sets [`Oversized`] for every family that `socket` sends to.
pub(crate) fn set_oversized(socket: BorrowedFd<'_>, family: SocketFamily, how: Oversized) -> io::Result<()> {
    let (v4, v6) = match how {
        Oversized::Fragment => (libc::IP_PMTUDISC_WANT, libc::IPV6_PMTUDISC_WANT),
        Oversized::Refuse => (libc::IP_PMTUDISC_DO, libc::IPV6_PMTUDISC_DO),
    };
    set_int(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, v4)?;
    match family {
        SocketFamily::V4 => Ok(()),
        SocketFamily::V6 => set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, v6),
    }
}

fn set_int(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` outlives the call and `length` is its exact size; the kernel only reads it. The descriptor is
    // open while it is borrowed.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn no_header() -> libc::mmsghdr {
    // SAFETY: a structure of integers and pointers, for which all zeros is the valid empty value; some C libraries pad
    // it with private fields that a literal could not name.
    unsafe { mem::zeroed() }
}

const NO_VECTOR: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

/// Largest payload of a datagram that any kernel delivers (IPv6; 65,507 with IPv4).
const LARGEST: usize = 65_527;

/// Room in front of a payload for the header of a reply.
const HEADROOM: usize = 64;

/// Distance of two datagrams in a batch. Not a power of two: they would share the same few lines of the cache.
const STRIDE: usize = 65_536 + 64 * 5;

const _: () = assert!(HEADROOM + LARGEST <= STRIDE);

#[cfg(test)]
mod tests;
