//! What a gateway is told: limits, time-outs, targets, policy.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use mmproxy_codec::DecodeOptions;

use crate::allowlist::AllowList;
use crate::choice::{ClientFrom, TargetChoice};
use crate::clients::ClientLists;
use crate::health::{HealthChecks, TargetHealth};
use crate::limits::SessionLimits;
use crate::own::{AddressProvider, OwnAddresses};
use crate::policy::SourcePolicy;
use crate::tcp::timeouts::SilenceLimits;

mod dial;
mod relay;

pub use dial::{DialOptions, Keepalive, KeepaliveInvalid, SourcePort, SourcePortUnknown};
pub use relay::{RelayOptions, SpliceUse};

/// Everything a [`Gateway`](crate::Gateway) is told before it serves.
///
/// Starts with the defaults named at each setter; a setter refuses what cannot work.
#[derive(Clone)]
pub struct GatewayConfig {
    pub(crate) allowed: AllowList,
    pub(crate) clients: ClientLists,
    pub(crate) targets: TargetChoice,
    pub(crate) client_from: ClientFrom,
    pub(crate) sources: SourcePolicy,
    pub(crate) health_checks: HealthChecks,
    pub(crate) target_health: TargetHealth,
    pub(crate) dial: DialOptions,
    pub(crate) relay: RelayOptions,
    pub(crate) decode: DecodeOptions,
    pub(crate) header_timeout: Duration,
    pub(crate) drain: Duration,
    pub(crate) last_words: Duration,
    pub(crate) silence: SilenceLimits,
    pub(crate) limits: SessionLimits,
    pub(crate) own_addresses: Arc<AddressProvider>,
}

impl GatewayConfig {
    /// Takes connections from `allowed` and hands them to `targets`: a [`Targets`](crate::Targets) pair, or the
    /// header's choice.
    pub fn new(allowed: AllowList, targets: impl Into<TargetChoice>) -> Self {
        Self {
            allowed,
            clients: ClientLists::default(),
            targets: targets.into(),
            client_from: ClientFrom::Header,
            sources: SourcePolicy::new(),
            health_checks: HealthChecks::Pass,
            target_health: TargetHealth::new(),
            dial: DialOptions::new(),
            relay: RelayOptions::new(),
            decode: DecodeOptions::default(),
            header_timeout: Duration::from_secs(5),
            drain: Duration::from_secs(10),
            last_words: Duration::from_secs(1),
            silence: SilenceLimits { idle: None, half_closed: Some(Duration::from_secs(300)) },
            limits: SessionLimits::UNLIMITED,
            own_addresses: Arc::new(OwnAddresses::of_this_host),
        }
    }

    /// Where the client's address comes from. Default: [`ClientFrom::Header`].
    #[must_use]
    pub fn client_from(mut self, from: ClientFrom) -> Self {
        self.client_from = from;
        self
    }

    /// Which announced clients may be spoofed. Default: [`SourcePolicy::new`], the strict one.
    #[must_use]
    pub fn sources(mut self, policy: SourcePolicy) -> Self {
        self.sources = policy;
        self
    }

    /// Which clients are served, by their network. Default: all.
    #[must_use]
    pub fn clients(mut self, lists: ClientLists) -> Self {
        self.clients = lists;
        self
    }

    /// What becomes of connections that speak for no client. Default: [`HealthChecks::Pass`].
    ///
    /// `health` learns what the gateway sees of its targets, and with [`HealthChecks::Answer`] gives the answers.
    #[must_use]
    pub fn health_checks(mut self, policy: HealthChecks, health: TargetHealth) -> Self {
        self.health_checks = policy;
        self.target_health = health;
        self
    }

    /// How connections to a target are made, and the keepalive of both sides. Default: [`DialOptions::new`].
    #[must_use]
    pub fn dial(mut self, options: DialOptions) -> Self {
        self.dial = options;
        self
    }

    /// How bytes are moved. Default: [`RelayOptions::new`].
    #[must_use]
    pub fn relay(mut self, options: RelayOptions) -> Self {
        self.relay = options;
        self
    }

    /// Which headers are taken. Default: the codec's.
    #[must_use]
    pub fn decode(mut self, options: DecodeOptions) -> Self {
        self.decode = options;
        self
    }

    /// How long a peer may take to send its whole header.
    ///
    /// Counted from `accept(2)`, not from byte to byte. Default 5 s. At least 3 s, so that one retransmitted
    /// segment does not drop a healthy peer (proxy-protocol.txt §2).
    ///
    /// # Errors
    ///
    /// [`TimeoutTooShort`] below 3 s.
    pub fn header_timeout(mut self, timeout: Duration) -> Result<Self, TimeoutTooShort> {
        self.header_timeout = at_least(timeout, Duration::from_secs(3))?;
        Ok(self)
    }

    /// How long sessions may go on after the gateway was told to stop; what is left is reset. Default 10 s.
    ///
    /// Zero ends them at once.
    #[must_use]
    pub fn drain(mut self, deadline: Duration) -> Self {
        self.drain = deadline;
        self
    }

