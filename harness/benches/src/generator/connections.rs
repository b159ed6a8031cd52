//! New connections, a fixed number at once: connect, header and hello, one byte back, close.

use std::io;
use std::time::{Duration, Instant};

use crate::poll::{EventFlags, Poll};
use crate::slots::Slots;
use crate::wire::{Role, WELCOME};

use super::open::progress;
use super::{Dialled, Outcome, Route, Shared};

/// Runs until told to stop, then until the last connection has ended.
pub(crate) fn run(route: &Route<'_>, at_once: usize, shared: &Shared) -> io::Result<Outcome> {
    let mut outcome = Outcome::new();
    let mut poll = Poll::new()?;
    let mut pending: Slots<(Dialled, Instant)> = Slots::new();
    let mut ready = Vec::new();
    let mut last = Instant::now();
    loop {
        while !shared.stopped() && pending.len() < at_once {
            let start = Instant::now();
            let name = pending.insert((route.dial(Role::Echo)?, start));
            let (session, _) = pending.get_mut(name).expect("it was inserted just now");
            poll.add(&session.socket, name, EventFlags::IN | EventFlags::OUT | EventFlags::ET)?;
        }
        if pending.len() == 0 {
            return Ok(outcome);
        }
        poll.wait(Duration::from_millis(20), &mut ready)?;
        for &(name, _) in &ready {
            let Some((session, start)) = pending.get_mut(name) else { continue };
            let Some(answer) = progress(session) else { continue };
            last = Instant::now();
            let elapsed = last.duration_since(*start);
            pending.remove(name);
            match answer {
                Ok(WELCOME) => {
                    Shared::add(&shared.operations, 1);
                    if shared.is_measuring() {
                        outcome.latency.saturating_record(elapsed.as_nanos().try_into().unwrap_or(u64::MAX));
                    }
                }
                Ok(_) => outcome.fault("a connection had a wrong source".to_owned()),
                Err(error) => outcome.fault(format!("a connection broke before its answer: {error}")),
            }
        }
        if last.elapsed() > PATIENCE {
            outcome.fault(format!("{} connections were never answered", pending.len()));
            return Ok(outcome);
        }
        // A gateway that refuses everything is refused more work: this is no test of how fast it can.
        if outcome.faults.len() >= super::MOST_FAULTS {
            return Ok(outcome);
        }
    }
}

/// How long nothing may happen: a SYN that a full queue dropped is repeated after one second, and again after two.
const PATIENCE: Duration = Duration::from_secs(5);
