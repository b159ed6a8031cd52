//! Opens sessions, many at once, each until the target has answered its hello.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::poll::{EventFlags, Poll};
use crate::slots::Slots;
use crate::socket;
use crate::wire::{Role, WELCOME};

use super::{Dialled, Route};

/// A session that stands.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) socket: OwnedFd,
    pub(crate) seed: u64,
}

/// What became of the sessions that were wanted.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) sessions: Vec<Open>,
    /// Ended before the target's answer.
    pub(crate) refused: usize,
    /// Not answered by anybody.
    pub(crate) silent: usize,
    /// The target saw somebody else.
    pub(crate) strangers: usize,
}

impl Opened {
    /// A sentence, if not all stand as they should.
    pub(crate) fn fault(&self) -> Option<String> {
        (self.refused + self.silent + self.strangers > 0).then(|| {
            format!(
                "of the sessions to open {} were refused, {} not answered and {} had a wrong source",
                self.refused, self.silent, self.strangers
            )
        })
    }
}

/// Opens `count` sessions. Gives up when none was opened or refused for `patience`.
pub(crate) fn open(route: &Route<'_>, role: Role, count: usize, patience: Duration) -> io::Result<Opened> {
    let mut opened = Opened::default();
    let mut poll = Poll::new()?;
    let mut pending: Slots<Dialled> = Slots::new();
    let (mut dialled, mut ready, mut last) = (0, Vec::new(), Instant::now());
    loop {
        while dialled < count && pending.len() < AT_ONCE {
            let name = pending.insert(route.dial(role)?);
            let session = pending.get_mut(name).expect("it was inserted just now");
            poll.add(&session.socket, name, EventFlags::IN | EventFlags::OUT | EventFlags::ET)?;
            dialled += 1;
        }
        if pending.len() == 0 {
            return Ok(opened);
        }
        poll.wait(Duration::from_millis(100), &mut ready)?;
        for &(name, _) in &ready {
            let Some(session) = pending.get_mut(name) else { continue };
            let Some(answer) = progress(session) else { continue };
            last = Instant::now();
            let session = pending.remove(name).expect("it was there just now");
            match answer {
                Ok(WELCOME) => opened.sessions.push(Open { socket: session.socket, seed: session.seed }),
                Ok(_) => opened.strangers += 1,
                Err(_) => opened.refused += 1,
            }
        }
        if last.elapsed() > patience {
            opened.silent = count - opened.sessions.len() - opened.refused - opened.strangers;
            return Ok(opened);
        }
    }
}

/// Sends the greeting when the connection stands, reads the answer when it is there.
pub(super) fn progress(session: &mut Dialled) -> Option<io::Result<u8>> {
    if !session.greeting.is_empty() {
        match socket::write(&session.socket, &session.greeting) {
            Ok(None) => return None,
            Ok(Some(written)) => drop(session.greeting.drain(..written)),
            Err(error) if error.raw_os_error() == Some(NOT_CONNECTED) => return None,
            Err(error) => return Some(Err(error)),
        }
    }
    let mut answer = [0];
    match socket::read(&session.socket, &mut answer) {
        Ok(None) => None,
        Ok(Some(0)) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
        Ok(Some(_)) => Some(Ok(answer[0])),
        Err(error) => Some(Err(error)),
    }
}

/// As many as the accept queue of the least of the subjects takes.
const AT_ONCE: usize = 64;
const NOT_CONNECTED: i32 = rustix::io::Errno::NOTCONN.raw_os_error();
