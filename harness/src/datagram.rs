//! UDP without a gateway: a server, and a client's question from an address that nobody has.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::expect::{DEADLINE, within};
use crate::netns::Namespace;

/// A UDP server that answers every question.
#[derive(Debug)]
pub struct UdpTarget {
    socket: UdpSocket,
    address: SocketAddr,
}

impl UdpTarget {
    /// Takes `address` in `namespace`; port 0 lets the kernel choose.
    ///
    /// # Panics
    ///
    /// If the address is not to be had there.
    #[track_caller]
    pub fn listen(namespace: &Namespace, address: SocketAddr) -> Self {
        let socket = namespace
            .run(|| UdpSocket::bind(address))
            .unwrap_or_else(|error| panic!("{}: taking {address}: {error}", namespace.name()));
        socket.set_nonblocking(true).expect("a socket");
        let address = socket.local_addr().expect("bound");
        Self { socket, address }
    }

    /// The address it has.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Expects that a question from `client`, asked in `namespace`, is seen as the client's, and that the answer comes
    /// back to a socket that takes answers from there only.
    ///
    /// # Panics
    ///
    /// If it does not happen.
    #[track_caller]
    pub fn expect_answers(&self, namespace: &Namespace, client: SocketAddr) {
        self.ask(namespace, client, DEADLINE)
            .unwrap_or_else(|what| panic!("{client} asks {} over UDP: {what}", self.address));
    }

    /// Expects that the question is seen, and that no answer finds its way back.
    ///
    /// # Panics
    ///
    /// If one does.
    #[track_caller]
    pub fn expect_no_way_back(&self, namespace: &Namespace, client: SocketAddr) {
        let what = self.ask(namespace, client, BRIEFLY).expect_err("nothing brings the answer back");
        assert_eq!(what, "no answer", "{client} asks {}", self.address);
    }

    fn ask(&self, namespace: &Namespace, client: SocketAddr, patience: Duration) -> Result<(), String> {
        let asking = namespace
            .run(|| {
                spoofed(client, self.address).and_then(|socket| socket.set_nonblocking(true).map(|()| socket))
            })
            .map_err(|error| error.to_string())?;
        let mut seen = false;
        let answered = within(patience, || {
            // Asked again each time round: the first may wait for a neighbour's address.
            asking.send(b"question").ok();
            let mut buffer = [0; 64];
            while let Ok((length, peer)) = self.socket.recv_from(&mut buffer) {
                assert_eq!((&buffer[..length], peer), (&b"question"[..], client), "what the server sees");
                seen = true;
                self.socket.send_to(b"answer", peer).ok();
            }
            match asking.recv(&mut buffer) {
                Ok(length) => {
                    assert_eq!(&buffer[..length], b"answer");
                    Some(())
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                // What an ICMP error said about an earlier question.
                Err(_) => None,
            }
        });
        match (answered, seen) {
            (Some(()), _) => Ok(()),
            (None, true) => Err("no answer".to_owned()),
            (None, false) => Err("the question does not arrive".to_owned()),
        }
    }
}

/// A socket bound to an address that is not this namespace's and connected to `target`, as a gateway makes it.
///
/// # Errors
///
/// What the kernel said; it takes `CAP_NET_RAW` or `CAP_NET_ADMIN`.
pub fn spoofed(client: SocketAddr, target: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(client), Type::DGRAM, None)?;
    match client {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
    }
    socket.bind(&client.into())?;
    socket.connect(&target.into())?;
    Ok(socket.into())
}

/// Long beside a datagram's way through one kernel.
const BRIEFLY: Duration = Duration::from_millis(300);
