//! The load balancer, played by the test.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Protocol, Socket, Type};

use crate::connection::{Connection, Ends, SMALL_BUFFER};
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
        Ok(Connection::new(stream, gateway, Some(self.ends.clone())))
    }

    /// Connects to `gateway` as a balancer that reads little at a time: its receive buffer is small.
    ///
    /// # Panics
    ///
    /// If nobody listens there.
    #[track_caller]
    pub fn connect_with_small_buffer(&self, gateway: SocketAddr) -> Connection {
        let connected = self.ends.near.run(|| {
            let socket = Socket::new(Domain::for_address(gateway), Type::STREAM, Some(Protocol::TCP))?;
            // Before connecting, because the window is announced from the first segment on.
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
            socket.connect_timeout(&gateway.into(), DEADLINE)?;
            Ok::<_, io::Error>(TcpStream::from(socket))
        });
        let stream =
            connected.unwrap_or_else(|error| panic!("the balancer cannot connect to {gateway}: {error}"));
        Connection::new(stream, gateway, Some(self.ends.clone()))
    }

    /// Connects to `gateway` and sends `bytes`, and expects to be turned away whether they are sent or not.
    ///
    /// # Panics
    ///
    /// If anything is answered, or nothing happens.
    #[track_caller]
    pub fn expect_turned_away(&self, gateway: SocketAddr, bytes: &[u8]) {
        match self.try_connect(gateway) {
            Ok(connection) => {
                connection.offer(bytes);
                connection.expect_closed();
            }
            // It can be as quick as that: the reset is there before the connection is handed over.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the balancer cannot connect to {gateway}: {error}"),
        }
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
