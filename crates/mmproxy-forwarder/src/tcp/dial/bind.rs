//! Binding a socket to a client's address and port.

use std::io;
use std::net::SocketAddr;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::Socket;

/// Binds `socket` to `source`, also where a listener on every address of this host has the port, if the process may.
///
/// The kernel refuses such a port: connections to the client's address, were it this host's, would be two sockets'.
/// It never is, and answers find the connection before they look for a listener. While a socket is under repair
/// (`TCP_REPAIR`, for `CAP_NET_ADMIN`), bind(2) does not ask.
///
/// # Errors
///
/// What bind(2) said; without the capability, what it said at first.
pub(super) fn source(socket: &Socket, source: SocketAddr) -> io::Result<()> {
    let refused = match socket.bind(&source.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) && source.port() != 0 => error,
        done => return done,
    };
    if setsockopt(socket, sockopt::TcpRepair, &ON).is_err() {
        return Err(refused);
    }
    let bound = socket.bind(&source.into());
    // Before connect(2), which would otherwise send nothing.
    setsockopt(socket, sockopt::TcpRepair, &OFF)?;
    // Gone with the end of the repair; without it, the listener that has the port could not be restarted while this
    // connection lives.
    socket.set_reuse_address(true)?;
    bound
}

/// `TCP_REPAIR_ON` and `TCP_REPAIR_OFF` of linux/tcp.h.
const ON: u32 = 1;
const OFF: u32 = 0;
