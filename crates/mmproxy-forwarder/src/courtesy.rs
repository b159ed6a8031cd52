//! Bulk in larger pieces: a thread that moves nothing else lets others run before it looks for more.

use std::cell::Cell;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use crate::tcp::traffic::Moved;

/// Yields the processor if several sessions of this thread move bulk, and none of its sessions small messages. For a
/// runtime that serves, before its thread goes to sleep ([`on_thread_park`](tokio::runtime::Builder::on_thread_park)).
///
/// Whoever sends and whoever receives may share the processor with the gateway. If it looks for more as soon as it has
/// moved a piece, it finds a small one, of one session, and wakes the receiver for less than it could have. Where nobody
/// else wants the processor, this is one system call for a wait: `sched_yield(2)`.
///
/// Small messages do not wait for it. Nor does a session that moves bulk alone: its pieces are large, and all that it
/// could be is late. And where others take the processor for long, nothing is yielded for a while, so that bulk keeps its
/// share of a busy machine.
///
/// ```
/// let runtime = tokio::runtime::Builder::new_current_thread()
///     .enable_all()
///     .on_thread_park(mmproxy_forwarder::yield_after_bulk)
///     .build()?;
/// # drop(runtime);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn yield_after_bulk() {
    let mut lately = LATELY.get();
    let yields = lately.wait_yields();
    LATELY.set(lately);
    if yields {
        let begun = Instant::now();
        thread::yield_now();
        LATELY.set(LATELY.get().after_yield(begun.elapsed()));
    }
}

/// A direction of this thread's sessions, told from others by its address, has moved a piece of bulk.
pub(crate) fn note_bulk(direction: &Moved) {
    LATELY.set(LATELY.get().with_bulk(ptr::from_ref(direction).addr()));
}

/// A session of this thread has moved a small message.
pub(crate) fn note_small() {
    LATELY.set(LATELY.get().with_objection());
}

/// What this thread has moved lately.
#[derive(Clone, Copy)]
struct Lately {
    /// Bulk since the last wait.
    bulk: bool,
    /// Who moved bulk last.
    mover: usize,
    /// Since another one did; this and the next as far as they are counted.
    waits_since_other: u8,
    /// Since a small message, or since others took the processor for long.
    waits_since_objection: u8,
}

impl Lately {
    const NOTHING: Self =
        Self { bulk: false, mover: 0, waits_since_other: FORGOTTEN, waits_since_objection: FORGOTTEN };

    const fn with_bulk(self, mover: usize) -> Self {
        // The first one of all is alone.
        let other = self.mover != mover && self.mover != 0;
        let waits_since_other = if other { 0 } else { self.waits_since_other };
        Self { bulk: true, mover, waits_since_other, ..self }
    }

    const fn with_objection(self) -> Self {
        Self { waits_since_objection: 0, ..self }
    }

    fn after_yield(self, took: Duration) -> Self {
        if took > LONG { self.with_objection() } else { self }
    }

    /// A wait begins: whether it yields.
    fn wait_yields(&mut self) -> bool {
        let yields =
            self.bulk && self.waits_since_other < FORGOTTEN && self.waits_since_objection == FORGOTTEN;
        self.bulk = false;
        for waits in [&mut self.waits_since_other, &mut self.waits_since_objection] {
            if *waits < FORGOTTEN {
                *waits += 1;
            }
        }
        yields
    }
}

thread_local! {
    static LATELY: Cell<Lately> = const { Cell::new(Lately::NOTHING) };
}

/// What was not seen for so many waits is not expected any more.
const FORGOTTEN: u8 = 64;

/// Whoever feeds and drains the sessions needs less before they sleep again; about two slices of a scheduler.
const LONG: Duration = Duration::from_millis(4);

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the next waits would yield if before each of them `movers` moved bulk.
    fn yields(lately: &mut Lately, waits: usize, movers: &[usize]) -> usize {
        let mut one = || {
            *lately = movers.iter().fold(*lately, |lately, mover| lately.with_bulk(*mover));
            lately.wait_yields()
        };
        (0..waits).filter(|_| one()).count()
    }

    #[test]
    fn bulk_of_several_yields() {
        let mut lately = Lately::NOTHING;
        assert_eq!(yields(&mut lately, 10, &[1, 2]), 10);
        // Nothing came.
        assert_eq!(yields(&mut lately, 10, &[]), 0);
        // One after the other.
        let turns: usize = (0..10).map(|turn| yields(&mut lately, 1, &[1 + turn % 2])).sum();
        assert_eq!(turns, 10);
    }

    #[test]
    fn bulk_of_one_does_not_and_of_one_that_is_left_only_for_a_while() {
        let mut lately = Lately::NOTHING;
        assert_eq!(yields(&mut lately, 1000, &[1]), 0);
        assert_eq!(yields(&mut lately, 1, &[1, 2]), 1);
        assert_eq!(yields(&mut lately, 1000, &[2]), usize::from(FORGOTTEN) - 1);
    }

    #[test]
    fn bulk_beside_small_messages_does_not_until_they_have_been_away_for_a_while() {
        let mut lately = Lately::NOTHING.with_objection();
        assert_eq!(yields(&mut lately, FORGOTTEN.into(), &[1, 2]), 0);
        assert_eq!(yields(&mut lately, 10, &[1, 2]), 10);
        lately = lately.with_objection();
        assert_eq!(yields(&mut lately, 10, &[1, 2]), 0);
    }

    #[test]
    fn bulk_does_not_for_a_while_where_others_took_the_processor_for_long() {
        let mut lately = Lately::NOTHING.after_yield(LONG);
        assert_eq!(yields(&mut lately, 10, &[1, 2]), 10);
        lately = lately.after_yield(LONG + Duration::from_micros(1));
        assert_eq!(yields(&mut lately, FORGOTTEN.into(), &[1, 2]), 0);
        assert_eq!(yields(&mut lately, 10, &[1, 2]), 10);
    }

    #[test]
    fn what_sessions_note_is_their_threads_own() {
        let (one, other) = (Moved::new(), Moved::new());
        note_bulk(&one);
        note_bulk(&other);
        assert_eq!(LATELY.get().waits_since_other, 0);
        note_small();
        assert_eq!(LATELY.get().waits_since_objection, 0);
        // No wait that yields, so that no time is taken.
        yield_after_bulk();
        assert!(!LATELY.get().bulk);
        thread::spawn(|| assert_eq!(LATELY.get().waits_since_objection, FORGOTTEN)).join().unwrap();
    }
}
