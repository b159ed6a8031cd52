//! Sockets that a service manager listens on already and hands over at the start (`sd_listen_fds(3)`).

use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use tracing::warn;

/// What was handed over and is nobody's yet.
#[derive(Debug, Default)]
pub(crate) struct Activated {
    listeners: Vec<(SocketAddr, TcpListener)>,
}

impl Activated {
    /// Takes over what is meant for this process (`LISTEN_PID`, `LISTEN_FDS`).
    pub(crate) fn from_environment() -> Self {
        let mut handed = ListenFd::from_env();
        let mut listeners = Vec::new();
        for place in 0..handed.len() {
            match handed.take_tcp_listener(place) {
                Ok(Some(listener)) => match listener.local_addr() {
                    Ok(address) => listeners.push((address, listener)),
                    Err(error) => warn!(place, %error, "a socket that was handed over cannot be used"),
                },
                Ok(None) => {}
                Err(error) => warn!(place, %error, "a socket that was handed over cannot be used"),
            }
        }
        Self { listeners }
    }

    /// The one that listens on `address`.
    pub(crate) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let place = self.listeners.iter().position(|(known, _)| *known == address)?;
        Some(self.listeners.swap_remove(place).1)
    }

    /// Says which are for nobody: connections to them would wait for ever, so they are closed.
    pub(crate) fn close_rest(&mut self) {
        for (address, _) in self.listeners.drain(..) {
            warn!(%address, "the service manager listens on an address that no service has: it is closed");
        }
    }
}
