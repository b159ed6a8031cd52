//! How long a session may be silent.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::report::CloseReason;
use crate::tick::{Asked, TICK};
use crate::worker::Seat;

/// A session in which nothing moved for as long as is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Silent {
    /// Neither side had ended.
    #[error("no byte moved for {0:?}")]
    Idle(Duration),
    /// One side had ended, and the other neither ended nor said anything.
    #[error("one side has ended, and no byte moved for {0:?} since")]
    HalfClosed(Duration),
}

impl Silent {
    /// The close reason this makes.
    pub const fn reason(&self) -> CloseReason {
        match self {
            Self::Idle(_) => CloseReason::IdleTimeout,
            Self::HalfClosed(_) => CloseReason::HalfClosedTimeout,
        }
    }
}

/// How long silence may last; `None`: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SilenceLimits {
    pub(crate) idle: Option<Duration>,
    /// Once one side has ended.
    pub(crate) half_closed: Option<Duration>,
}

impl SilenceLimits {
    /// The shorter of the limits that hold, and what it means to reach it.
    fn now(&self, half_closed: bool) -> Option<(Duration, Silent)> {
        let idle = self.idle.map(|limit| (limit, Silent::Idle(limit)));
        let half = self.half_closed.filter(|_| half_closed).map(|limit| (limit, Silent::HalfClosed(limit)));
        [idle, half].into_iter().flatten().min_by_key(|(limit, _)| *limit)
    }
}

/// Ends when a session has been silent for too long. To be polled with the relay, behind it, in one task.
///
/// Whatever moves bytes polls this too, so that it sees by the counters what happened and needs to be told nothing.
/// Without a limit that holds it is one comparison and no timer; with one, a timer that is set anew only when it
/// fires, and not for each byte; and a session that ends within a tick never has one, unless the limit is that short.
pub(crate) struct Silence<'a> {
    limits: &'a SilenceLimits,
    seat: &'a Seat,
    /// Most sessions never need one.
    timer: Option<Box<Timer>>,
}

struct Timer {
    /// Not before the session has lived for a moment.
    sleep: Option<Pin<Box<Sleep>>>,
    asked: Asked,
    seen: Seen,
    /// When `seen` was new.
    since: Instant,
    /// The runtime knows whom to wake.
    armed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    bytes: u64,
    half_closed: bool,
}

impl<'a> Silence<'a> {
    pub(crate) const fn new(limits: &'a SilenceLimits, seat: &'a Seat) -> Self {
        Self { limits, seat, timer: None }
    }
}

impl Future for Silence<'_> {
    type Output = Silent;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Silent> {
        let half_closed = self.seat.half_closed();
        let Some((limit, silent)) = self.limits.now(half_closed) else { return Poll::Pending };
        let seen = Seen { bytes: self.seat.traffic.up().wrapping_add(self.seat.traffic.down()), half_closed };
        let beat = self.seat.beat();
        let timer = self.timer.get_or_insert_with(|| Box::new(Timer::new(seen, beat.ask(context.waker()))));
        timer.look(seen, limit);
        if timer.sleep.is_none() && limit > TICK && !beat.has_come(timer.asked) {
            return Poll::Pending;
        }
        timer.poll(limit, context).map(|()| silent)
    }
}

impl Timer {
    fn new(seen: Seen, asked: Asked) -> Self {
        Self { sleep: None, asked, seen, since: Instant::now(), armed: false }
    }

