//! Repeated trouble is told once a while, with a count.

use std::time::{Duration, Instant};

/// Lets one event per period through and counts the others.
#[derive(Clone, Debug)]
pub struct RateLimited {
    period: Duration,
    last: Option<Instant>,
    /// Events since the one at `last`.
    held: u64,
}

impl RateLimited {
    /// At most one event per `period`.
    pub const fn new(period: Duration) -> Self {
        Self { period, last: None, held: 0 }
    }

    /// At most one event per minute, the rate for logs.
    pub const fn per_minute() -> Self {
        Self::new(Duration::from_secs(60))
    }

    /// `Some(n)` when the event at `now` should be told; `n` events were held back since the last one that was.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.period) {
            self.held += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_per_minute_with_the_number_held_back() {
        let start = Instant::now();
        let mut limited = RateLimited::per_minute();
        assert_eq!(limited.admit(start), Some(0));
        for second in 1..60 {
            assert_eq!(limited.admit(start + Duration::from_secs(second)), None);
        }
        assert_eq!(limited.admit(start + Duration::from_secs(60)), Some(59));
        assert_eq!(limited.admit(start + Duration::from_secs(120)), Some(0));
    }
}
