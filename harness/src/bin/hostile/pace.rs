//! Things that happen so often a second, however long each takes.

use std::time::{Duration, Instant};

use tokio::time::sleep_until;

/// The moments at which things are due.
#[derive(Debug)]
pub(crate) struct Pace {
    next: Instant,
    step: Duration,
}

impl Pace {
    /// From now on, `rate` a second.
    pub(crate) fn new(rate: u32) -> Self {
        Self { next: Instant::now(), step: Duration::from_secs(1) / rate }
    }

    /// Waits for the next moment, and returns it. One that has passed already is returned at once: nothing is left out.
    pub(crate) async fn next(&mut self) -> Instant {
        let due = self.next;
        self.next += self.step;
        // The clock of the runtime has milliseconds: what is due within one goes together.
        if due > Instant::now() {
            sleep_until(due.into()).await;
        }
        due
    }
}
