//! How long steps take: counts below fixed bounds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Upper bounds of the buckets in seconds: from a header that came with the first segment to a target that answered at the
/// third attempt of the kernel.
pub(crate) const BOUNDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Counts of times, added to without a lock.
#[derive(Debug)]
pub(super) struct Histogram {
    /// One for each bound, and one for what is above all of them.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// What a histogram says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Times {
    /// Not cumulative: one for each of [`BOUNDS`], and one for what is above.
    pub(crate) buckets: Vec<u64>,
    /// Sum in nanoseconds.
    pub(crate) nanos: u64,
}

impl Histogram {
    pub(super) fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Times {
        Times {
            buckets: self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect(),
            nanos: self.nanos.load(Ordering::Relaxed),
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), nanos: AtomicU64::new(0) }
    }
}

impl Times {
    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += more;
        }
        self.nanos = self.nanos.saturating_add(other.nanos);
    }

    /// The bound that `share` of all times are below, in seconds; `None` where there are none, or it is above all
    /// bounds.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = (self.count() as f64 * share).ceil().max(1.0);
        let mut below = 0;
        let bucket = self.buckets.iter().position(|count| {
            below += count;
            below as f64 >= wanted
        })?;
        BOUNDS.get(bucket).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_below_the_next_bound() {
        let histogram = Histogram::default();
        for micros in [1, 100, 101, 5_000_000, 9_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let times = histogram.get();
        // A bound belongs to its bucket, as `le` says.
        assert_eq!((times.buckets[0], times.buckets[1]), (2, 1));
        assert_eq!((times.buckets[13], times.buckets[14]), (1, 1));
        assert_eq!((times.count(), times.nanos), (5, 14_000_202_000));
        assert_eq!((times.quantile(0.5), times.quantile(1.0)), (Some(0.00025), None));
        assert_eq!(Times::default().quantile(0.5), None);
    }
}
