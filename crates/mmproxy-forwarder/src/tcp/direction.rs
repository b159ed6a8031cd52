//! One way of a session: bytes from one socket to the other, then the FIN.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::task::yield_now;

use crate::config::SpliceUse;
use crate::courtesy;
use crate::sys::queue;
use crate::tcp::pipe::{Lent, Pipes};
use crate::tcp::socket::Watched;
use crate::tcp::traffic::{Lane, Moved};

/// Where a direction leads, what it counts, and where its pipes come from.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) from: &'a Watched,
    pub(crate) to: &'a Watched,
    /// Bytes `to` accepted.
    pub(crate) moved: &'a Moved,
    /// The same for all sessions of the worker.
    pub(crate) total: &'a Lane,
    pub(crate) pipes: &'a Arc<Pipes>,
}

/// Moves bytes from one socket to the other.
///
/// Waiting costs neither buffer nor pipe. Small messages go through a buffer that belongs to the thread, and only what
/// the receiver does not accept at once is kept here. A direction that fills the buffer is bulk, until little came a few
/// times in a row: it is lent a pipe whenever there is something to move. Nothing more is read before what was read is
/// gone, so a slow reader slows its writer.
///
/// Every change is made between waits: polling can stop at any time and go on later, and nothing is lost.
pub(crate) struct Direction {
    carried: Carried,
    /// The receiver accepted nothing when it was asked last.
    blocked: bool,
    bulk: Bulk,
    /// The sender ended; nothing more is read.
    ended: bool,
    /// The receiver was told.
    done: bool,
}

/// Taken from the sender and not yet accepted by the receiver. Small, because an idle session has two of them.
enum Carried {
    Nothing,
    Bytes(Box<BytesMut>),
    Pipe(Lent),
}

impl Carried {
    fn bytes(bytes: BytesMut) -> Self {
        if bytes.is_empty() { Self::Nothing } else { Self::Bytes(Box::new(bytes)) }
    }
}

/// Whether a direction moves much at a time.
///
/// A large message ends with what did not fill a segment, which comes alone: one little piece between large ones says
/// nothing.
#[derive(Clone, Copy, Default)]
struct Bulk {
    /// Little pieces in a row that it still takes to be no bulk any more.
    patience: u8,
}

impl Bulk {
    const fn begin(&mut self) {
        self.patience = PATIENCE;
    }

    const fn is_on(self) -> bool {
        self.patience > 0
    }

    /// `moved` bytes came, and then none for now.
    const fn paused_after(&mut self, moved: usize) {
        match moved {
            0 => {}
            1..TRICKLE => self.patience = self.patience.saturating_sub(1),
            TRICKLE.. => {
                if self.is_on() {
                    self.begin();
                }
            }
        }
    }
}

/// Which end of a direction failed.
#[derive(Debug)]
pub(crate) enum Broken {
    From(io::Error),
    To(io::Error),
}

impl Broken {
    /// The end that is read from failed.
    pub(crate) const fn is_from(&self) -> bool {
        matches!(self, Self::From(_))
    }
}

impl Direction {
    /// `first` is delivered before anything that is read.
    pub(crate) fn new(first: BytesMut) -> Self {
        Self {
            carried: Carried::bytes(first),
            blocked: false,
            bulk: Bulk::default(),
            ended: false,
            done: false,
        }
    }

    /// Everything was moved and the receiver knows.
    pub(crate) const fn is_done(&self) -> bool {
        self.done
    }

    /// A failure of the sender would not be noticed: nobody waits for what it sends.
    pub(crate) const fn is_deaf(&self) -> bool {
        self.ended || !matches!(self.carried, Carried::Nothing)
    }

