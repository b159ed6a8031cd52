//! Listening, and accepting in a loop that no peer can end.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::addr::{PeerAddr, unmapped};
use crate::errno;
use crate::observer::{AcceptPaused, Observer};
use crate::rate::RateLimited;

/// A socket that listens and is not served yet.
///
/// Made before a runtime exists or privileges are dropped, or handed over by another process.
#[derive(Debug)]
pub struct Listener {
    socket: StdListener,
    address: SocketAddr,
    /// Accepted connections have local addresses of their own, not `address`.
    transparent: bool,
}

impl Listener {
    /// Default length of the backlog: connections the kernel completes before they are accepted. The kernel cuts
    /// it to `net.core.somaxconn`.
    pub const BACKLOG: u32 = 1024;

    /// Listens on `address`; `[::]` takes IPv4 as well, port 0 takes any free port.
    ///
    /// The port can be taken again at once after a restart (`SO_REUSEADDR`).
    ///
    /// # Errors
    ///
    /// [`BindError`] with the address and what the kernel said.
    pub fn bind(address: SocketAddr, backlog: u32) -> Result<Self, BindError> {
        let listening = || {
            let socket = Self::socket(address)?;
            Self::listen(socket, address, backlog, false)
        };
        listening().map_err(|error| BindError { address, error })
    }

    /// Listens on `address` and takes connections to other addresses and ports too, which a TPROXY rule of the
    /// firewall sends here: a whole range of ports with one listener.
    ///
    /// Needs `CAP_NET_RAW` or `CAP_NET_ADMIN` (`IP_TRANSPARENT`, ip(7)).
    ///
    /// # Errors
    ///
    /// [`BindError`] with the address and what the kernel said; `PermissionDenied` without the capability.
    pub fn bind_transparent(address: SocketAddr, backlog: u32) -> Result<Self, BindError> {
        let listening = || {
            let socket = Self::socket(address)?;
            match address {
                SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
                SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
            }
            Self::listen(socket, address, backlog, true)
        };
        listening().map_err(|error| BindError { address, error })
    }

    /// Takes over a listening socket, for example one that a service manager passed (`LISTEN_FDS`).
    ///
    /// # Errors
    ///
    /// What the kernel said when it was asked for the socket's address, or that it does not listen.
    pub fn from_std(socket: StdListener) -> io::Result<Self> {
        if !SockRef::from(&socket).is_listener()? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen"));
        }
        let passed = SockRef::from(&socket);
        let transparent = match passed.domain()? {
            Domain::IPV6 => passed.ip_transparent_v6()?,
            _ => passed.ip_transparent_v4()?,
        };
        Self::adopt(socket, transparent)
    }

    /// Where it listens, with the real port where 0 was asked for.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn socket(address: SocketAddr) -> io::Result<Socket> {
        // Not MPTCP: a peer that could only be reached by it has no business here, and every other one would pay
        // for it.
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        Ok(socket)
    }

    fn listen(socket: Socket, address: SocketAddr, backlog: u32, transparent: bool) -> io::Result<Self> {
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Self::adopt(socket.into(), transparent)
    }

    fn adopt(socket: StdListener, transparent: bool) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, transparent })
    }
}

impl From<Listener> for StdListener {
    fn from(listener: Listener) -> Self {
        listener.socket
    }
}

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// What the kernel said: in use, not this host's, privileged port, no such family.
    #[source]
    pub error: io::Error,
}

/// A listener in the hands of the runtime.
pub(crate) struct Acceptor {
    listener: TcpListener,
    address: SocketAddr,
    transparent: bool,
    pauses: RateLimited,
}

