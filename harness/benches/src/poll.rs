//! Readiness of many sockets: epoll with numbers for names.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

pub(crate) use rustix::event::epoll::EventFlags;

/// An epoll instance and room for what it reports.
pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS) })
    }

    pub(crate) fn add(&self, socket: impl AsFd, name: usize, interest: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(name as u64), interest)?)
    }

    pub(crate) fn modify(&self, socket: impl AsFd, name: usize, interest: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, socket, epoll::EventData::new_u64(name as u64), interest)?)
    }

    /// Waits, at most for `limit`, and hands over the names of what is ready.
    pub(crate) fn wait(&mut self, limit: Duration, ready: &mut Vec<(usize, EventFlags)>) -> io::Result<()> {
        ready.clear();
        self.events.clear();
        let limit = Timespec::try_from(limit).ok();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        #[expect(clippy::cast_possible_truncation, reason = "names are usize")]
        ready.extend(self.events.iter().map(|event| (event.data.u64() as usize, event.flags)));
        Ok(())
    }
}

/// How many sockets are looked at in one turn.
const EVENTS: usize = 256;
