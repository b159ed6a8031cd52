//! Who listens on an abstract unix socket.

use std::io;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt};
use std::os::fd::AsRawFd;

/// The answer to a [`knock`].
pub(super) enum Knock {
    /// Somebody listens.
    Answered {
        /// The connection to it.
        socket: UnixStream,
        /// The process, as our pid namespace numbers it; 0 if it is in another one.
        pid: i32,
        /// The user, as our user namespace numbers it.
        uid: u32,
    },
    /// Somebody listens, but has more callers waiting than it admits.
    Crowded,
    /// Nobody listens.
    Nobody,
}

/// Connects to an abstract unix socket of this network namespace, without waiting.
///
/// Process and user are those of the moment it began to listen (`SO_PEERCRED`), vouched for by the kernel.
pub(super) fn knock(name: &[u8]) -> io::Result<Knock> {
    let address = UnixAddr::new_abstract(name)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(socket.as_raw_fd(), &address) {
        Ok(()) => {
            let peer = getsockopt(&socket, sockopt::PeerCredentials)?;
            Ok(Knock::Answered { socket: UnixStream::from(socket), pid: peer.pid(), uid: peer.uid() })
        }
        Err(Errno::ECONNREFUSED) => Ok(Knock::Nobody),
        Err(Errno::EAGAIN) => Ok(Knock::Crowded),
        Err(errno) => Err(errno.into()),
    }
}
