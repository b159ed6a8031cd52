//! One end of a session at work.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::noise::Voice;
use crate::queue;
use crate::schedule::{Abrupt, Finish, How, Moment, Part};

/// What one end did and saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// Bytes its kernel took.
    pub(crate) sent: u64,
    /// It said that it has no more to say.
    pub(crate) finished: bool,
    pub(crate) write_error: Option<String>,
    pub(crate) received: u64,
    /// Where what was received was not what the other end said there.
    pub(crate) wrong_at: Option<u64>,
    pub(crate) end: Option<End>,
    /// It closed before the session was over.
    pub(crate) abrupt: Option<Closed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    pub(crate) how: How,
    /// The gateway's kernel had acknowledged everything.
    pub(crate) settled: bool,
}

/// An end while it acts; `account` can be looked at from outside.
pub(crate) struct Actor<'a> {
    part: &'a Part,
    says: Voice,
    hears: Voice,
    account: RefCell<Account>,
    wrote: Cell<bool>,
    /// Something of the above changed.
    news: Notify,
}

impl<'a> Actor<'a> {
    /// `sent` bytes are on their way already.
    pub(crate) fn new(part: &'a Part, says: Voice, hears: Voice, sent: u64) -> Self {
        let account = RefCell::new(Account { sent, ..Account::default() });
        Self { part, says, hears, account, wrote: Cell::new(false), news: Notify::new() }
    }

    pub(crate) fn account(&self) -> Account {
        self.account.borrow().clone()
    }

    /// Plays the part to its end, and closes.
    pub(crate) async fn play(&self, stream: TcpStream) {
        let in_order = async {
            tokio::join!(self.write(&stream), self.read(&stream));
            // An end that closes abruptly does so however much it has heard, unless there is nothing left to close.
            if self.part.abrupt.is_some() && !self.broken() {
                std::future::pending::<()>().await;
            }
        };
        let closed = tokio::select! {
            biased;
            closed = self.abruptly(&stream) => Some(closed),
            () = in_order => None,
        };
        self.account.borrow_mut().abrupt = closed;
        if let Some(Closed { how: How::Reset, .. }) = closed {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an open socket");
        }
    }

    async fn write(&self, stream: &TcpStream) {
        let written = async {
            let mut due = 0;
            for step in &self.part.writes {
                due += step.bytes as u64;
                if self.sent() >= due {
                    // Left with the header.
                    continue;
                }
                wait(step.pause).await;
                while self.sent() < due {
                    stream.writable().await?;
                    let wanted = usize::try_from(due - self.sent()).expect("a few megabytes");
                    match stream.try_write(self.says.at(self.sent(), wanted)) {
                        Ok(written) => self.account.borrow_mut().sent += written as u64,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            match self.part.finish {
                Finish::AfterWrites => {}
                Finish::AfterOther => self.until(|account| account.end.is_some()).await,
                Finish::Never => return Ok(()),
            }
            SockRef::from(stream).shutdown(std::net::Shutdown::Write)?;
            self.account.borrow_mut().finished = true;
            Ok::<_, io::Error>(())
        };
        if let Err(error) = written.await {
            self.account.borrow_mut().write_error = Some(error.to_string());
        }
        self.wrote.set(true);
        self.news.notify_waiters();
    }

    async fn read(&self, stream: &TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        for step in &self.part.reads {
            wait(step.pause).await;
            let mut left = step.bytes;
            while left > 0 {
                let most = left.min(buffer.len());
                match self.read_once(stream, &mut buffer[..most]).await {
                    Some(read) => left -= read,
                    None => return,
                }
            }
        }
        let Some(rest) = self.part.rest else { return };
        while self.read_once(stream, &mut buffer[..rest]).await.is_some() {}
    }

    /// `None` at the end.
    async fn read_once(&self, stream: &TcpStream, buffer: &mut [u8]) -> Option<usize> {
        let read = loop {
            if let Err(error) = stream.readable().await {
                break Err(error);
            }
            match stream.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => break read,
            }
        };
        let mut account = self.account.borrow_mut();
        let received = account.received;
        match read {
            // A write has taken the reset's error, and reading says "end" since then.
            Ok(0) if account.write_error.is_some() => account.end = Some(End::Reset),
            Ok(0) => account.end = Some(End::Fin),
            Ok(read) => {
                if account.wrong_at.is_none() && !self.hears.said(received, &buffer[..read]) {
                    account.wrong_at = Some(received);
                }
                account.received += read as u64;
            }
            Err(ref error) if error.kind() == io::ErrorKind::ConnectionReset => {
                account.end = Some(End::Reset);
            }
            Err(ref error) => panic!("reading from the gateway: {error}"),
        }
        drop(account);
        self.news.notify_waiters();
        read.ok().filter(|read| *read > 0)
    }

    /// Waits for the moment at which this end closes; for ever if there is none.
    async fn abruptly(&self, stream: &TcpStream) -> Closed {
        let Some(Abrupt { moment, how, settled }) = self.part.abrupt else {
            return std::future::pending().await;
        };
        match moment {
            Moment::At(time) => wait(time).await,
            Moment::AfterWrites(time) => {
                self.until(|_| self.wrote.get()).await;
                wait(time).await;
            }
            Moment::AfterReading(bytes) => {
                self.until(|account| account.received >= bytes || account.end.is_some()).await;
            }
        }
        let settled = settled && self.settle(stream).await;
        Closed { how, settled }
    }

    /// Waits until the gateway's kernel has everything; false when it never will.
    async fn settle(&self, stream: &TcpStream) -> bool {
        loop {
            if self.broken() || SockRef::from(stream).take_error().is_ok_and(|error| error.is_some()) {
                return false;
            }
            if queue::unacknowledged(stream).expect("a TCP socket") == 0 {
                return true;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn until(&self, there: impl Fn(&Account) -> bool) {
        loop {
            let news = self.news.notified();
            if there(&self.account.borrow()) {
                return;
            }
            news.await;
        }
    }

    fn sent(&self) -> u64 {
        self.account.borrow().sent
    }

    fn broken(&self) -> bool {
        let account = self.account.borrow();
        account.end == Some(End::Reset) || account.write_error.is_some()
    }
}

/// A pause, or at least a turn for the others.
async fn wait(pause: Duration) {
    if pause.is_zero() {
        tokio::task::yield_now().await;
    } else {
        sleep(pause).await;
    }
}
