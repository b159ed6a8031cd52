//! The server behind the gateway, played by the test.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;

use crate::connection::{Connection, SMALL_BUFFER};
use crate::expect::{eventually, within};
use crate::netns::Namespace;

/// A TCP server that knows nothing of PROXY: what it sees is what any program behind the gateway would see.
#[derive(Debug)]
pub struct Target {
    listener: Arc<TcpListener>,
    address: SocketAddr,
}

impl Target {
    /// Listens on `address` in `namespace`; port 0 lets the kernel choose.
    ///
    /// # Panics
    ///
    /// If the address is not to be had there.
    #[track_caller]
    pub fn listen(namespace: &Namespace, address: SocketAddr) -> Self {
        let listener = namespace.run(|| TcpListener::bind(address));
        let listener =
            listener.unwrap_or_else(|error| panic!("{}: listening on {address}: {error}", namespace.name()));
        // accept(2) must not wait for ever for a connection that never comes.
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound");
        Self { listener: Arc::new(listener), address }
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes connections accepted from now on have a small receive buffer.
    pub fn with_small_buffers(self) -> Self {
        SockRef::from(&self.listener).set_recv_buffer_size(SMALL_BUFFER).expect("a TCP socket");
        self
    }

    /// The next connection.
    ///
    /// # Panics
    ///
    /// If none comes.
    #[track_caller]
    pub fn accept(&self) -> Connection {
        eventually("the gateway to connect to the target", || self.try_accept())
    }

    /// The next connection, if one comes within `patience`.
    pub fn accept_within(&self, patience: Duration) -> Option<Connection> {
        within(patience, || self.try_accept())
    }

    /// Expects that no connection has come that was not accepted.
    ///
    /// Says something only once the gateway is known to have decided: ask after it has closed the balancer's
    /// connection, or has read what it would have decided on.
    #[track_caller]
    pub fn expect_untouched(&self) {
        if let Some(connection) = self.try_accept() {
            panic!("the target was not to be connected to, but sees {}", connection.peer());
        }
    }

    /// The listening socket, for a gateway that clears it of what its self-check left there.
    pub(crate) fn listener(&self) -> Arc<TcpListener> {
        Arc::clone(&self.listener)
    }

    /// The next connection, if one has come.
    ///
    /// # Panics
    ///
    /// If the listening socket is broken.
    #[track_caller]
    pub fn try_accept(&self) -> Option<Connection> {
        try_accept(&self.listener)
    }
}

/// The next connection of a listening socket that does not block, if there is one.
#[track_caller]
pub(crate) fn try_accept(listener: &TcpListener) -> Option<Connection> {
    match listener.accept() {
        Ok((stream, peer)) => {
            stream.set_nonblocking(false).expect("a socket");
            Some(Connection::new(stream, peer, None))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("accept: {error}"),
    }
}
