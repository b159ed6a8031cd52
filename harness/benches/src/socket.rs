//! Non-blocking sockets as generator and target use them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, acceptfrom_with, bind, connect,
    getsockname, listen, recv, send, socket_with, sockopt,
};

/// Listens for connections on `address`.
pub(crate) fn listener(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = new(address, SocketType::STREAM)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The next connection that waits, and who it is from; `None` if none waits, or it is gone already.
pub(crate) fn accept(listener: impl AsFd) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
    match acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Ok((socket, peer)) => {
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            let peer = peer.ok_or_else(|| io::Error::other("a TCP connection without an address"))?;
            sockopt::set_tcp_nodelay(&socket, true)?;
            Ok(Some((socket, peer)))
        }
        Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A connection to `address` that may not be there yet.
pub(crate) fn connection(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = new(address, SocketType::STREAM)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// A datagram socket bound to `address`, with room for what arrives while nobody looks.
pub(crate) fn datagrams(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = new(address, SocketType::DGRAM)?;
    // The first may be forbidden; the second is cut to what the host allows.
    if sockopt::set_socket_recv_buffer_size_force(&socket, DATAGRAM_BUFFER).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, DATAGRAM_BUFFER)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

/// A datagram socket that sends to `address` and receives from there alone.
pub(crate) fn datagrams_to(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = new(address, SocketType::DGRAM)?;
    connect(&socket, &address)?;
    Ok(socket)
}

/// The address that a socket is bound to.
pub(crate) fn local(socket: impl AsFd) -> io::Result<SocketAddr> {
    SocketAddr::try_from(getsockname(socket)?)
        .map_err(|_| io::Error::other("an Internet socket has an address"))
}

/// How many bytes were written; `None` if none can be just now.
pub(crate) fn write(socket: impl AsFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    match send(socket, bytes, SendFlags::NOSIGNAL) {
        Ok(written) => Ok(Some(written)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How many bytes were read, 0 at the end of the stream; `None` if nothing is there just now.
pub(crate) fn read(socket: impl AsFd, into: &mut [u8]) -> io::Result<Option<usize>> {
    match recv(socket, into, RecvFlags::empty()) {
        Ok((read, _)) => Ok(Some(read)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn new(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?)
}

/// As many as the kernel lets wait by default.
const BACKLOG: i32 = 4096;
const DATAGRAM_BUFFER: usize = 4 << 20;
