//! Sockets that listen, one or several on an address.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// A socket that listens and is not served yet.
///
/// Made before a runtime exists or privileges are dropped, or handed over by another process.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: StdListener,
    pub(super) address: SocketAddr,
    /// Accepted connections have local addresses of their own, not `address`.
    pub(super) transparent: bool,
}

impl Listener {
    /// Default length of the backlog: connections the kernel completes before they are accepted. The kernel cuts
    /// it to `net.core.somaxconn`.
    pub const BACKLOG: u32 = 1024;

    /// Listens on `address` as [`bind_with`](Self::bind_with) does, with a backlog and the other options' defaults.
    ///
    /// # Errors
    ///
    /// [`BindError`] with the address and what the kernel said.
    pub fn bind(address: SocketAddr, backlog: u32) -> Result<Self, BindError> {
        Self::bind_with(address, ListenOptions::new().backlog(backlog))
    }

    /// Listens on `address`; port 0 takes any free port.
    ///
    /// The port can be taken again at once after a restart (`SO_REUSEADDR`).
    ///
    /// # Errors
    ///
    /// [`BindError`] with the address and what the kernel said; `PermissionDenied` for a transparent one without the
    /// capability.
    pub fn bind_with(address: SocketAddr, options: ListenOptions) -> Result<Self, BindError> {
        let listening = || {
            let socket = Self::socket(address, options)?;
            Self::listen(socket, address, options)
        };
        listening().map_err(|error| BindError { address, error })
    }

    /// One more listener on the same address, for another thread: the kernel gives each connection to one of them, by
    /// a hash of its addresses and ports (`SO_REUSEPORT`).
    ///
    /// `self` was bound alone, so nobody else had the address then. From here on programs of the same user that ask
    /// for `SO_REUSEPORT` could join; another gateway does not, because it binds its first listener alone.
    ///
    /// # Errors
    ///
    /// [`BindError`] with the address and what the kernel said.
    pub fn share(&self, backlog: u32) -> Result<Self, BindError> {
        let sharing = || {
            let first = SockRef::from(&self.socket);
            first.set_reuse_port(true)?;
            let options = ListenOptions {
                backlog,
                transparent: self.transparent,
                ipv6_alone: self.address.is_ipv6() && first.only_v6()?,
            };
            let socket = Self::socket(self.address, options)?;
            socket.set_reuse_port(true)?;
            Self::listen(socket, self.address, options)
        };
        sharing().map_err(|error| BindError { address: self.address, error })
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

    fn socket(address: SocketAddr, options: ListenOptions) -> io::Result<Socket> {
        // Not MPTCP: a peer that could only be reached by it has no business here, and every other one would pay
        // for it.
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(options.ipv6_alone)?;
        }
        socket.set_reuse_address(true)?;
        if options.transparent {
            set_transparent(&socket, address)?;
        }
        Ok(socket)
    }

    fn listen(socket: Socket, address: SocketAddr, options: ListenOptions) -> io::Result<Self> {
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        Self::adopt(socket.into(), options.transparent)
    }

    fn adopt(socket: StdListener, transparent: bool) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, transparent })
    }
}

/// How a [`Listener`] listens. Starts with the defaults named at each setter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    backlog: u32,
    transparent: bool,
    ipv6_alone: bool,
}

impl ListenOptions {
    /// The defaults named at each setter.
    pub const fn new() -> Self {
        Self { backlog: Listener::BACKLOG, transparent: false, ipv6_alone: false }
    }

    /// How many connections wait to be accepted. Default: [`Listener::BACKLOG`].
    #[must_use]
    pub const fn backlog(mut self, backlog: u32) -> Self {
        self.backlog = backlog;
        self
    }

    /// Whether connections to other addresses and ports are taken too, which a TPROXY rule of the firewall sends here: a
    /// whole range of ports with one listener. Default: no.
    ///
    /// Needs `CAP_NET_RAW` or `CAP_NET_ADMIN` (`IP_TRANSPARENT`, ip(7)).
    #[must_use]
    pub const fn transparent(mut self, transparent: bool) -> Self {
        self.transparent = transparent;
        self
    }

    /// Whether `[::]` leaves IPv4 to others, for a listener of that family on the same port (`IPV6_V6ONLY`, ipv6(7)).
    /// Default: no, it takes both.
    #[must_use]
    pub const fn ipv6_alone(mut self, ipv6_alone: bool) -> Self {
        self.ipv6_alone = ipv6_alone;
        self
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self::new()
    }
}

fn set_transparent(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
}

/// For whoever hands the socket to another process.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn an_address_in_use_is_named() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap(), 1).expect("a free port");
        let error = Listener::bind(first.local_addr(), 1).expect_err("taken");
        assert_eq!(error.to_string(), format!("cannot listen on {}", first.local_addr()));
        assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn both_families_have_one_port_where_ipv6_is_alone_also_among_those_who_share_it() {
        let first = Listener::bind("0.0.0.0:0".parse().unwrap(), 1).expect("a free port");
        let address: SocketAddr = (std::net::Ipv6Addr::UNSPECIFIED, first.local_addr().port()).into();
        let refused = Listener::bind(address, 1).expect_err("it takes IPv4 as well");
        assert_eq!(refused.error.kind(), io::ErrorKind::AddrInUse);
        let alone =
            Listener::bind_with(address, ListenOptions::new().ipv6_alone(true)).expect("the other family");
        alone.share(1).expect("another thread's");
    }

    #[test]
    fn listeners_that_share_an_address_share_its_connections_and_keep_everybody_else_out() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap(), 1).expect("a free port");
        let address = first.local_addr();
        let group = [first.share(1).expect("another"), first.share(1).expect("a third"), first];
        assert!(group.iter().all(|listener| listener.local_addr() == address));
        // Another gateway begins like this one did.
        let refused = Listener::bind(address, 1).expect_err("taken");
        assert_eq!(refused.error.kind(), io::ErrorKind::AddrInUse);

        // Connections go to all of them, including the one that was bound alone: each of 300 has a port of its own.
        let mut counts = [0_u32; 3];
        for _ in 0..300 {
            let client = TcpStream::connect(address).unwrap();
            // The handshake is done, so it is in one of the queues.
            let taken = group.iter().position(|listener| listener.socket.accept().is_ok());
            counts[taken.expect("a listener has it")] += 1;
            drop(client);
        }
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }

    #[test]
    fn a_socket_that_does_not_listen_is_not_adopted() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert_eq!(Listener::from_std(socket.into()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