impl Acceptor {
    /// # Errors
    ///
    /// The runtime cannot watch the socket.
    pub(crate) fn new(listener: Listener) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::from_std(listener.socket)?,
            address: listener.address,
            transparent: listener.transparent,
            pauses: RateLimited::per_minute(),
        })
    }

    /// The address that the peer of `stream` connected to.
    pub(crate) fn reached_by(&self, stream: &TcpStream) -> SocketAddr {
        let own = self.transparent.then(|| stream.local_addr().ok()).flatten();
        own.map_or(self.address, unmapped)
    }

    /// The next connection, however many fail before it. Can be dropped and called again.
    ///
    /// # Errors
    ///
    /// The listener itself is unusable, for good.
    pub(crate) async fn accept(&mut self, observer: &dyn Observer) -> io::Result<(TcpStream, PeerAddr)> {
        let mut lost = 0;
        loop {
            let error = match self.listener.accept().await {
                Ok((stream, address)) => return Ok((stream, PeerAddr::new(address))),
                Err(error) => error,
            };
            match Trouble::of(&error) {
                Trouble::Connection if lost < LOST_IN_A_ROW => lost += 1,
                // Trying again at once would spin: a connection that could not be accepted for want of a
                // descriptor is still in the backlog.
                Trouble::Connection | Trouble::Machine => {
                    self.tell_paused(&error, observer);
                    sleep(PAUSE).await;
                }
                Trouble::Listener => return Err(error),
            }
        }
    }

    fn tell_paused(&mut self, error: &io::Error, observer: &dyn Observer) {
        if let Some(held_back) = self.pauses.admit(Instant::now()) {
            observer.accept_paused(&AcceptPaused { listener: self.address, error, held_back });
        }
    }
}

/// What a failed `accept(2)` is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// One connection: the next one is unaffected.
    Connection,
    /// Out of something, or unheard of: wait, then go on.
    Machine,
    /// The listener: no accept can succeed any more.
    Listener,
}

impl Trouble {
    fn of(error: &io::Error) -> Self {
        if errno::is_no_listener(error) {
            Self::Listener
        } else if errno::is_lost_connection(error) {
            Self::Connection
        } else {
            Self::Machine
        }
    }
}

/// Pause after a failed accept: short against a connection time-out, long against the time that closing a
/// session takes.
const PAUSE: Duration = Duration::from_millis(50);

/// So many connections lost without one accepted are no accident of the network any more.
const LOST_IN_A_ROW: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use nix::libc;

    #[test]
    fn only_a_broken_listener_ends_the_loop() {
        for errno in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK] {
            assert_eq!(Trouble::of(&errno::os(errno)), Trouble::Listener);
        }
        // accept(2): "network errors … should be treated like EAGAIN by retrying".
        for errno in [
            libc::ECONNABORTED,
            libc::EPROTO,
            libc::ENETDOWN,
            libc::ENOPROTOOPT,
            libc::EHOSTDOWN,
            libc::ENONET,
            libc::EHOSTUNREACH,
            libc::ENETUNREACH,
            libc::EPERM,
            libc::EINTR,
        ] {
            assert_eq!(Trouble::of(&errno::os(errno)), Trouble::Connection);
        }
        // The last one: an error nobody thought of neither ends the service nor spins.
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::ENOSPC, libc::EXFULL] {
            assert_eq!(Trouble::of(&errno::os(errno)), Trouble::Machine);
        }
    }

    #[test]
    fn an_address_in_use_is_named() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap(), 1).expect("a free port");
        let error = Listener::bind(first.local_addr(), 1).expect_err("taken");
        assert_eq!(error.to_string(), format!("cannot listen on {}", first.local_addr()));
        assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_wildcard_ipv6_listener_takes_ipv4_as_well() {
        let listener = Listener::bind("[::]:0".parse().unwrap(), Listener::BACKLOG).expect("a free port");
        let port = listener.local_addr().port();
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).expect("IPv4 client");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut acceptor = Acceptor::new(listener).expect("registered");
            let (_, peer) = acceptor.accept(&crate::observer::Unobserved).await.expect("a connection");
            assert_eq!(peer.addr(), client.local_addr().unwrap());
        });
    }

    #[test]
    fn a_socket_that_does_not_listen_is_not_adopted() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert_eq!(Listener::from_std(socket.into()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
