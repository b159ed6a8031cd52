//! A message there and the same back, on each connection, as often as it goes.

use std::io;
use std::time::{Duration, Instant};

use crate::pattern::mix;
use crate::poll::{EventFlags, Poll};
use crate::socket;

use super::open::Open;
use super::{Outcome, Shared};

/// Runs until told to stop, then until the last message is back.
pub(crate) fn run(sessions: Vec<Open>, size: usize, shared: &Shared) -> io::Result<Outcome> {
    let mut outcome = Outcome::new();
    let mut poll = Poll::new()?;
    let mut players: Vec<_> = sessions.into_iter().map(|session| Player::new(session, size)).collect();
    for (name, player) in players.iter_mut().enumerate() {
        poll.add(&player.session.socket, name, EventFlags::IN)?;
        player.serve(name, &poll)?;
    }
    let (mut buffer, mut ready) = (vec![0; size.max(4096)], Vec::new());
    let mut playing = players.len();
    let mut last = Instant::now();
    while playing > 0 {
        poll.wait(Duration::from_millis(20), &mut ready)?;
        for &(name, flags) in &ready {
            let player = &mut players[name];
            let back = if flags.contains(EventFlags::OUT) && player.written < player.message.len() {
                player.write(name, &poll).map(|()| false)
            } else {
                player.read(&mut buffer)
            };
            match back {
                Ok(false) => continue,
                Ok(true) => {
                    last = Instant::now();
                    Shared::add(&shared.operations, 1);
                    if shared.is_measuring() {
                        let elapsed = last.duration_since(player.start).as_nanos();
                        outcome.latency.saturating_record(elapsed.try_into().unwrap_or(u64::MAX));
                    }
                    if !shared.stopped() && player.serve(name, &poll).is_ok() {
                        continue;
                    }
                }
                Err(error) => outcome.fault(format!("a message did not come back as it was sent: {error}")),
            }
            playing -= 1;
            poll.modify(&player.session.socket, name, EventFlags::empty())?;
        }
        if last.elapsed() > PATIENCE {
            outcome.fault(format!("{playing} messages never came back"));
            break;
        }
    }
    Ok(outcome)
}

#[derive(Debug)]
struct Player {
    session: Open,
    /// Another one each time.
    message: Vec<u8>,
    number: u64,
    written: usize,
    read: usize,
    start: Instant,
}

impl Player {
    fn new(session: Open, size: usize) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the low byte is what is wanted")]
        let message = (0..size).map(|position| position as u8).collect();
        Self { session, message, number: 0, written: 0, read: 0, start: Instant::now() }
    }

    /// Begins the next round.
    fn serve(&mut self, name: usize, poll: &Poll) -> io::Result<()> {
        self.number += 1;
        // The number and the session are in the first bytes, so another one's answer is noticed.
        let stamp = mix(self.session.seed ^ self.number).to_le_bytes();
        self.message[..stamp.len()].copy_from_slice(&stamp);
        (self.written, self.read) = (0, 0);
        self.start = Instant::now();
        self.write(name, poll)
    }

    fn write(&mut self, name: usize, poll: &Poll) -> io::Result<()> {
        let was_waiting = self.written > 0;
        self.written += socket::write(&self.session.socket, &self.message[self.written..])?.unwrap_or(0);
        let waits = self.written < self.message.len();
        if waits != was_waiting {
            let interest = if waits { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            poll.modify(&self.session.socket, name, interest)?;
        }
        Ok(())
    }

    /// Whether the whole message is back.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let Some(read) = socket::read(&self.session.socket, buffer)? else { return Ok(false) };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.message.get(self.read..self.read + read) != Some(&buffer[..read]) {
            return Err(io::Error::other("other bytes"));
        }
        self.read += read;
        Ok(self.read == self.message.len())
    }
}

/// How long nothing may come back.
const PATIENCE: Duration = Duration::from_secs(5);
