//! The load balancer, played by the test.

use std::io;
use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Protocol, Socket, Type};

use crate::connection::{Connection, Ends};
use crate::expect::DEADLINE;
use crate::topology::Topology;

/// Connects to the gateway from the balancer's addresses. What it then sends is the test's affair; see
/// [`header`](crate::header).
#[derive(Clone, Debug)]
pub struct Balancer {
    ends: Ends,
}

impl Balancer {
    /// The balancer of `net`.
    pub fn of(net: &Topology) -> Self {
        Self { ends: Ends { near: net.balancer.clone(), far: net.gateway.clone() } }
    }

    /// Connects to `gateway`.
    ///
    /// # Panics
    ///
    /// If nobody listens there.
    #[track_caller]
    pub fn connect(&self, gateway: SocketAddr) -> Connection {
        self.try_connect(gateway)
            .unwrap_or_else(|error| panic!("the balancer cannot connect to {gateway}: {error}"))
    }

    /// Connects to `gateway`, where nobody may listen.
    ///
    /// # Errors
    ///
    /// Those of connect(2).
    pub fn try_connect(&self, gateway: SocketAddr) -> io::Result<Connection> {
        let stream = self.ends.near.run(|| TcpStream::connect_timeout(&gateway, DEADLINE))?;
        Ok(Connection::new(stream, Some(self.ends.clone())))
    }

    /// Connects to `gateway` as a balancer that reads little at a time: its receive buffer is as small as the kernel
    /// makes it.
    ///
    /// # Panics
    ///
    /// If nobody listens there.
    #[track_caller]
    pub fn connect_with_small_buffer(&self, gateway: SocketAddr) -> Connection {
        let connected = self.ends.near.run(|| {
            let socket = Socket::new(Domain::for_address(gateway), Type::STREAM, Some(Protocol::TCP))?;
            // Before connecting, because the window is announced from the first segment on.
            socket.set_recv_buffer_size(1)?;
            socket.connect_timeout(&gateway.into(), DEADLINE)?;
            Ok::<_, io::Error>(TcpStream::from(socket))
        });
        let stream =
            connected.unwrap_or_else(|error| panic!("the balancer cannot connect to {gateway}: {error}"));
        Connection::new(stream, Some(self.ends.clone()))
    }

    /// Connects to `gateway`, sends `header` and `payload` in one piece, and returns the connection.
    ///
    /// # Panics
    ///
    /// If nobody listens there.
    #[track_caller]
    pub fn announce(&self, gateway: SocketAddr, header: &[u8], payload: &[u8]) -> Connection {
        let connection = self.connect(gateway);
        connection.send(&[header, payload].concat());
        connection
    }
}
