//! What a service manager is told (`sd_notify(3)`); nothing where there is none.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// Connections are taken; how things are, in one line.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What was asked for is being read again; [`ready`] follows whatever comes of it.
pub(crate) fn reloading() {
    // Without the time a manager does not know which of its requests this answers.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "no monotonic clock"),
    }
}

/// The end has begun, and comes within this time: a manager with less patience (`TimeoutStopSec=`) is asked to have it, because
/// a keeper that is killed cleans up nothing.
pub(crate) fn stopping(within: Duration) {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("no new connections; sessions may finish"),
        NotifyState::ExtendTimeoutUsec(u32::try_from(within.as_micros()).unwrap_or(u32::MAX)),
    ]);
}

/// The keeper goes on, and answers for its workers.
pub(crate) fn alive() {
    if sd_notify::watchdog_enabled().is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

/// How often [`alive`] has to be said, if at all: twice as often as the manager asks for.
pub(crate) fn interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|longest| (longest / 2).max(Duration::from_millis(100)))
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager could not be told");
    }
}
