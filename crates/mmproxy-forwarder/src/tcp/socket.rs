//! One side of a session: a socket that is reset unless it is ended in order.

use std::io;
use std::net::{Shutdown, TcpStream as StdStream};
use std::ops::Deref;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::config::{DialOptions, Keepalive};

/// A connection that tells the other end how the session ended.
///
/// Dropped, it is reset: whoever is on the other end must not take a refused, broken or cut session for a
/// complete one. Only [`finish`](Self::finish) ends it with a FIN.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    finished: bool,
}

impl Socket {
    pub(crate) const fn new(stream: TcpStream) -> Self {
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
            if self.stream.readable().await.is_err() {
                return;
            }
            match self.stream.try_read(&mut room) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
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
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
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
pub(crate) struct Fresh(Option<StdStream>);

impl Fresh {
    pub(crate) const fn new(stream: StdStream) -> Self {
        Self(Some(stream))
    }

    /// The connection, to look at it.
    pub(crate) fn stream(&self) -> &StdStream {
        self.0.as_ref().expect("taken out only by what consumes it")
    }

    /// Lets the runtime watch it.
    ///
    /// # Errors
    ///
    /// Out of epoll's memory.
    pub(crate) fn watch(mut self) -> io::Result<Socket> {
        let stream = self.0.take().expect("taken out only by what consumes it");
        TcpStream::from_std(stream).map(Socket::new)
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

/// What both sides of a session want: no Nagle delay (the other end already decided what a segment is), probes that
/// notice a dead host, and an end to waiting for one that answers nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketOptions {
    keepalive: Option<Keepalive>,
    user_timeout: Option<Duration>,
}

impl SocketOptions {
    pub(crate) fn set(self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        if let Some(keepalive) = self.keepalive {
            socket.set_tcp_keepalive(
                &TcpKeepalive::new()
                    .with_time(keepalive.idle)
                    .with_interval(keepalive.interval)
                    .with_retries(keepalive.probes),
            )?;
        }
        if self.user_timeout.is_some() {
            socket.set_tcp_user_timeout(self.user_timeout)?;
        }
        Ok(())
    }
}

impl From<&DialOptions> for SocketOptions {
    fn from(options: &DialOptions) -> Self {
        Self { keepalive: options.keepalive, user_timeout: options.user_timeout }
    }
}
