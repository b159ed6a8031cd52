//! Connections that are the balancer's own, and what is known of the targets to answer them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::addr::{Family, TargetAddr, Targets};
use crate::config::DialOptions;
use crate::report::CloseReason;
use crate::tcp::dial;

/// What becomes of connections that speak for no client: LOCAL, as health checks are, and UNKNOWN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthChecks {
    /// They reach the target, from the gateway's own address.
    #[default]
    Pass,
    /// The gateway answers: it closes in order if the target is up, and resets if it is down. Nothing reaches the
    /// target, which saves its log from the balancers' checks.
    ///
    /// The answer is what [`TargetHealth`] knows; before it knows anything the target is asked.
    Answer,
    /// They are reset.
    Refuse,
}

/// Whether the targets were up when they were asked last. A clone is the same knowledge.
///
/// Connections of clients that come about teach it that a target is up. That it is down is learnt by
/// [`check`](Self::check) alone: a target may refuse one client and be fine for others.
#[derive(Clone, Debug, Default)]
pub struct TargetHealth {
    families: Arc<[AtomicU8; 2]>,
}

impl TargetHealth {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the target of `family` is up; `None` while nobody has asked.
    pub fn is_up(&self, family: Family) -> Option<bool> {
        match self.of(family).load(Ordering::Relaxed) {
            UP => Some(true),
            DOWN => Some(false),
            _ => None,
        }
    }

    /// Connects to each of `targets` and leaves.
    pub async fn check(&self, targets: &Targets, options: &DialOptions) {
        for target in [Family::V4, Family::V6].into_iter().filter_map(|family| targets.of(family)) {
            self.ask(target, options).await;
        }
    }

    /// [`check`](Self::check) at once and then `every` so often, for ever.
    pub async fn watch(self, targets: Targets, options: DialOptions, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.check(&targets, &options).await;
        }
    }

    /// Connects to `target` and leaves; whether it is up.
    pub(crate) async fn ask(&self, target: TargetAddr, options: &DialOptions) -> bool {
        let up = dial::connect_plain(target, options).await.is_ok();
        self.note(target.family(), up);
        up
    }

    pub(crate) fn note(&self, family: Family, up: bool) {
        let (known, state) = (self.of(family), if up { UP } else { DOWN });
        // Each session says it, and hardly ever is it news: the cache line stays shared.
        if known.load(Ordering::Relaxed) != state {
            known.store(state, Ordering::Relaxed);
        }
    }

    fn of(&self, family: Family) -> &AtomicU8 {
        match family {
            Family::V4 => &self.families[0],
            Family::V6 => &self.families[1],
        }
    }
}

const UP: u8 = 1;
const DOWN: u8 = 2;

/// The end of a balancer's own connection that does not reach the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HealthCheckEnd {
    /// Closed in order.
    #[error("the balancer's own connection was answered: target {0} is up")]
    Answered(TargetAddr),
    /// Reset.
    #[error("the balancer's own connection was reset: target {0} is down")]
    TargetDown(TargetAddr),
    /// Reset.
    #[error("connections that speak for no client (LOCAL, UNKNOWN) are refused")]
    Refused,
}

impl HealthCheckEnd {
    /// The close reason this makes.
    pub const fn reason(&self) -> CloseReason {
        match self {
            Self::Answered(_) => CloseReason::HealthCheck,
            Self::TargetDown(_) => CloseReason::HealthCheckFailed,
            Self::Refused => CloseReason::HealthCheckRefused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[tokio::test]
    async fn a_target_is_what_it_was_when_asked_last() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let targets = Targets::new(Some(address.to_string().parse().unwrap()), None).unwrap();
        let (health, options) = (TargetHealth::new(), DialOptions::new());
        assert_eq!(health.is_up(Family::V4), None);
        health.check(&targets, &options).await;
        assert_eq!((health.is_up(Family::V4), health.is_up(Family::V6)), (Some(true), None));
        drop(listener);
        health.check(&targets, &options).await;
        assert_eq!(health.clone().is_up(Family::V4), Some(false));
    }
}
