//! Connections to a target: from the client's address, or from the gateway's own.

mod bind;
mod error;

use std::fmt;
use std::future::ready;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::num::NonZeroU32;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::time::{Instant, timeout_at};

use crate::addr::{Family, SpoofSource, TargetAddr};
use crate::config::{DialOptions, SourcePort};
use crate::errno;
use crate::netns::{Lifeline, Namespace, NamespaceGone, TargetNamespace};
use crate::sys::watch;
use crate::tcp::socket::{SocketOptions, Watched, keep_alive};

pub use error::{Action, DialError};

/// Connects to `target` so that it sees `client`.
///
/// Needs `CAP_NET_RAW` or `CAP_NET_ADMIN`, a return path for the answers, and with
/// [`SourcePort::Keep`] `CAP_NET_BIND_SERVICE` for clients with a privileged port, and `CAP_NET_ADMIN` for those whose
/// port a listener on every address of this host has. The deadline of `options`
/// covers a second attempt from another port.
///
/// # Errors
///
/// [`DialError`] names the step, the addresses and the cure.
pub async fn connect_spoofed(
    client: SpoofSource,
    target: TargetAddr,
    options: &DialOptions,
) -> Result<Dialed, DialError> {
    watched_over(spoofed(client, target, options).await?, target, options)
}

/// The same without probes, for a caller who asks for them when the connection has lived for a while.
pub(crate) async fn spoofed(
    client: SpoofSource,
    target: TargetAddr,
    options: &DialOptions,
) -> Result<Dialed, DialError> {
    spoofable(client, target)?;
    let dial = Dial::new(target, options)?;
    let known = client.addr().port();
    let (stream, client_port) = match (options.source_port, known) {
        (SourcePort::Keep, 0) => return Err(DialError::PortUnknown { client }),
        (SourcePort::Keep, _) => (dial.spoof(client, known).await?, ClientPort::Kept),
        (SourcePort::Ephemeral, _) | (SourcePort::Prefer, 0) => {
            (dial.spoof(client, 0).await?, ClientPort::Ephemeral)
        }
        (SourcePort::Prefer, _) => match dial.spoof(client, known).await {
            Ok(stream) => (stream, ClientPort::Kept),
            Err(DialError::PortUnavailable { conflict, .. }) => {
                (dial.spoof(client, 0).await?, ClientPort::Fallback(conflict))
            }
            Err(error) => return Err(error),
        },
    };
    // Asked for even where the port was kept: connect(2) replaces a source that is a network's broadcast address.
    let dialed = dial.done(stream, Some(client_port))?;
    if dialed.bound.ip() != client.ip() {
        return Err(unusable(client));
    }
    Ok(dialed)
}

/// Connects to `target` from the gateway's own address, without mark.
///
/// # Errors
///
/// [`DialError`] names the step, the addresses and the cure.
pub async fn connect_plain(target: TargetAddr, options: &DialOptions) -> Result<Dialed, DialError> {
    watched_over(plain(target, options).await?, target, options)
}

/// The same without probes, for a caller who asks for them when the connection has lived for a while.
pub(crate) async fn plain(target: TargetAddr, options: &DialOptions) -> Result<Dialed, DialError> {
    let dial = Dial::new(target, options)?;
    let stream = dial.connect(dial.socket().await?, None).await?;
    dial.done(stream, None)
}

/// Has the kernel probe a connection, as `options` say.
fn watched_over(dialed: Dialed, target: TargetAddr, options: &DialOptions) -> Result<Dialed, DialError> {
    let probed = options.keepalive.map(|keepalive| keep_alive(&SockRef::from(dialed.stream()), keepalive));
    probed.transpose().map_err(|error| failed(target, options, Action::MakeSocket, error))?;
    Ok(dialed)
}

/// A connection to a target.
#[derive(Debug)]
#[non_exhaustive]
pub struct Dialed {
    pub(crate) stream: Watched,
    /// The address the target sees.
    pub bound: SocketAddr,
    /// What became of the client's port; `None` for a connection that is not spoofed.
    pub client_port: Option<ClientPort>,
    /// Hears when the namespace it was made in is gone, if that is another one than the caller's.
    pub(crate) lifeline: Option<Lifeline>,
}

impl Dialed {
    /// The connection, to look at it.
    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// The connection, non-blocking, without Nagle delay.
    pub fn into_std(self) -> TcpStream {
        self.stream.into_inner()
    }
}

/// What became of the client's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientPort {
    /// The target sees it.
    Kept,
    /// Any free one was asked for, or the header named none.
    Ephemeral,
    /// It was asked for, the kernel did not give it, and another one was taken.
    Fallback(PortConflict),
}