    /// Ready when nothing was new for `limit`.
    fn poll(&mut self, limit: Duration, context: &mut Context<'_>) -> Poll<()> {
        let Self { sleep, since, armed, .. } = self;
        let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(*since + limit)));
        // Asking costs less than waiting anew, which nothing but its time makes necessary.
        while !*armed || sleep.is_elapsed() {
            *armed = true;
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let due = *since + limit;
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
            *armed = false;
        }
        Poll::Pending
    }

    fn look(&mut self, seen: Seen, limit: Duration) {
        if seen == self.seen {
            return;
        }
        self.since = Instant::now();
        if seen.half_closed != self.seen.half_closed
            && let Some(sleep) = &mut self.sleep
        {
            // Another limit holds, which may be shorter than what is left of this one.
            sleep.as_mut().reset(self.since + limit);
            self.armed = false;
        }
        self.seen = seen;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{sleep, timeout};

    const MINUTE: Duration = Duration::from_secs(60);

    /// The clock stands still while anything happens, and jumps to the next timer when nothing does.
    fn on_a_clock_of_our_own<F: Future>(test: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(test)
    }

    /// Plays a relay that moves a byte at each of `moves`, and ends one side at `ends`; when does it end, and why?
    async fn session(limits: SilenceLimits, moves: &[u64], ends: Option<u64>) -> Option<(Duration, Silent)> {
        let seat = Seat::alone();
        let start = Instant::now();
        let mut moments: Vec<_> = moves.iter().map(|second| (*second, false)).collect();
        moments.extend(ends.map(|second| (second, true)));
        moments.sort_unstable();
        let relay = async {
            for (second, end) in moments {
                sleep(start + Duration::from_secs(second) - Instant::now()).await;
                if end {
                    seat.note_half_closed();
                } else {
                    seat.traffic.note_up(1);
                }
            }
            std::future::pending::<()>().await;
        };
        let silent = async {
            tokio::select! {
                biased;
                () = relay => unreachable!("it never ends"),
                silent = Silence::new(&limits, &seat) => silent,
            }
        };
        let silent = timeout(1000 * MINUTE, silent).await.ok()?;
        Some((start.elapsed(), silent))
    }

    #[test]
    fn silence_is_counted_from_the_last_byte() {
        let limits = SilenceLimits { idle: Some(MINUTE), half_closed: None };
        let from = |moves: &'static [u64]| on_a_clock_of_our_own(session(limits, moves, None));
        let after = |seconds| Some((Duration::from_secs(seconds), Silent::Idle(MINUTE)));
        assert_eq!(from(&[]), after(60));
        assert_eq!(from(&[10]), after(70));
        assert_eq!(from(&[10, 59, 100, 159]), after(219));
        // One second too late.
        assert_eq!(from(&[10, 71]), after(70));
    }

    #[test]
    fn without_a_limit_silence_lasts_for_ever() {
        let limits = SilenceLimits { idle: None, half_closed: Some(MINUTE) };
        assert_eq!(on_a_clock_of_our_own(session(limits, &[1, 2], None)), None);
        let limits = SilenceLimits { idle: None, half_closed: None };
        assert_eq!(on_a_clock_of_our_own(session(limits, &[1, 2], Some(3))), None);
    }

    #[test]
    fn an_end_starts_a_limit_of_its_own() {
        let limits = SilenceLimits { idle: None, half_closed: Some(MINUTE) };
        let after = |seconds| Some((Duration::from_secs(seconds), Silent::HalfClosed(MINUTE)));
        assert_eq!(on_a_clock_of_our_own(session(limits, &[1, 500], Some(600))), after(660));
        // What still comes from the other side counts.
        assert_eq!(on_a_clock_of_our_own(session(limits, &[630, 680], Some(600))), after(740));
    }

    #[test]
    fn the_shorter_limit_holds() {
        let limits = SilenceLimits { idle: Some(10 * MINUTE), half_closed: Some(MINUTE) };
        let ended = on_a_clock_of_our_own(session(limits, &[], Some(30)));
        assert_eq!(ended, Some((Duration::from_secs(90), Silent::HalfClosed(MINUTE))));
        let limits = SilenceLimits { idle: Some(MINUTE), half_closed: Some(10 * MINUTE) };
        let ended = on_a_clock_of_our_own(session(limits, &[], Some(30)));
        assert_eq!(ended, Some((Duration::from_secs(90), Silent::Idle(MINUTE))));
    }

    #[test]
    fn a_session_without_limits_that_hold_has_no_timer() {
        let limits = SilenceLimits { idle: None, half_closed: Some(MINUTE) };
        let seat = Seat::alone();
        let mut silence = Silence::new(&limits, &seat);
        let mut context = Context::from_waker(std::task::Waker::noop());
        // No runtime: a timer would panic.
        assert!(Pin::new(&mut silence).poll(&mut context).is_pending());
        assert!(silence.timer.is_none());
        assert!(size_of::<Silence<'_>>() <= 3 * size_of::<usize>());
    }
}
