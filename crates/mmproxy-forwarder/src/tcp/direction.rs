//! One way of a session: bytes from one socket to the other, then the FIN.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;

/// Moves bytes `from` one socket `to` the other.
///
/// Waiting costs no buffer: bytes go through one that belongs to the thread, and only what `to` does not accept
/// at once is kept here. Nothing more is read before that is gone, so a slow reader slows its writer.
///
/// Every wait is for readiness and every change is made between waits: dropping the future of a method loses
/// nothing, and the method can be called again.
pub(crate) struct Direction<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    /// Read from `from` and not yet accepted by `to`.
    pending: BytesMut,
    /// Bytes `to` accepted.
    moved: &'a AtomicU64,
    /// `from` ended; implies that nothing is pending, because nothing is read before.
    ended: bool,
    /// `to` was told.
    done: bool,
}

/// Which end of a direction failed.
#[derive(Debug)]
pub(crate) enum Broken {
    From(io::Error),
    To(io::Error),
}

impl<'a> Direction<'a> {
    /// `first` is delivered before anything that is read.
    pub(crate) const fn new(
        from: &'a TcpStream,
        to: &'a TcpStream,
        first: BytesMut,
        moved: &'a AtomicU64,
    ) -> Self {
        Self { from, to, pending: first, moved, ended: false, done: false }
    }

    /// Moves everything up to the end of `from`, then ends `to` for writing.
    pub(crate) async fn run(&mut self) -> Result<(), Broken> {
        if !self.done {
            self.run_dry().await?;
            self.done = true;
            SockRef::from(self.to).shutdown(Shutdown::Write).map_err(Broken::To)?;
        }
        Ok(())
    }

    /// Moves everything up to the end of `from`, and leaves `to` open: the end of a broken connection reads like
    /// an ordinary one once its error was reported.
    pub(crate) async fn run_dry(&mut self) -> Result<(), Broken> {
        while !self.ended {
            // One turn moves up to 64 KiB; the budget lets other sessions of this thread have theirs.
            consume_budget().await;
            if self.pending.is_empty() {
                self.from.readable().await.map_err(Broken::From)?;
                self.read_then_write()?;
            } else {
                self.to.writable().await.map_err(Broken::To)?;
                self.write_pending()?;
            }
        }
        Ok(())
    }

    fn read_then_write(&mut self) -> Result<(), Broken> {
        BUFFER.with_borrow_mut(|buffer| {
            let read = match self.from.try_read(buffer) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(());
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Broken::From(error)),
            };
            let written = self.write(&buffer[..read])?;
            self.pending.extend_from_slice(&buffer[written..read]);
            Ok(())
        })
    }

    fn write_pending(&mut self) -> Result<(), Broken> {
        let written = self.write(&self.pending)?;
        self.pending.advance(written);
        if self.pending.is_empty() {
            // A session that fell behind once must not own a buffer for the rest of its life.
            self.pending = BytesMut::new();
        }
        Ok(())
    }

    /// How much of `bytes` the receiver accepted; 0 when it accepts nothing now.
    fn write(&self, bytes: &[u8]) -> Result<usize, Broken> {
        match self.to.try_write(bytes) {
            Ok(written) => {
                self.moved.fetch_add(written as u64, Ordering::Relaxed);
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(Broken::To(error)),
        }
    }
}

/// Bytes one turn moves at most; also the most a direction keeps for a slow reader.
const TURN: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; TURN].into_boxed_slice());
}
