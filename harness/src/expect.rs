//! Waiting for something to become true, with a deadline instead of a pause.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take that should happen "soon".
///
/// Generous on purpose: a test that passes never waits this long, and one that fails on a busy machine
/// because of its clock is worse than no test.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Asks `probe` until it answers with a value, for at most [`DEADLINE`].
///
/// # Panics
///
/// When the deadline passes; `what` completes the sentence "waited 30 s for …".
#[track_caller]
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    match within(DEADLINE, probe) {
        Some(value) => value,
        None => panic!("waited {DEADLINE:?} for {what}"),
    }
}

/// Asks `probe` until it answers with a value; `None` when `limit` passed without one.
pub fn within<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        // The clock is read before the question: the last answer counts even if asking took long.
        let late = start.elapsed() >= limit;
        if let Some(value) = probe() {
            return Some(value);
        }
        if late {
            return None;
        }
        sleep(PAUSE);
    }
}

/// Between two questions: short beside a scheduler's turn, long beside the question itself.
const PAUSE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_handed_over_as_soon_as_there_is_one() {
        let mut asked = 0;
        let value = eventually("the third answer", || {
            asked += 1;
            (asked == 3).then_some("here")
        });
        assert_eq!((value, asked), ("here", 3));
    }

    #[test]
    fn a_passed_deadline_is_no_value_but_the_question_was_asked() {
        let mut asked = 0;
        assert_eq!(
            within(Duration::ZERO, || -> Option<()> {
                asked += 1;
                None
            }),
            None
        );
        assert_eq!(asked, 1);
    }
}
