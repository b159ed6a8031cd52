//! One connection, from its hello to its end.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use crate::pattern::Reader;
use crate::poll::EventFlags;
use crate::socket;
use crate::wire::{Hello, Role, STRANGER, WELCOME};

use super::{Counters, Tools};

#[derive(Debug)]
pub(super) struct Session {
    socket: OwnedFd,
    /// Who the kernel says is at the other end.
    peer: SocketAddr,
    state: State,
}

/// What follows from one turn.
pub(super) enum Turn {
    Go,
    /// Go on, but wait for something else.
    Want(EventFlags),
    Over,
}

#[derive(Debug)]
enum State {
    Hello { bytes: [u8; Hello::LEN], read: usize },
    Sink(Reader),
    Source { seed: u64, offset: u64 },
    Echo { pending: Vec<u8> },
}

impl Session {
    pub(super) const fn new(socket: OwnedFd, peer: SocketAddr) -> Self {
        Self { socket, peer, state: State::Hello { bytes: [0; Hello::LEN], read: 0 } }
    }

    pub(super) fn socket(&self) -> impl AsFd {
        &self.socket
    }

    /// Reads or writes once. An error is the connection's end: what was lost by it shows in the sums.
    pub(super) fn turn(&mut self, flags: EventFlags, tools: &mut Tools, counters: &Counters) -> Turn {
        let turn = match &mut self.state {
            State::Hello { .. } => self.greet(counters),
            State::Sink(reader) => sink(&self.socket, reader, tools, counters),
            State::Source { seed, offset } => source(&self.socket, flags, *seed, offset, tools, counters),
            State::Echo { pending } => echo(&self.socket, flags, pending, tools, counters),
        };
        turn.unwrap_or(Turn::Over)
    }

    fn greet(&mut self, counters: &Counters) -> io::Result<Turn> {
        let State::Hello { bytes, read } = &mut self.state else { return Ok(Turn::Go) };
        match socket::read(&self.socket, &mut bytes[*read..])? {
            None => return Ok(Turn::Go),
            // Self-checks of gateways connect and say nothing.
            Some(0) => return Ok(Turn::Over),
            Some(more) => *read += more,
        }
        if *read < Hello::LEN {
            return Ok(Turn::Go);
        }
        let Some(hello) = Hello::from_bytes(bytes) else {
            Counters::add(&counters.corrupt, 1);
            return Ok(Turn::Over);
        };
        let welcome = hello.client == self.peer;
        if !welcome {
            counters.stranger(self.peer, hello.client);
        }
        // One byte always fits into an empty send buffer.
        socket::write(&self.socket, &[if welcome { WELCOME } else { STRANGER }])?;
        self.state = match hello.role {
            Role::Sink => State::Sink(Reader::new(hello.seed)),
            Role::Echo => State::Echo { pending: Vec::new() },
            Role::Source => {
                self.state = State::Source { seed: hello.seed, offset: 0 };
                return Ok(Turn::Want(EventFlags::IN | EventFlags::OUT));
            }
        };
        Ok(Turn::Go)
    }
}

fn sink(socket: &OwnedFd, reader: &mut Reader, tools: &mut Tools, counters: &Counters) -> io::Result<Turn> {
    match socket::read(socket, &mut tools.buffer)? {
        None => Ok(Turn::Go),
        Some(0) => Ok(Turn::Over),
        Some(read) => {
            Counters::add(&counters.received, read);
            if !reader.accept(&tools.buffer[..read]) {
                Counters::add(&counters.corrupt, 1);
            }
            Ok(Turn::Go)
        }
    }
}

fn source(
    socket: &OwnedFd,
    flags: EventFlags,
    seed: u64,
    offset: &mut u64,
    tools: &mut Tools,
    counters: &Counters,
) -> io::Result<Turn> {
    if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
        // The byte that says stop, or the end. A byte left unread would turn the close into a reset.
        return Ok(match socket::read(socket, &mut tools.buffer)? {
            None => Turn::Go,
            Some(_) => Turn::Over,
        });
    }
    if let Some(written) = socket::write(socket, tools.writer.at(seed, *offset))? {
        *offset += written as u64;
        Counters::add(&counters.sent, written);
    }
    Ok(Turn::Go)
}

fn echo(
    socket: &OwnedFd,
    flags: EventFlags,
    pending: &mut Vec<u8>,
    tools: &mut Tools,
    counters: &Counters,
) -> io::Result<Turn> {
    if !pending.is_empty() {
        if flags.contains(EventFlags::OUT) {
            let written = socket::write(socket, pending)?.unwrap_or(0);
            pending.drain(..written);
        }
        let done = pending.is_empty();
        return Ok(if done { Turn::Want(EventFlags::IN) } else { Turn::Go });
    }
    match socket::read(socket, &mut tools.buffer)? {
        None => Ok(Turn::Go),
        Some(0) => Ok(Turn::Over),
        Some(read) => {
            Counters::add(&counters.received, read);
            let bytes = &tools.buffer[..read];
            let written = socket::write(socket, bytes)?.unwrap_or(0);
            if written == read {
                return Ok(Turn::Go);
            }
            pending.extend_from_slice(&bytes[written..]);
            // Not read before that is out: the sender waits, as TCP makes it.
            Ok(Turn::Want(EventFlags::OUT))
        }
    }
}