/// Why the kernel did not give the client's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortConflict {
    /// A listener on every address of this host, or a socket with the client's address, has it (EADDRINUSE), and
    /// `CAP_NET_ADMIN`, with which that is no obstacle, is missing.
    InUse,
    /// The same connection, client and target and both ports, lives already (EADDRNOTAVAIL from `connect`).
    Connected,
    /// It is below `net.ipv4.ip_unprivileged_port_start` and `CAP_NET_BIND_SERVICE` is missing (EACCES).
    Privileged,
}

impl PortConflict {
    /// Every conflict.
    pub const ALL: [Self; 3] = [Self::InUse, Self::Connected, Self::Privileged];

    /// Name in logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::InUse => "in_use",
            Self::Connected => "connected",
            Self::Privileged => "privileged",
        }
    }
}

impl fmt::Display for PortConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InUse => {
                "a socket of this host has the port, which takes CAP_NET_ADMIN to use all the same"
            }
            Self::Connected => "the same connection lives already",
            Self::Privileged => "privileged ports need CAP_NET_BIND_SERVICE",
        })
    }
}

/// One or two attempts to reach a target within one deadline.
struct Dial<'a> {
    target: TargetAddr,
    options: &'a DialOptions,
    deadline: Instant,
    /// Where its sockets are made, if not on the calling thread.
    namespace: Option<Namespace>,
}

impl<'a> Dial<'a> {
    fn new(target: TargetAddr, options: &'a DialOptions) -> Result<Self, NamespaceGone> {
        let namespace = options.namespace.as_ref().map(TargetNamespace::present).transpose()?;
        Ok(Self { target, options, deadline: Instant::now() + options.timeout, namespace })
    }

    /// Connects from `client` with `port`; 0 leaves the port to the kernel.
    async fn spoof(&self, client: SpoofSource, port: u16) -> Result<Watched, DialError> {
        let socket = self.transparent_socket(client.family()).await?;
        if port == 0 {
            // Else bind takes a port for this address alone, and one range has to do for all targets.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)
                .map_err(|errno| self.failed(Action::MakeSocket, errno.into()))?;
        }
        let source = SocketAddr::new(client.ip(), port);
        bind::source(&socket, source)
            .map_err(|error| not_bound(client, port, error, |error| self.failed(Action::Bind, error)))?;
        self.connect(socket, Some((client, port))).await
    }

    async fn transparent_socket(&self, family: Family) -> Result<Socket, DialError> {
        let socket = self.socket().await?;
        transparent(&socket, family, self.options.mark_of(family))
            .map_err(|(action, error)| self.failed(action, error))?;
        // One client address and port can then be toward several targets at a time, and toward one target again
        // while the connection before is in TIME_WAIT.
        socket.set_reuse_address(true).map_err(|error| self.failed(Action::MakeSocket, error))?;
        Ok(socket)
    }

    /// A non-blocking TCP socket; never MPTCP, whose further paths would come from the gateway's own addresses.
    async fn socket(&self) -> Result<Socket, DialError> {
        let domain = match self.target.family() {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let make = move || Socket::new(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP));
        // The namespace of a socket is that of the thread that makes it; nothing else has to happen there.
        let made = match &self.namespace {
            Some(namespace) if namespace.is_elsewhere() => {
                let made = namespace.run(move || ready(make()));
                Box::pin(timeout_at(self.deadline, made)).await.map_err(|_| self.timed_out())??
            }
            Some(_) | None => make(),
        };
        let socket = made.map_err(|error| self.failed(Action::MakeSocket, error))?;
        SocketOptions::from(self.options)
            .set(&SockRef::from(&socket))
            .map_err(|error| self.failed(Action::MakeSocket, error))?;
        Ok(socket)
    }

    async fn connect(&self, socket: Socket, from: Option<(SpoofSource, u16)>) -> Result<Watched, DialError> {
        let connected = match socket.connect(&self.target.addr().into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => match watch::connection(socket.into()) {
                // A target on this host has answered by now: asking is cheaper than waiting for the word of it.
                Ok(stream) if stream.get_ref().peer_addr().is_ok() => Ok(stream),
                Ok(stream) => match Box::pin(timeout_at(self.deadline, established(&stream))).await {
                    Ok(established) => established.map(|()| stream),
                    Err(_) => return Err(self.timed_out()),
                },
                Err(error) => Err(error),
            },
        };
        connected.map_err(|error| match (error.raw_os_error(), from) {
            (Some(libc::EADDRNOTAVAIL), Some((client, port))) if port != 0 => {
                DialError::PortUnavailable { client, conflict: PortConflict::Connected, error }
            }
            (Some(libc::EINVAL), Some((client, _))) => DialError::SourceUnusable { client, error },
            _ => self.failed(Action::Connect, error),
        })
    }

    fn failed(&self, action: Action, error: io::Error) -> DialError {
        failed(self.target, self.options, action, error)
    }

