//! How soon something is tried again.

use std::time::Duration;

use tokio::time::Instant;

/// At once the first time; then after pauses that double, until it has gone well for a while.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
    last: Option<Instant>,
}

impl Backoff {
    /// When to try again what has just failed.
    pub(crate) fn next(&mut self, now: Instant) -> Instant {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= FORGIVEN) {
            self.tries = 0;
        }
        let pause = match self.tries {
            0 => Duration::ZERO,
            tries => (SHORTEST * 2_u32.saturating_pow(tries - 1)).min(LONGEST),
        };
        self.tries = (self.tries + 1).min(16);
        let at = now + pause;
        self.last = Some(at);
        at
    }
}

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// What lived that long did not fail because of how it was started.
const FORGIVEN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_are_forgiven() {
        let (mut backoff, start) = (Backoff::default(), Instant::now());
        let pauses: Vec<_> =
            (0..12).map(|_| backoff.next(start) - start).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000, 10_000]);
        let later = start + LONGEST + FORGIVEN;
        assert_eq!(backoff.next(later), later);
    }
}
