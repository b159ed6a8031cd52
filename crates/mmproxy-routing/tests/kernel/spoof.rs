//! A connection from an address that is not ours.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// Connects to `target` from `source` with a mark, as the gateway does.
pub(crate) fn connect(source: IpAddr, target: SocketAddr, mark: u32, patience: Duration) -> io::Result<()> {
    let socket = transparent(Type::STREAM, source, mark)?;
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

/// Whether a UDP server that listens on `server` sees a datagram sent to `target` come from `client`, and its answer
/// comes back to a socket that takes answers from `target` only.
pub(crate) fn answers(server: &UdpSocket, target: &str, client: &str, mark: u32) -> io::Result<()> {
    let target = SocketAddr::new(target.parse().unwrap(), server.local_addr()?.port());
    udp_through(server, target, client.parse().unwrap(), mark)
}

/// The same where all is known as addresses.
pub(crate) fn udp_through(
    server: &UdpSocket,
    target: SocketAddr,
    client: IpAddr,
    mark: u32,
) -> io::Result<()> {
    udp_to(Some(server), target, client, mark)
}

/// The same where there may be nobody who answers.
pub(crate) fn udp_to(
    server: Option<&UdpSocket>,
    target: SocketAddr,
    client: IpAddr,
    mark: u32,
) -> io::Result<()> {
    let socket = transparent(Type::DGRAM, client, mark)?;
    socket.connect(&target.into())?;
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"question")?;
    let mut buffer = [0; 16];
    if let Some(server) = server {
        server.set_read_timeout(Some(PATIENCE))?;
        let (length, peer) = server.recv_from(&mut buffer)?;
        assert_eq!((&buffer[..length], peer.ip()), (&b"question"[..], client), "the target sees the client");
        // Where its way is broken, the kernel may refuse it at once; the client waits in any case.
        server.send_to(b"answer", peer).ok();
    }
    let length = socket.recv(&mut buffer)?;
    assert_eq!(&buffer[..length], b"answer");
    Ok(())
}

fn transparent(kind: Type, source: IpAddr, mark: u32) -> io::Result<Socket> {
    let source = SocketAddr::new(source, 0);
    let socket = Socket::new(Domain::for_address(source), kind, None)?;
    match source {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    socket.set_mark(mark)?;
    socket.bind(&source.into())?;
    Ok(socket)
}

/// Longer than a handshake on lo takes on a busy machine. A SYN-ACK that goes astray is sent again after a second only.
pub(crate) const PATIENCE: Duration = Duration::from_millis(900);