    /// How long a session may live without one byte that moves; then both sides are reset. Default `None`: for ever.
    ///
    /// # Errors
    ///
    /// [`TimeoutTooShort`] below 100 ms.
    pub fn idle_timeout(mut self, limit: Option<Duration>) -> Result<Self, TimeoutTooShort> {
        self.silence.idle = limit.map(silence).transpose()?;
        Ok(self)
    }

    /// How long a session of which one side has ended may live without one byte that moves; then both sides are reset.
    /// Default 5 minutes. `None`: for ever.
    ///
    /// A side that ended and went away without a word looks like one that waits for its answer. A long answer is not
    /// cut off: what still moves counts.
    ///
    /// # Errors
    ///
    /// [`TimeoutTooShort`] below 100 ms.
    pub fn half_closed_timeout(mut self, limit: Option<Duration>) -> Result<Self, TimeoutTooShort> {
        self.silence.half_closed = limit.map(silence).transpose()?;
        Ok(self)
    }

    /// How long the reset of one side is held back from the other, at most, while that has not taken what was sent
    /// before. Default 1 s.
    ///
    /// A reader that keeps up gets everything that had reached the gateway, as on a direct connection; one that does
    /// not delays the reset by this much and loses the rest.
    #[must_use]
    pub fn last_words(mut self, longest: Duration) -> Self {
        self.last_words = longest;
        self
    }

    /// How many sessions may live and begin; more are refused at once. Default: [`SessionLimits::UNLIMITED`].
    ///
    /// [`sessions_within`] says what the limit on descriptors allows.
    #[must_use]
    pub fn limits(mut self, limits: SessionLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Where this host's own addresses come from. Default: [`OwnAddresses::of_this_host`].
    ///
    /// Asked when the gateway starts and later while connections come, every two seconds and listener at most, from
    /// a thread of the runtime: it must not block for long.
    #[must_use]
    pub fn own_addresses(
        mut self,
        provider: impl Fn() -> io::Result<OwnAddresses> + Send + Sync + 'static,
    ) -> Self {
        self.own_addresses = Arc::new(provider);
        self
    }
}

impl fmt::Debug for GatewayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayConfig")
            .field("allowed", &self.allowed)
            .field("targets", &self.targets)
            .field("client_from", &self.client_from)
            .field("sources", &self.sources)
            .field("health_checks", &self.health_checks)
            .field("dial", &self.dial)
            .field("relay", &self.relay)
            .field("decode", &self.decode)
            .field("header_timeout", &self.header_timeout)
            .field("drain", &self.drain)
            .field("last_words", &self.last_words)
            .field("silence", &self.silence)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A time-out that healthy connections could not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{asked:?} is too short, at least {least:?} is needed")]
pub struct TimeoutTooShort {
    /// What was asked for.
    pub asked: Duration,
    /// The shortest that is taken.
    pub least: Duration,
}

/// How many sessions fit a limit of `descriptors` (`RLIMIT_NOFILE`): two each, with 64 kept for listeners,
/// logs and the runtime; at least one.
pub const fn sessions_within(descriptors: u64) -> NonZeroUsize {
    let sessions = descriptors.saturating_sub(64) / 2;
    let sessions = if sessions > usize::MAX as u64 { usize::MAX } else { sessions as usize };
    match NonZeroUsize::new(sessions) {
        Some(sessions) => sessions,
        None => NonZeroUsize::MIN,
    }
}

/// Anything shorter is the pause between two segments on a long way.
fn silence(limit: Duration) -> Result<Duration, TimeoutTooShort> {
    at_least(limit, Duration::from_millis(100))
}

const fn at_least(asked: Duration, least: Duration) -> Result<Duration, TimeoutTooShort> {
    if asked.as_nanos() < least.as_nanos() { Err(TimeoutTooShort { asked, least }) } else { Ok(asked) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Targets;

    #[test]
    fn a_header_deadline_outlives_one_retransmission() {
        let targets = Targets::new("127.0.0.1:22".parse().ok(), None).expect("a target");
        let config = GatewayConfig::new(AllowList::new(), targets);
        assert_eq!(config.header_timeout, Duration::from_secs(5));
        let short = Duration::from_millis(2999);
        let refused = config.clone().header_timeout(short).expect_err("below 3 s");
        assert_eq!(refused, TimeoutTooShort { asked: short, least: Duration::from_secs(3) });
        assert_eq!(refused.to_string(), "2.999s is too short, at least 3s is needed");
        assert!(config.header_timeout(Duration::from_secs(3)).is_ok());
    }

    #[test]
    fn the_session_cap_follows_the_limit_on_descriptors() {
        assert_eq!(sessions_within(1024).get(), 480);
        assert_eq!(sessions_within(3).get(), 1);
        assert_eq!(sessions_within(u64::MAX).get(), usize::MAX / 2 - 32);
    }
}
