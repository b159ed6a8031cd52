//! A connection from an address that is not ours.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// Connects to `target` from `source` with a mark, as the gateway does.
pub(crate) fn connect(source: IpAddr, target: SocketAddr, mark: u32, patience: Duration) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    match source {
        IpAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        IpAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    socket.set_mark(mark)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect_timeout(&target.into(), patience)
}

/// Whether a target that listens on `listen` sees a connection made to `target` come from `source`.
pub(crate) fn arrives(listen: &str, target: &str, source: &str, mark: u32) -> io::Result<()> {
    let listener = TcpListener::bind((listen, 0))?;
    let target = SocketAddr::new(target.parse().unwrap(), listener.local_addr()?.port());
    let source: IpAddr = source.parse().unwrap();
    connect(source, target, mark, PATIENCE)?;
    let (_, peer) = listener.accept()?;
    assert_eq!(peer.ip(), source, "the target sees the client");
    Ok(())
}

/// Longer than a handshake on lo takes on a busy machine. A SYN-ACK that goes astray is sent again after a second only.
pub(crate) const PATIENCE: Duration = Duration::from_millis(900);
