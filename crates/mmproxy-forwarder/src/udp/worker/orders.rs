//! What a worker is told by other threads.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::live::Order;

/// Tells a worker to end, from another thread; its bell has to be rung afterwards.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    phase: AtomicU8,
    /// What its flows are asked.
    asked: Mutex<Vec<(Order, usize)>>,
}

impl Orders {
    /// No new flows, and an end soon.
    pub(crate) fn drain(&self) {
        self.phase.fetch_max(DRAIN, Ordering::Release);
    }

    /// The end, now.
    pub(crate) fn cut(&self) {
        self.phase.fetch_max(CUT, Ordering::Release);
    }

    /// Whether it is to end, as [`DRAIN`] or [`CUT`]; 0 if not.
    pub(super) fn now(&self) -> u8 {
        self.phase.load(Ordering::Acquire)
    }

    /// Asks `at_most` so many flows.
    pub(crate) fn ask(&self, order: Order, at_most: usize) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((order, at_most));
    }

    /// Takes what flows are asked.
    pub(super) fn asked(&self) -> Vec<(Order, usize)> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What [`Orders::now`] says: no new flows, and an end soon.
pub(super) const DRAIN: u8 = 1;

/// The end, now.
pub(super) const CUT: u8 = 2;
