//! Bytes that were moved: of one session, and of all sessions of a worker.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Bytes delivered so far, readable while the session lives.
#[derive(Debug)]
pub(crate) struct Traffic {
    pub(crate) up: Moved,
    pub(crate) down: Moved,
    opened: Instant,
    /// Nanoseconds from `opened` to the first byte down; 0 before.
    first_down: AtomicU64,
}

impl Traffic {
    pub(crate) const fn new(opened: Instant) -> Self {
        Self { up: Moved::new(), down: Moved::new(), opened, first_down: AtomicU64::new(0) }
    }

    /// When the session began.
    pub(crate) const fn opened(&self) -> Instant {
        self.opened
    }

    /// Bytes the target's socket accepted.
    pub(crate) fn up(&self) -> u64 {
        self.up.get()
    }

    /// Bytes the peer's socket accepted.
    pub(crate) fn down(&self) -> u64 {
        self.down.get()
    }

    /// Remembers when the first byte went down. To be called after each turn; two loads where there is nothing to do.
    pub(crate) fn note_turn(&self) {
        if self.first_down.load(Ordering::Relaxed) == 0 && self.down() > 0 {
            let elapsed = u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.first_down.store(elapsed.max(1), Ordering::Relaxed);
        }
    }

    /// From accept to the first byte that the peer's socket accepted.
    pub(crate) fn first_byte(&self) -> Option<Duration> {
        match self.first_down.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    #[cfg(test)]
    pub(crate) fn note_up(&self, bytes: usize) {
        self.up.add(bytes);
    }
}

/// Counts that one task adds to and anybody may read.
#[derive(Debug)]
pub(crate) struct Moved {
    bytes: AtomicU64,
    spliced: AtomicU64,
}

impl Moved {
    pub(crate) const fn new() -> Self {
        Self { bytes: AtomicU64::new(0), spliced: AtomicU64::new(0) }
    }

    pub(crate) fn add(&self, bytes: usize) {
        // One writer: two plain accesses are cheaper than a locked one.
        self.bytes.store(self.get() + bytes as u64, Ordering::Relaxed);
    }

    /// The same for bytes that came through a pipe.
    pub(crate) fn add_spliced(&self, bytes: usize) {
        self.add(bytes);
        self.spliced.store(self.spliced() + bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn spliced(&self) -> u64 {
        self.spliced.load(Ordering::Relaxed)
    }
}

/// What all sessions of a worker have moved.
///
/// Written by the worker's own thread, so that nobody waits for its cache line; where a runtime moves sessions between
/// threads, by several.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) up: Lane,
    pub(crate) down: Lane,
}

impl Totals {
    pub(crate) fn get(&self) -> TrafficTotals {
        TrafficTotals { up: self.up.get(), down: self.down.get() }
    }
}

/// One direction of [`Totals`].
#[derive(Debug, Default)]
pub(crate) struct Lane {
    copied: AtomicU64,
    spliced: AtomicU64,
}

impl Lane {
    pub(crate) fn add(&self, bytes: usize) {
        self.copied.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_spliced(&self, bytes: usize) {
        self.spliced.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn get(&self) -> LaneTotals {
        LaneTotals {
            copied: self.copied.load(Ordering::Relaxed),
            spliced: self.spliced.load(Ordering::Relaxed),
        }
    }
}

/// Bytes that a gateway has moved since its start, also those of sessions that still live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrafficTotals {
    /// Accepted by targets.
    pub up: LaneTotals,
    /// Accepted by balancers.
    pub down: LaneTotals,
}

/// Bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneTotals {
    /// Through a buffer of the gateway.
    pub copied: u64,
    /// Through a pipe, without leaving the kernel.
    pub spliced: u64,
}

impl AddAssign for TrafficTotals {
    fn add_assign(&mut self, other: Self) {
        for (lane, more) in [(&mut self.up, other.up), (&mut self.down, other.down)] {
            lane.copied += more.copied;
            lane.spliced += more.spliced;
        }
    }
}
