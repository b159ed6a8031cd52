//! Streams as fast as the way carries them.

use std::io;
use std::time::{Duration, Instant};

use crate::case::Direction;
use crate::pattern::{Reader, Writer};
use crate::poll::{EventFlags, Poll};
use crate::socket;

use super::open::Open;
use super::{Outcome, Shared};

/// Streams until told to stop, then until every byte has arrived.
pub(crate) fn run(direction: Direction, sessions: Vec<Open>, shared: &Shared) -> io::Result<Outcome> {
    match direction {
        Direction::Upload => upload(sessions, shared),
        Direction::Download => download(sessions, shared),
    }
}

fn upload(sessions: Vec<Open>, shared: &Shared) -> io::Result<Outcome> {
    let mut outcome = Outcome::new();
    let mut poll = Poll::new()?;
    for (name, session) in sessions.iter().enumerate() {
        poll.add(&session.socket, name, EventFlags::OUT)?;
    }
    let mut offsets = vec![0_u64; sessions.len()];
    let (mut writer, mut ready) = (Writer::new(PIECE), Vec::new());
    while !shared.stopped() && outcome.faults.is_empty() {
        poll.wait(TURN, &mut ready)?;
        for &(name, _) in &ready {
            let session = &sessions[name];
            match socket::write(&session.socket, writer.at(session.seed, offsets[name])) {
                Ok(written) => {
                    let written = written.unwrap_or(0);
                    offsets[name] += written as u64;
                    Shared::add(&shared.sent, written);
                }
                Err(error) => outcome.fault(format!("a session broke while uploading: {error}")),
            }
        }
    }
    // The target closes when it has read the end; until then bytes are on their way.
    let mut over = vec![false; sessions.len()];
    for (name, session) in sessions.iter().enumerate() {
        // Fails if the other end has reset the connection, which reading below reports.
        rustix::net::shutdown(&session.socket, rustix::net::Shutdown::Write).ok();
        poll.modify(&session.socket, name, EventFlags::IN)?;
    }
    let mut end = End::new();
    let mut byte = [0];
    while over.contains(&false) {
        poll.wait(TURN, &mut ready)?;
        for &(name, _) in &ready {
            match socket::read(&sessions[name].socket, &mut byte) {
                Ok(None) => continue,
                Ok(Some(0)) => {}
                Ok(Some(_)) => outcome.fault("a byte came back during an upload".to_owned()),
                Err(error) => outcome.fault(format!("a session broke at the end of an upload: {error}")),
            }
            if !over[name] {
                over[name] = true;
                end.progressed();
                // Level-triggered: an end that stays readable would be reported for ever.
                poll.modify(&sessions[name].socket, name, EventFlags::empty())?;
            }
        }
        if end.is_overdue() {
            outcome.fault(stalled(&over, "upload"));
            break;
        }
    }
    Ok(outcome)
}

fn download(sessions: Vec<Open>, shared: &Shared) -> io::Result<Outcome> {
    let mut outcome = Outcome::new();
    let mut poll = Poll::new()?;
    for (name, session) in sessions.iter().enumerate() {
        poll.add(&session.socket, name, EventFlags::IN)?;
    }
    let mut readers: Vec<_> = sessions.iter().map(|session| Reader::new(session.seed)).collect();
    let mut over = vec![false; sessions.len()];
    let (mut buffer, mut ready) = (vec![0; PIECE], Vec::new());
    let mut told = false;
    let mut end = End::new();
    while over.contains(&false) {
        if !told && shared.stopped() {
            told = true;
            end.progressed();
            for session in &sessions {
                // Fails if the other end has reset the connection, which reading reports.
                socket::write(&session.socket, b".").ok();
            }
        }
        poll.wait(TURN, &mut ready)?;
        for &(name, _) in &ready {
            match socket::read(&sessions[name].socket, &mut buffer) {
                Ok(None) => continue,
                Ok(Some(read)) if read > 0 => {
                    Shared::add(&shared.received, read);
                    end.progressed();
                    if !readers[name].accept(&buffer[..read]) {
                        outcome.fault("a download's bytes are not what the target wrote".to_owned());
                    }
                    continue;
                }
                Ok(_) if told => {}
                Ok(_) => outcome.fault("a download ended by itself".to_owned()),
                Err(error) => outcome.fault(format!("a session broke while downloading: {error}")),
            }
            if !over[name] {
                over[name] = true;
                poll.modify(&sessions[name].socket, name, EventFlags::empty())?;
            }
        }
        if end.is_overdue() {
            outcome.fault(stalled(&over, "download"));
            break;
        }
    }
    Ok(outcome)
}

fn stalled(over: &[bool], what: &str) -> String {
    let left = over.iter().filter(|&&over| !over).count();
    format!("{left} of {} streams stalled at the end of the {what}", over.len())
}

/// Waits for an end as long as there is progress.
struct End {
    last: Instant,
}

impl End {
    fn new() -> Self {
        Self { last: Instant::now() }
    }

    fn progressed(&mut self) {
        self.last = Instant::now();
    }

    fn is_overdue(&self) -> bool {
        self.last.elapsed() > PATIENCE
    }
}

const PIECE: usize = 256 << 10;
/// How late a stop may be noticed.
const TURN: Duration = Duration::from_millis(20);
/// How long nothing may happen while bytes are on their way.
const PATIENCE: Duration = Duration::from_secs(5);
