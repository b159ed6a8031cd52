//! What the sessions of all threads share: places below the limit, and numbers.

use std::num::NonZeroUsize;
// The model checker has atomics of its own; `ci/loom.sh` builds this file with them.
#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::report::SessionId;

/// Counts sessions for all threads of a gateway, or of one of its listeners.
///
/// Beside the shards of `limits::crowd` the only memory that threads write to in common. It is touched when a session begins and when it ends, never in
/// between, and has a cache line, or the pair that processors fetch, to itself.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Places {
    taken: AtomicUsize,
    opened: AtomicU64,
    limit: NonZeroUsize,
}

impl Places {
    pub(crate) fn new(limit: NonZeroUsize) -> Self {
        Self { taken: AtomicUsize::new(0), opened: AtomicU64::new(0), limit }
    }

    pub(crate) const fn limit(&self) -> usize {
        self.limit.get()
    }

    /// Takes a place, unless all are taken; each has to be given back with [`leave`](Self::leave).
    pub(crate) fn take(&self) -> bool {
        // Nothing else is published by these counters, so no ordering is needed. Adding first and taking back would
        // turn a session away while another one, which gets no place either, is counted.
        let next = |taken| if taken < self.limit.get() { Some(taken + 1) } else { None };
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Gives back what [`take`](Self::take) took.
    pub(crate) fn leave(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// A number that no other session has.
    pub(crate) fn next_id(&self) -> SessionId {
        SessionId(self.opened.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_places_as_the_limit_says() {
        let places = Places::new(NonZeroUsize::new(2).unwrap());
        assert!(places.take() && places.take());
        assert!(!places.take());
        places.leave();
        assert!(places.take());
        assert!(!places.take());
    }

    #[test]
    fn numbers_start_at_one() {
        let places = Places::new(NonZeroUsize::MIN);
        assert_eq!((places.next_id(), places.next_id()), (SessionId(1), SessionId(2)));
    }

    #[test]
    fn threads_never_hold_more_places_than_there_are() {
        let places = Places::new(NonZeroUsize::new(3).unwrap());
        let (held, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if places.take() {
                            most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            held.fetch_sub(1, Ordering::SeqCst);
                            places.leave();
                        }
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(places.taken.into_inner(), 0);
    }
}
