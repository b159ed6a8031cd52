//! One side of a session: a socket that is reset unless it is ended in order.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::ops::Deref;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::unix::AsyncFd;

use crate::config::{DialOptions, Keepalive};
use crate::sys::watch;

/// A connection that the runtime watches; the system calls are ours.
pub(crate) type Watched = AsyncFd<TcpStream>;

/// A connection that tells the other end how the session ended.
///
/// Dropped, it is reset: whoever is on the other end must not take a refused, broken or cut session for a
/// complete one. Only [`finish`](Self::finish) ends it with a FIN.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Watched,
    finished: bool,
}

impl Socket {
    pub(crate) const fn new(stream: Watched) -> Self {
        Self { stream, finished: false }
    }

    /// Tells the other end that nothing more comes.
    pub(crate) fn end_writing(&self) {
        // It fails where the other end has gone already.
        SockRef::from(&self.stream).shutdown(Shutdown::Write).ok();
    }

    /// Reads and forgets what still comes, up to the end of the other side.
    pub(crate) async fn discard(&self) {
        let mut room = [0; 512];
        loop {
            let Ok(mut ready) = self.stream.readable().await else { return };
            match recv(&self.stream, &mut room, RecvFlags::empty()) {
                Ok((0, _)) => return,
                Ok(_) => {}
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(_) => return,
            }
        }
    }

    /// Closes in order: the kernel goes on to deliver what it accepted, then sends a FIN if none was sent yet.
    pub(crate) fn finish(mut self) {
        self.finished = true;
    }
}

impl Deref for Socket {
    type Target = Watched;

    fn deref(&self) -> &Watched {
        &self.stream
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.finished {
            reset_on_close(&SockRef::from(&self.stream));
        }
    }
}

/// The same before the runtime watches it, which many a connection never needs to ask for.
#[derive(Debug)]
pub(crate) struct Fresh(Option<TcpStream>);

impl Fresh {
    pub(crate) const fn new(stream: TcpStream) -> Self {
        Self(Some(stream))
    }

    /// The connection, to look at it.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.0.as_ref().expect("taken out only by what consumes it")
    }

    /// Lets the runtime watch it.
    ///
    /// # Errors
    ///
    /// Out of epoll's memory.
    pub(crate) fn watch(mut self) -> io::Result<Socket> {
        let stream = self.0.take().expect("taken out only by what consumes it");
        watch::connection(stream).map(Socket::new)
    }

    /// Closes in order.
    pub(crate) fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(stream) = &self.0 {
            reset_on_close(&SockRef::from(stream));
        }
    }
}

fn reset_on_close(socket: &SockRef<'_>) {
    // SO_LINGER with zero turns close(2) into a reset. It cannot fail on an open TCP socket, and if it did, the FIN of
    // an ordinary close would be all that is left to send.
    socket.set_linger(Some(Duration::ZERO)).ok();
}

/// What both sides of a session want from the beginning: no Nagle delay (the other end already decided what a segment
/// is), and an end to waiting for a host that answers nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketOptions {
    user_timeout: Option<Duration>,
}

impl SocketOptions {
    pub(crate) fn set(self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        if self.user_timeout.is_some() {
            socket.set_tcp_user_timeout(self.user_timeout)?;
        }
        Ok(())
    }
}

impl From<&DialOptions> for SocketOptions {
    fn from(options: &DialOptions) -> Self {
        Self { user_timeout: options.user_timeout }
    }
}

/// Has the kernel send probes on `socket`, which notice a host that has vanished.
pub(crate) fn keep_alive(socket: &SockRef<'_>, keepalive: Keepalive) -> io::Result<()> {
    let Keepalive { idle, interval, probes } = keepalive;
    let options = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
    socket.set_tcp_keepalive(&options)
}
