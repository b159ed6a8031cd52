//! How workers of one listener hand datagrams to each other.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::addr::PeerAddr;

/// A mailbox for each worker.
#[derive(Debug)]
pub(crate) struct Group {
    mailboxes: Vec<Mailbox>,
}

/// A datagram that arrived at the wrong worker.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) peer: PeerAddr,
    pub(crate) local: IpAddr,
    pub(crate) bytes: Box<[u8]>,
}

impl Group {
    pub(crate) fn new(workers: usize) -> io::Result<Arc<Self>> {
        let mailboxes = (0..workers).map(|_| Mailbox::new()).collect::<io::Result<_>>()?;
        Ok(Arc::new(Self { mailboxes }))
    }

    pub(crate) fn len(&self) -> usize {
        self.mailboxes.len()
    }

    /// The mailbox of a worker.
    pub(crate) fn of(&self, worker: usize) -> &Mailbox {
        &self.mailboxes[worker]
    }
}

/// Datagrams for one worker, from the others; and what wakes it, for them and for whoever stops it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    letters: Mutex<VecDeque<Letter>>,
    bell: EventFd,
}

impl Mailbox {
    fn new() -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { letters: Mutex::default(), bell })
    }

    /// Leaves a letter; `false` if there is no room for it.
    pub(crate) fn post(&self, letter: Letter) -> bool {
        {
            let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
            if letters.len() >= CAPACITY {
                return false;
            }
            letters.push_back(letter);
        }
        self.ring();
        true
    }

    /// Takes everything that is there, and stops the bell.
    pub(crate) fn collect(&self) -> VecDeque<Letter> {
        // The bell first: a letter that comes in between rings again. It fails only if it does not ring.
        self.bell.read().ok();
        std::mem::take(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes the worker.
    pub(crate) fn ring(&self) {
        // It fails only if it has rung 2^64 times and nobody came.
        self.bell.write(1).ok();
    }

    pub(crate) const fn bell(&self) -> &EventFd {
        &self.bell
    }
}

/// Letters that may wait: more than a batch of every other worker.
const CAPACITY: usize = 4096;
