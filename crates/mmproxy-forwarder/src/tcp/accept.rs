//! Accepting in a loop that no peer can end.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::SockRef;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::addr::{PeerAddr, unmapped};
use crate::errno;
use crate::observer::{AcceptPaused, Observer};
use crate::rate::RateLimited;
use crate::sys::watch;
use crate::tcp::listen::Listener;
use crate::tcp::socket::SocketOptions;

/// A listener in the hands of the runtime.
///
/// Connections inherit the options of the listening socket when they are completed, which saves setting them one by
/// one. Those that were completed before the gateway served miss them.
pub(crate) struct Acceptor {
    listener: AsyncFd<TcpListener>,
    address: SocketAddr,
    transparent: bool,
    options: SocketOptions,
    /// The queue was empty once since the options were set.
    inherited: bool,
    /// Accepted without a pause.
    row: u32,
    pauses: RateLimited,
}

/// A connection as it was accepted, non-blocking and with the options of a session; the runtime does not watch it yet.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: PeerAddr,
    /// Where the peer connected to, if that is not where the listener is.
    pub(crate) reached: Option<SocketAddr>,
}

impl Acceptor {
    /// # Errors
    ///
    /// The runtime cannot watch the socket.
    pub(crate) fn new(listener: Listener, options: SocketOptions) -> io::Result<Self> {
        options.set(&SockRef::from(&listener.socket))?;
        Ok(Self {
            listener: watch::connections(listener.socket)?,
            address: listener.address,
            transparent: listener.transparent,
            options,
            inherited: false,
            row: 0,
            pauses: RateLimited::per_minute(),
        })
    }

    /// The next connection, however many fail before it. Can be dropped and called again.
    ///
    /// # Errors
    ///
    /// The listener itself is unusable, for good.
    pub(crate) async fn accept(&mut self, observer: &dyn Observer) -> io::Result<Accepted> {
        let mut lost = 0;
        loop {
            if self.row >= ROW {
                self.row = 0;
                yield_now().await;
            }
            let error = match self.next().await {
                Ok((stream, address)) => {
                    self.row += 1;
                    match self.prepare(stream, address) {
                        Ok(accepted) => return Ok(accepted),
                        Err(error) => error,
                    }
                }
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

    async fn next(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        loop {
            let mut ready = self.listener.readable().await?;
            match ready.try_io(|listener| Ok(acceptfrom_with(listener, flags)?)) {
                Ok(accepted) => {
                    let (stream, address) = accepted?;
                    let address = address.map(SocketAddr::try_from);
                    // A connection without an IP address would be one of another kind of socket.
                    let address = address.and_then(Result::ok).ok_or(io::ErrorKind::ConnectionAborted)?;
                    return Ok((stream.into(), address));
                }
                // Whoever is completed from here on has inherited the options.
                Err(_) => (self.inherited, self.row) = (true, 0),
            }
        }
    }

    fn prepare(&self, stream: TcpStream, address: SocketAddr) -> io::Result<Accepted> {
        if !self.inherited {
            self.options.set(&SockRef::from(&stream))?;
        }
        let reached = self.transparent.then(|| stream.local_addr().ok()).flatten().map(unmapped);
        Ok(Accepted { stream, peer: PeerAddr::new(address), reached })
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

/// Connections accepted before the sessions of this thread have a turn.
const ROW: u32 = 32;

/// So many connections lost without one accepted are no accident of the network any more.
const LOST_IN_A_ROW: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DialOptions;
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
    fn a_wildcard_ipv6_listener_takes_ipv4_as_well() {
        let listener = Listener::bind("[::]:0".parse().unwrap(), Listener::BACKLOG).expect("a free port");
        let port = listener.local_addr().port();
        let client = TcpStream::connect(("127.0.0.1", port)).expect("IPv4 client");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut acceptor = Acceptor::new(listener, (&DialOptions::new()).into()).expect("registered");
            let accepted = acceptor.accept(&crate::observer::Unobserved).await.expect("a connection");
            assert_eq!(accepted.peer.addr(), client.local_addr().unwrap());
        });
    }

    #[test]
    fn every_connection_has_the_options_also_those_that_came_before_the_gateway_served() {
        let listener =
            Listener::bind("127.0.0.1:0".parse().unwrap(), Listener::BACKLOG).expect("a free port");
        let address = listener.local_addr();
        let limit = Some(Duration::from_secs(9));
        let options = DialOptions::new().user_timeout(limit).expect("long enough");
        let early = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut acceptor = Acceptor::new(listener, (&options).into()).expect("registered");
            let mut late = Vec::new();
            for turn in 0..4 {
                if turn >= early.len() {
                    // Nothing waits any more: the acceptor sees that before this one comes.
                    let empty = std::future::poll_fn(|_| std::task::Poll::Ready(()));
                    tokio::select! { biased; _ = acceptor.next() => panic!("nobody is there"), () = empty => {} }
                    late.push(TcpStream::connect(address).unwrap());
                }
                let accepted = acceptor.accept(&crate::observer::Unobserved).await.expect("a connection");
                assert_eq!(acceptor.inherited, turn >= early.len());
                let socket = SockRef::from(&accepted.stream);
                assert!(socket.tcp_nodelay().unwrap(), "{turn}");
                assert_eq!(socket.tcp_user_timeout().unwrap(), limit, "{turn}");
                assert!(socket.nonblocking().unwrap());
            }
        });
    }
}