    /// Moves everything up to the end of the sender, then ends the receiver for writing, unless `closing`: then it is
    /// closed at once, which tells it the same.
    pub(crate) fn poll(
        &mut self,
        way: Way<'_>,
        closing: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        if !self.done {
            ready!(self.poll_dry(way, cx))?;
            self.done = true;
            if !closing {
                SockRef::from(way.to).shutdown(Shutdown::Write).map_err(Broken::To)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Moves everything up to the end of the sender, and leaves the receiver open: the end of a broken connection
    /// reads like an ordinary one once its error was reported.
    pub(crate) fn poll_dry(&mut self, way: Way<'_>, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let mut turn = TURN;
        loop {
            ready!(self.poll_deliver(way, cx)).map_err(Broken::To)?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if turn == 0 {
                // Others of this thread have their turn first: sockets that became ready, then bulk like this.
                return give_way(cx);
            }
            match self.poll_fetch(way, cx) {
                Poll::Ready(fetched) => turn = turn.saturating_sub(fetched?),
                Poll::Pending => {
                    self.bulk.paused_after(TURN - turn);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Hands what is carried to the receiver; ready when nothing is left.
    fn poll_deliver(&mut self, way: Way<'_>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !matches!(self.carried, Carried::Nothing) {
            let carried = &mut self.carried;
            let mut push = || match carried {
                Carried::Nothing => Ok(0),
                Carried::Bytes(bytes) => Ok(send(way.to, bytes, SendFlags::NOSIGNAL)?),
                Carried::Pipe(pipe) => pipe.drain(way.to),
            };
            let pushed = if self.blocked { ready!(poll_write(way.to, push, cx)) } else { push() };
            match pushed {
                Ok(pushed) => {
                    self.blocked = false;
                    if let Carried::Pipe(_) = self.carried {
                        way.moved.add_spliced(pushed);
                        way.total.add_spliced(pushed);
                    } else {
                        way.moved.add(pushed);
                        way.total.add(pushed);
                    }
                    self.carried.advance(pushed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes something from the sender once it is there, and returns how much; nothing may be carried.
    fn poll_fetch(&mut self, way: Way<'_>, cx: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        if self.splices(way) {
            drop(ready!(way.from.poll_read_ready(cx)).map_err(Broken::From)?);
        }
        if self.splices(way)
            && let Some(mut pipe) = way.pipes.lend()
        {
            match pipe.fill(way.from) {
                Ok(0) => {
                    self.ended = true;
                    return Poll::Ready(Ok(0));
                }
                Ok(filled) => {
                    courtesy::note_bulk(way.moved);
                    self.carried = Carried::Pipe(pipe);
                    return Poll::Ready(Ok(filled));
                }
                // Nothing is there, or splice cannot pass what is next (urgent data, no memory): reading tells.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(Broken::From(error))),
            }
        }
        BUFFER.with_borrow_mut(|buffer| {
            let read = ready!(poll_read(way.from, buffer, cx)).map_err(Broken::From)?;
            if read == 0 {
                self.ended = true;
                return Poll::Ready(Ok(0));
            }
            if read == buffer.len() {
                self.bulk.begin();
                courtesy::note_bulk(way.moved);
            } else if !self.bulk.is_on() {
                courtesy::note_small();
            }
            let sent = match send(way.to, &buffer[..read], SendFlags::NOSIGNAL) {
                Ok(sent) => sent,
                Err(error) if error == Errno::AGAIN => {
                    self.blocked = true;
                    0
                }
                Err(error) => return Poll::Ready(Err(Broken::To(error.into()))),
            };
            way.moved.add(sent);
            way.total.add(sent);
            if sent < read {
                self.carried = Carried::bytes(BytesMut::from(&buffer[sent..read]));
            }
            Poll::Ready(Ok(read))
        })
    }

    fn splices(&self, way: Way<'_>) -> bool {
        match way.pipes.options.splice {
            SpliceUse::Adaptive => self.bulk.is_on(),
            SpliceUse::Never => false,
            SpliceUse::Always => true,
        }
    }
}

impl Carried {
    /// `moved` bytes are gone.
    fn advance(&mut self, moved: usize) {
        let left = match self {
            Self::Nothing => 0,
            Self::Bytes(bytes) => {
                bytes.advance(moved);
                bytes.len()
            }
            Self::Pipe(pipe) => pipe.held(),
        };
        if left == 0 {
            // A session that fell behind once must not own a buffer or a pipe for the rest of its life.
            *self = Self::Nothing;
        }
    }
}

/// Reads once `from` is ready. A read that leaves room in `buffer` has emptied the socket, so the next one waits for
/// readiness instead of asking in vain; unless it stopped before an urgent byte, behind which there may be more that
/// nothing would tell of.
fn poll_read(from: &Watched, buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    loop {
        // Clearing it forgets the readiness of before the read, not one that came since.
        let mut ready = ready!(from.poll_read_ready(cx))?;
        match recv(from, &mut *buffer, RecvFlags::empty()) {
            Ok((read, _)) => {
                if (1..buffer.len()).contains(&read) && !is_before_urgent(from) {
                    ready.clear_ready();
                }
                return Poll::Ready(Ok(read));
            }
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(error) => return Poll::Ready(Err(error.into())),
        }
    }
}

/// Whether reading stopped before an urgent byte.
///
/// One that was there when the runtime last looked for ready sockets has made this one ready with priority, and one that
/// came since makes it ready anew. So nearly all connections, which never see such a byte, are not asked.
fn is_before_urgent(from: &Watched) -> bool {
    from.try_io(Interest::PRIORITY, |_| Ok(())).is_ok() && queue::is_at_mark(from)
}

/// Calls `push` when `to` is ready, until it does not say that it would block.
fn poll_write(
    to: &Watched,
    mut push: impl FnMut() -> io::Result<usize>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        let mut ready = ready!(to.poll_write_ready(cx))?;
        match push() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            other => return Poll::Ready(other),
        }
    }
}

/// Comes back when the runtime has looked for ready sockets and everybody else had a turn.
fn give_way<T>(cx: &mut Context<'_>) -> Poll<T> {
    // Its first poll asks to be woken; there is no second one.
    let asked = pin!(yield_now()).poll(cx);
    debug_assert!(asked.is_pending());
    Poll::Pending
}

/// Bytes that one turn of a direction moves, about; then others have theirs.
const TURN: usize = 512 * 1024;

/// Bytes read at a time; also the most a direction keeps for a slow reader, unless it has a pipe.
const READ: usize = 64 * 1024;

/// Less than this between two pauses of the sender is little.
const TRICKLE: usize = 16 * 1024;

/// So many little pieces in a row, and a direction is no bulk any more.
const PATIENCE: u8 = 4;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_piece_between_large_ones_does_not_end_bulk_and_some_in_a_row_do() {
        let mut bulk = Bulk::default();
        bulk.paused_after(READ);
        assert!(!bulk.is_on(), "only a buffer that was filled begins it");
        bulk.begin();
        for _ in 0..3 * PATIENCE {
            // A message of 256 KiB, and its rest.
            bulk.paused_after(4 * READ);
            bulk.paused_after(1504);
            assert!(bulk.is_on());
        }
        bulk.paused_after(TRICKLE);
        for _ in 1..PATIENCE {
            bulk.paused_after(TRICKLE - 1);
            // Woken for nothing.
            bulk.paused_after(0);
            assert!(bulk.is_on());
        }
        bulk.paused_after(1);
        assert!(!bulk.is_on());
        bulk.paused_after(4 * READ);
        assert!(!bulk.is_on());
    }
}
