//! The measuring target: a server that checks who its clients are and what they send.
//!
//! It is a process of its own, in the gateway's namespace: its descriptors and its CPU time are then not the
//! generator's. The first line on its standard output says that it is ready; each line on its standard input is answered with a
//! [`Counts`] in JSON, and the end of its standard input is its own.

mod datagrams;
mod session;

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pattern::Writer;
use crate::poll::{EventFlags, Poll};
use crate::slots::Slots;
use crate::socket;
use crate::usage::now_ns;

use self::session::{Session, Turn};

/// What the target has seen since it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// When these were read, on the clock that all processes share, in nanoseconds.
    pub(crate) at_ns: u64,
    /// Bytes of streams, hellos not counted.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) accepted: u64,
    pub(crate) closed: u64,
    /// Sessions and datagrams whose sender was somebody else than the client they named.
    pub(crate) strangers: u64,
    /// Reads, hellos and datagrams that were not what the generator had written.
    pub(crate) corrupt: u64,
    pub(crate) datagrams: u64,
    /// The first of the strangers.
    pub(crate) stranger: Option<String>,
}

/// The line that says that all sockets are there.
pub(crate) const READY: &str = "ready";

/// Serves TCP and UDP on `addresses` until standard input ends.
pub(crate) fn serve(addresses: &[SocketAddr]) -> io::Result<()> {
    crate::usage::raise_descriptor_limit()?;
    let counters = start(addresses.to_vec())?;
    let mut out = io::stdout().lock();
    writeln!(out, "{READY}")?;
    out.flush()?;
    for line in io::stdin().lock().lines() {
        drop(line?);
        serde_json::to_writer(&mut out, &counters.counts())?;
        writeln!(out)?;
        out.flush()?;
    }
    Ok(())
}

/// Starts the serving thread, and returns when its sockets are there.
fn start(addresses: Vec<SocketAddr>) -> io::Result<Arc<Counters>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut target = match Target::new(&addresses) {
            Ok(target) => target,
            Err(error) => return sender.send(Err(error)).ok(),
        };
        sender.send(Ok(Arc::clone(&target.counters))).ok()?;
        match target.run() {
            Ok(never) => match never {},
            // Nothing it serves can cause this; the generator sees its end and says so.
            Err(error) => panic!("the target's epoll failed: {error}"),
        }
    });
    receiver.recv().map_err(io::Error::other)?
}

/// Written by the serving thread, read by the one that answers.
#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
    sent: AtomicU64,
    accepted: AtomicU64,
    closed: AtomicU64,
    strangers: AtomicU64,
    corrupt: AtomicU64,
    datagrams: AtomicU64,
    stranger: Mutex<Option<String>>,
}

impl Counters {
    fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            at_ns: now_ns(),
            received: of(&self.received),
            sent: of(&self.sent),
            accepted: of(&self.accepted),
            closed: of(&self.closed),
            strangers: of(&self.strangers),
            corrupt: of(&self.corrupt),
            datagrams: of(&self.datagrams),
            stranger: self.stranger.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn add(counter: &AtomicU64, amount: usize) {
        counter.fetch_add(amount as u64, Ordering::Relaxed);
    }

    fn stranger(&self, seen: SocketAddr, named: SocketAddr) {
        Self::add(&self.strangers, 1);
        let mut first = self.stranger.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| format!("saw {seen} instead of {named}"));
    }
}

struct Target {
    poll: Poll,
    doors: Vec<Door>,
    sessions: Slots<Session>,
    counters: Arc<Counters>,
}

/// A socket that clients come in by; the names of doors are the highest.
#[derive(Debug)]
enum Door {
    Streams(OwnedFd),
    Datagrams(OwnedFd),
}

impl Target {
    fn new(addresses: &[SocketAddr]) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut doors = Vec::new();
        for &address in addresses {
            for door in
                [Door::Streams(socket::listener(address)?), Door::Datagrams(socket::datagrams(address)?)]
            {
                let (Door::Streams(socket) | Door::Datagrams(socket)) = &door;
                poll.add(socket, usize::MAX - doors.len(), EventFlags::IN)?;
                doors.push(door);
            }
        }
        Ok(Self { poll, doors, sessions: Slots::new(), counters: Arc::default() })
    }

    fn run(&mut self) -> io::Result<std::convert::Infallible> {
        let mut ready = Vec::new();
        let mut tools = Tools { buffer: vec![0; PIECE], writer: Writer::new(PIECE) };
        loop {
            self.poll.wait(Duration::from_secs(3600), &mut ready)?;
            for &(name, flags) in &ready {
                if let Some(session) = self.sessions.get_mut(name) {
                    match session.turn(flags, &mut tools, &self.counters) {
                        Turn::Go => {}
                        Turn::Want(interest) => self.poll.modify(session.socket(), name, interest)?,
                        Turn::Over => {
                            self.sessions.remove(name);
                            Counters::add(&self.counters.closed, 1);
                        }
                    }
                } else {
                    match self.doors.get(usize::MAX - name) {
                        Some(Door::Streams(_)) => self.admit(usize::MAX - name)?,
                        Some(Door::Datagrams(socket)) => {
                            datagrams::answer(socket, &mut tools.buffer, &self.counters);
                        }
                        None => {}
                    }
                }
            }
        }
    }

    fn admit(&mut self, door: usize) -> io::Result<()> {
        let Some(Door::Streams(listener)) = self.doors.get(door) else { return Ok(()) };
        for _ in 0..BATCH {
            // Out of descriptors: the backlog keeps them until sessions end, and the generator notices.
            let Ok(Some((socket, peer))) = socket::accept(listener) else { break };
            Counters::add(&self.counters.accepted, 1);
            let name = self.sessions.insert(Session::new(socket, peer));
            let session = self.sessions.get_mut(name).expect("it was inserted just now");
            // Not read at once: epoll reports at its next turn what has arrived already.
            self.poll.add(session.socket(), name, EventFlags::IN)?;
        }
        Ok(())
    }
}

/// What all sessions share.
#[derive(Debug)]
struct Tools {
    buffer: Vec<u8>,
    writer: Writer,
}

/// How much one session may read or write before it is another's turn.
const PIECE: usize = 256 << 10;
/// How many connections are accepted in one turn.
const BATCH: usize = 64;

#[cfg(test)]
mod tests;