    const fn timed_out(&self) -> DialError {
        DialError::TimedOut { target: self.target, limit: self.options.timeout }
    }

    fn done(&self, stream: Watched, client_port: Option<ClientPort>) -> Result<Dialed, DialError> {
        let bound = stream.get_ref().local_addr().map_err(|error| self.failed(Action::Connect, error))?;
        Ok(Dialed { stream, bound, client_port, lifeline: self.namespace.as_ref().map(Namespace::lifeline) })
    }
}

/// Whether a socket of `client` can be connected to `target` at all.
pub(crate) fn spoofable(client: SpoofSource, target: TargetAddr) -> Result<(), DialError> {
    if client.family() != target.family() {
        return Err(DialError::Families { client, target });
    }
    // Where policy lets these through: the kernel takes them in bind and then connects from an address of its
    // own choice (`inet_bind`: "Use device"), 127.0.0.1 toward a loopback target.
    if client.ip().is_unspecified() || client.ip().is_multicast() || client.ip() == Ipv4Addr::BROADCAST {
        return Err(unusable(client));
    }
    Ok(())
}

/// Makes `socket` one that may be bound to anybody's address, and marks it.
pub(crate) fn transparent(
    socket: &Socket,
    family: Family,
    mark: Option<NonZeroU32>,
) -> Result<(), (Action, io::Error)> {
    match family {
        Family::V4 => socket.set_ip_transparent_v4(true),
        Family::V6 => socket.set_ip_transparent_v6(true),
    }
    .map_err(|error| (Action::UseForeignAddress, error))?;
    mark.map_or(Ok(()), |mark| socket.set_mark(mark.get())).map_err(|error| (Action::Mark, error))
}

/// What an `error` of bind(2) to the address of `client` and `port` means; `other` says it where neither is the cause.
pub(crate) fn not_bound(
    client: SpoofSource,
    port: u16,
    error: io::Error,
    other: impl FnOnce(io::Error) -> DialError,
) -> DialError {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) if port != 0 => {
            DialError::PortUnavailable { client, conflict: PortConflict::InUse, error }
        }
        Some(libc::EACCES) if port != 0 => {
            DialError::PortUnavailable { client, conflict: PortConflict::Privileged, error }
        }
        Some(libc::EINVAL | libc::EADDRNOTAVAIL) => DialError::SourceUnusable { client, error },
        _ => other(error),
    }
}

/// What `error` means where neither the client nor its port can be the cause.
pub(crate) fn failed(
    target: TargetAddr,
    options: &DialOptions,
    action: Action,
    error: io::Error,
) -> DialError {
    match error.raw_os_error() {
        // EPIPE: it accepted, ended and reset before the connection was seen to come about.
        Some(libc::ECONNREFUSED | libc::ECONNRESET | libc::EPIPE) => DialError::Refused { target, error },
        Some(libc::ETIMEDOUT) => DialError::TimedOut { target, limit: options.timeout },
        // No port is free for this pair of addresses.
        Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE | libc::EAGAIN) => DialError::Exhausted { action, error },
        _ if errno::is_exhausted(&error) => DialError::Exhausted { action, error },
        _ if errno::is_forbidden(&error) => DialError::NotPermitted { action, error },
        _ => DialError::Unreachable { target, error },
    }
}

/// Returns when the connection stands, or why it does not.
async fn established(stream: &Watched) -> io::Result<()> {
    drop(stream.writable().await?);
    stream.get_ref().take_error()?.map_or(Ok(()), Err)
}

fn unusable(client: SpoofSource) -> DialError {
    DialError::SourceUnusable { client, error: io::Error::from_raw_os_error(libc::EADDRNOTAVAIL) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::CloseReason;

    #[test]
    fn what_connect_says_is_told_apart_by_whom_it_concerns() {
        let options = DialOptions::new();
        let target = TargetAddr::new("127.0.0.1:22".parse().unwrap()).unwrap();
        let dial = Dial::new(target, &options).expect("no other namespace is asked for");
        for (errnos, reason) in [
            (&[libc::ECONNREFUSED, libc::ECONNRESET, libc::EPIPE][..], CloseReason::TargetRefused),
            (&[libc::ETIMEDOUT], CloseReason::TargetTimeout),
            (
                &[libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ENETDOWN, libc::EAFNOSUPPORT],
                CloseReason::TargetUnreachable,
            ),
            (&[libc::EPERM, libc::EACCES], CloseReason::NotPermitted),
            (
                &[libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL, libc::EAGAIN],
                CloseReason::OutOfResources,
            ),
        ] {
            for errno in errnos {
                let error = dial.failed(Action::Connect, errno::os(*errno));
                assert_eq!(error.reason(), reason, "errno {errno}: {error:?}");
            }
        }
    }
}
