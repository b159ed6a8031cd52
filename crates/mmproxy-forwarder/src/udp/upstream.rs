//! Sockets to a target: each one flow's, from the client's address or the gateway's own.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::{MsgFlags, send};
use socket2::{Domain, Protocol, Socket, Type};

use crate::addr::{Family, SpoofSource, TargetAddr};
use crate::config::{DialOptions, SourcePort};
use crate::netns::Namespace;
use crate::tcp::dial::{
    Action, ClientPort, DialError, PortConflict, failed, not_bound, spoofable, transparent,
};
use crate::udp::endpoints::{Claim, Endpoints};

/// A connected socket to a target.
#[derive(Debug)]
pub(crate) struct Upstream {
    socket: Socket,
    /// The address the target sees.
    pub(crate) bound: SocketAddr,
    /// What became of the client's port; `None` for a socket that is not spoofed.
    pub(crate) client_port: Option<ClientPort>,
    /// Nobody else has the same addresses.
    _claim: Option<Claim>,
}

impl Upstream {
    /// Connects to `target` so that it sees `client`, or the gateway itself where there is none.
    ///
    /// Nothing is sent, so nobody is waited for, except for a thread in another namespace to make the socket.
    pub(crate) fn open(
        client: Option<SpoofSource>,
        target: TargetAddr,
        options: &DialOptions,
        namespace: Option<&Namespace>,
        endpoints: &Endpoints,
    ) -> Result<Self, DialError> {
        let dial = Dial { target, options, namespace, endpoints };
        let Some(client) = client else { return dial.plain() };
        spoofable(client, target)?;
        let known = client.addr().port();
        match (options.source_port, known) {
            (SourcePort::Keep, 0) => Err(DialError::PortUnknown { client }),
            (SourcePort::Keep, _) => dial.spoof(client, known, ClientPort::Kept),
            (SourcePort::Ephemeral, _) | (SourcePort::Prefer, 0) => {
                dial.spoof(client, 0, ClientPort::Ephemeral)
            }
            (SourcePort::Prefer, _) => match dial.spoof(client, known, ClientPort::Kept) {
                Err(DialError::PortUnavailable { conflict, .. }) => {
                    dial.spoof(client, 0, ClientPort::Fallback(conflict))
                }
                done => done,
            },
        }
    }

    /// Hands one datagram to the kernel. Never waits: `WouldBlock` if the socket is full.
    pub(crate) fn send(&self, payload: &[u8]) -> io::Result<()> {
        let send = || send(self.socket.as_raw_fd(), payload, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        send().map(drop).or_else(|errno| self.send_after(errno.into(), payload))
    }

    /// What there is to do when the kernel did not take a datagram: if `error` is about an earlier one and was reported
    /// in its place, sends it again.
    #[cold]
    pub(crate) fn send_after(&self, error: io::Error, payload: &[u8]) -> io::Result<()> {
        if !error.raw_os_error().is_some_and(is_reported_later) {
            return Err(error);
        }
        Ok(send(self.socket.as_raw_fd(), payload, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)
            .map(drop)?)
    }

    pub(crate) const fn socket(&self) -> &Socket {
        &self.socket
    }
}

/// Errors that ICMP brought for a datagram sent before.
const fn is_reported_later(errno: i32) -> bool {
    matches!(errno, libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN)
}

struct Dial<'a> {
    target: TargetAddr,
    options: &'a DialOptions,
    namespace: Option<&'a Namespace>,
    endpoints: &'a Endpoints,
}

impl Dial<'_> {
    fn plain(&self) -> Result<Upstream, DialError> {
        let socket = self.socket()?;
        socket.connect(&self.target.addr().into()).map_err(|error| self.failed(Action::Connect, error))?;
        self.done(socket, None, None)
    }

    /// Connects from `client` with `port`; 0 leaves the port to the kernel.
    fn spoof(&self, client: SpoofSource, port: u16, outcome: ClientPort) -> Result<Upstream, DialError> {
        let source = SocketAddr::new(client.ip(), port);
        let claim = match port {
            0 => None,
            _ => Some(self.endpoints.claim(source, self.target.addr()).ok_or_else(|| {
                let error = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
                DialError::PortUnavailable { client, conflict: PortConflict::Connected, error }
            })?),
        };
        let socket = self.socket()?;
        transparent(&socket, client.family(), self.options.mark_of(client.family()))
            .map_err(|(action, error)| self.failed(action, error))?;
        if port != 0 {
            // One client's port can then be toward several targets. Not for a port that the kernel is to choose: it
            // would choose one that is in use.
            socket.set_reuse_address(true).map_err(|error| self.failed(Action::MakeSocket, error))?;
        }
        socket
            .bind(&source.into())
            .map_err(|error| not_bound(client, port, error, |error| self.failed(Action::Bind, error)))?;
        socket.connect(&self.target.addr().into()).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => DialError::SourceUnusable { client, error },
            _ => self.failed(Action::Connect, error),
        })?;
        let upstream = self.done(socket, Some(outcome), claim)?;
        if upstream.bound.ip() != client.ip() {
            return Err(DialError::SourceUnusable {
                client,
                error: io::Error::from_raw_os_error(libc::EADDRNOTAVAIL),
            });
        }
        Ok(upstream)
    }

    fn socket(&self) -> Result<Socket, DialError> {
        let domain = match self.target.family() {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let make = move || Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP));
        // The namespace of a socket is that of the thread that makes it; nothing else has to happen there.
        let made = match self.namespace {
            Some(namespace) => namespace.run_blocking(make)?,
            None => make(),
        };
        made.map_err(|error| self.failed(Action::MakeSocket, error))
    }

    fn done(
        &self,
        socket: Socket,
        client_port: Option<ClientPort>,
        claim: Option<Claim>,
    ) -> Result<Upstream, DialError> {
        let bound = socket.local_addr().map_err(|error| self.failed(Action::Connect, error))?;
        let bound = bound
            .as_socket()
            .ok_or_else(|| self.failed(Action::Connect, io::Error::from_raw_os_error(libc::EAFNOSUPPORT)))?;
        Ok(Upstream { socket, bound, client_port, _claim: claim })
    }

    fn failed(&self, action: Action, error: io::Error) -> DialError {
        failed(self.target, self.options, action, error)
    }
}
