//! A beat that the sessions of a worker can ask for.

use std::fmt;
use std::mem::take;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use tokio::time::sleep;

/// Wakes those who asked for it, all together, within [`TICK`].
///
/// For what a session has to do only if it lives on, which most do not: a timer of its own would be set and taken away
/// each time, and now and then wake the runtime only to be set.
pub(crate) struct Ticker {
    passed: AtomicU32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of those who asked since the last beat, by the session's key; most of the time empty, and without memory then.
    wakers: Vec<Option<Waker>>,
    running: bool,
}

/// How many beats had passed when one was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked(u32);

impl Ticker {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { passed: AtomicU32::new(0), state: Mutex::default() })
    }

    fn ask(self: &Arc<Self>, key: u32, waker: &Waker) -> Asked {
        let mut state = self.lock();
        let place = key as usize;
        if state.wakers.len() <= place {
            state.wakers.resize(place + 1, None);
        }
        state.wakers[place] = Some(waker.clone());
        if !state.running {
            state.running = true;
            drop(tokio::spawn(run(Arc::downgrade(self))));
        }
        Asked(self.passed.load(Ordering::Relaxed))
    }

    /// Wakes who asked since the last beat; `false` when nobody did.
    fn beat(&self) -> bool {
        let mut state = self.lock();
        // Under the lock, which whoever asks holds: no beat is missed.
        self.passed.store(self.passed.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        let wakers = take(&mut state.wakers);
        let running = !wakers.is_empty();
        state.running = running;
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
        running
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ticker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticker").field("passed", &self.passed).finish_non_exhaustive()
    }
}

/// A ticker as one session sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beat<'a> {
    ticker: &'a Arc<Ticker>,
    /// No other session's that lives.
    key: u32,
}

impl<'a> Beat<'a> {
    pub(crate) const fn new(ticker: &'a Arc<Ticker>, key: u32) -> Self {
        Self { ticker, key }
    }

    /// Asks for the next beat, which wakes `waker`.
    pub(crate) fn ask(self, waker: &Waker) -> Asked {
        self.ticker.ask(self.key, waker)
    }

    /// Whoever asked is not there any more. To be called before the key can be another's.
    pub(crate) fn forget(self) {
        if let Some(waker) = self.ticker.lock().wakers.get_mut(self.key as usize) {
            *waker = None;
        }
    }

    /// Whether the beat that was asked for has come.
    pub(crate) fn has_come(self, asked: Asked) -> bool {
        self.ticker.passed.load(Ordering::Relaxed) != asked.0
    }
}

async fn run(ticker: Weak<Ticker>) {
    loop {
        sleep(TICK).await;
        if !ticker.upgrade().is_some_and(|ticker| ticker.beat()) {
            return;
        }
    }
}

/// Time between two beats.
pub(crate) const TICK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;
    use tokio::time::{Instant, timeout};

    async fn next(beat: Beat<'_>) {
        let mut asked = None;
        poll_fn(|cx| {
            let asked = *asked.get_or_insert_with(|| beat.ask(cx.waker()));
            if beat.has_come(asked) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_is_woken_within_a_tick_and_nobody_keeps_it_running() {
        let ticker = Ticker::new();
        for _ in 0..3 {
            let start = Instant::now();
            let (one, other) = (Beat::new(&ticker, 0), Beat::new(&ticker, 7));
            tokio::join!(next(one), next(other));
            assert!(start.elapsed() <= TICK);
            sleep(3 * TICK).await;
            assert!(!ticker.lock().running);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_a_key_that_another_had_is_woken_too() {
        let ticker = Ticker::new();
        let beat = Beat::new(&ticker, 3);
        assert!(timeout(TICK / 4, next(beat)).await.is_err());
        beat.forget();
        timeout(2 * TICK, next(beat)).await.expect("a beat");
    }
}
