//! A UDP server and a spoofed socket toward it, both played by the test: what a forwarder of datagrams would rely on.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use harness::expect::DEADLINE;
use harness::{Family, Namespace};
use socket2::{Domain, Socket, Type};

/// A UDP server on `address` in `namespace`.
pub(crate) fn server(namespace: &Namespace, address: IpAddr) -> UdpSocket {
    let server = namespace.run(|| UdpSocket::bind((address, 0))).expect("an address of the namespace");
    server.set_read_timeout(Some(DEADLINE)).expect("a socket");
    server
}

/// A question from a client's address, sent in `gateway` to `target` where `server` answers; the answer has to come from
/// the address that was asked.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) gateway: &'a Namespace,
    pub(crate) server: &'a UdpSocket,
    pub(crate) target: IpAddr,
    pub(crate) mark: u32,
}

impl Question<'_> {
    /// Expects the answer.
    #[track_caller]
    pub(crate) fn expect_answer(self) {
        let Self { target, .. } = self;
        self.ask(DEADLINE).unwrap_or_else(|error| panic!("the answer of {target}: {error}"));
    }

    /// Expects that no answer comes.
    #[track_caller]
    pub(crate) fn expect_silence(self) {
        let Self { target, .. } = self;
        assert!(self.ask(Duration::from_millis(200)).is_err(), "{target} is answered without a return path");
    }

    fn ask(self, patience: Duration) -> io::Result<()> {
        let client = SocketAddr::new(Family::of(self.target).client(), 4711);
        let target = SocketAddr::new(self.target, self.server.local_addr()?.port());
        let socket = UdpSocket::from(self.gateway.run(|| spoofed(client, self.mark))?);
        socket.connect(target)?;
        socket.set_read_timeout(Some(patience))?;
        socket.send(b"question")?;
        let mut buffer = [0; 16];
        let (length, peer) = self.server.recv_from(&mut buffer)?;
        assert_eq!((&buffer[..length], peer), (&b"question"[..], client), "the target sees the client");
        // Without a way to the client there is an error here instead of a packet that goes astray.
        self.server.send_to(b"answer", peer)?;
        let length = socket.recv(&mut buffer)?;
        assert_eq!(&buffer[..length], b"answer");
        Ok(())
    }
}

/// A transparent socket, bound to an address that nobody here has.
fn spoofed(client: SocketAddr, mark: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(client), Type::DGRAM, None)?;
    match client {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    socket.set_mark(mark)?;
    socket.bind(&client.into())?;
    Ok(socket)
}
