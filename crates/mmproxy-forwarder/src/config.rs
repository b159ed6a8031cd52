//! What a gateway is told: limits, time-outs, targets, policy.

use std::fmt;
use std::io;
use std::num::{NonZeroU32, NonZeroUsize};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use mmproxy_codec::DecodeOptions;

use crate::addr::Family;
use crate::allowlist::AllowList;
use crate::choice::{ClientFrom, TargetChoice};
use crate::netns::TargetNamespace;
use crate::own::{AddressProvider, OwnAddresses};
use crate::policy::SourcePolicy;
use crate::tcp::timeouts::SilenceLimits;

mod relay;

pub use relay::{RelayOptions, SpliceUse};

/// Everything a [`Gateway`](crate::Gateway) is told before it serves.
///
/// Starts with the defaults named at each setter; a setter refuses what cannot work.
#[derive(Clone)]
pub struct GatewayConfig {
    pub(crate) allowed: AllowList,
    pub(crate) targets: TargetChoice,
    pub(crate) client_from: ClientFrom,
    pub(crate) sources: SourcePolicy,
    pub(crate) dial: DialOptions,
    pub(crate) relay: RelayOptions,
    pub(crate) decode: DecodeOptions,
    pub(crate) header_timeout: Duration,
    pub(crate) drain: Duration,
    pub(crate) last_words: Duration,
    pub(crate) silence: SilenceLimits,
    pub(crate) max_sessions: NonZeroUsize,
    pub(crate) own_addresses: Arc<AddressProvider>,
}

impl GatewayConfig {
    /// Takes connections from `allowed` and hands them to `targets`: a [`Targets`](crate::Targets) pair, or the
    /// header's choice.
    pub fn new(allowed: AllowList, targets: impl Into<TargetChoice>) -> Self {
        Self {
            allowed,
            targets: targets.into(),
            client_from: ClientFrom::Header,
            sources: SourcePolicy::new(),
            dial: DialOptions::new(),
            relay: RelayOptions::new(),
            decode: DecodeOptions::default(),
            header_timeout: Duration::from_secs(5),
            drain: Duration::from_secs(10),
            last_words: Duration::from_secs(1),
            silence: SilenceLimits { idle: None, half_closed: Some(Duration::from_secs(300)) },
            max_sessions: NonZeroUsize::MAX,
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

    /// How many sessions may live at a time; more are refused at once. Default: no limit.
    ///
    /// [`sessions_within`] says what the limit on descriptors allows.
    #[must_use]
    pub fn max_sessions(mut self, sessions: NonZeroUsize) -> Self {
        self.max_sessions = sessions;
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
            .field("dial", &self.dial)
            .field("relay", &self.relay)
            .field("decode", &self.decode)
            .field("header_timeout", &self.header_timeout)
            .field("drain", &self.drain)
            .field("last_words", &self.last_words)
            .field("silence", &self.silence)
            .field("max_sessions", &self.max_sessions)
            .finish_non_exhaustive()
    }
}

/// How a connection to a target is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialOptions {
    pub(crate) timeout: Duration,
    /// Toward IPv4 targets, and toward IPv6 targets.
    marks: [Option<NonZeroU32>; 2],
    pub(crate) source_port: SourcePort,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) user_timeout: Option<Duration>,
    pub(crate) namespace: Option<TargetNamespace>,
}

impl DialOptions {
    /// The defaults named at each setter.
    pub const fn new() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            marks: [None; 2],
            source_port: SourcePort::Prefer,
            keepalive: Some(Keepalive::new()),
            user_timeout: None,
            namespace: None,
        }
    }

    /// How long a target may take to answer a connection. Default 5 s.
    ///
    /// # Errors
    ///
    /// [`TimeoutTooShort`] below 1 ms, which no target can meet.
    pub fn timeout(mut self, timeout: Duration) -> Result<Self, TimeoutTooShort> {
        self.timeout = at_least(timeout, Duration::from_millis(1))?;
        Ok(self)
    }

    /// `SO_MARK` of spoofed sockets, by which the return path finds replies. Default: not set.
    ///
    /// A connection from the gateway's own address is never marked: its replies need no help.
    #[must_use]
    pub const fn mark(mut self, mark: Option<NonZeroU32>) -> Self {
        self.marks = [mark; 2];
        self
    }

    /// The same for targets of one family, where the two have different return paths.
    #[must_use]
    pub const fn mark_toward(mut self, family: Family, mark: Option<NonZeroU32>) -> Self {
        self.marks[family as usize] = mark;
        self
    }

    /// The mark of sockets toward targets of this family.
    pub(crate) const fn mark_of(&self, family: Family) -> Option<NonZeroU32> {
        self.marks[family as usize]
    }

    /// Which port a spoofed connection comes from. Default [`SourcePort::Prefer`].
    #[must_use]
    pub const fn source_port(mut self, policy: SourcePort) -> Self {
        self.source_port = policy;
        self
    }

    /// When a silent connection is probed, on both sides of a session. Default [`Keepalive::new`]; `None` turns
    /// it off.
    #[must_use]
    pub const fn keepalive(mut self, keepalive: Option<Keepalive>) -> Self {
        self.keepalive = keepalive;
        self
    }

    /// How long bytes may stay without acknowledgement, or a receiver without room, on both sides of a session, before
    /// the kernel gives the connection up (`TCP_USER_TIMEOUT`). Default `None`: as long as it takes the kernel's
    /// retransmissions, about a quarter of an hour, and for ever while a receiver without room answers.
    ///
    /// With it, it also decides when an unanswered keepalive ends a connection, in place of the number of probes
    /// (tcp(7)).
    ///
    /// # Errors
    ///
    /// [`TimeoutTooShort`] below 100 ms: less than a retransmission takes.
    pub fn user_timeout(mut self, limit: Option<Duration>) -> Result<Self, TimeoutTooShort> {
        self.user_timeout = limit.map(silence).transpose()?;
        Ok(self)
    }

    /// The network namespace that connections are made in. Default: the calling thread's.
    ///
    /// A gateway refuses the namespace's own addresses as clients too, beside this host's.
    #[must_use]
    pub fn namespace(mut self, namespace: Option<TargetNamespace>) -> Self {
        self.namespace = namespace;
        self
    }
}

impl Default for DialOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Which port a spoofed connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SourcePort {
    /// The client's port or no connection.
    Keep,
    /// The client's port; where the kernel does not give it, any free one.
    #[default]
    Prefer,
    /// Any free port.
    Ephemeral,
}

impl SourcePort {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Keep, Self::Prefer, Self::Ephemeral];

    /// Name in options and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Prefer => "prefer",
            Self::Ephemeral => "ephemeral",
        }
    }
}

impl fmt::Display for SourcePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for SourcePort {
    type Err = SourcePortUnknown;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.label() == text)
            .ok_or_else(|| SourcePortUnknown(text.to_owned()))
    }
}

/// A word that is not the name of a [`SourcePort`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of keep, prefer, ephemeral")]
pub struct SourcePortUnknown(pub String);

/// TCP keepalive: a dead host is noticed after `idle + interval × probes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    pub(crate) idle: Duration,
    pub(crate) interval: Duration,
    pub(crate) probes: u32,
}

impl Keepalive {
    /// First probe after 60 s of silence, then every 15 s; four without an answer end the connection, so a dead
    /// host costs two minutes.
    pub const fn new() -> Self {
        Self { idle: Duration::from_secs(60), interval: Duration::from_secs(15), probes: 4 }
    }

    /// `idle` and `interval` in whole seconds from 1 to 32767, `probes` from 1 to 127: what Linux takes.
    ///
    /// # Errors
    ///
    /// [`KeepaliveInvalid`] outside these ranges.
    pub fn with(idle: Duration, interval: Duration, probes: u32) -> Result<Self, KeepaliveInvalid> {
        let seconds = 1..=32_767;
        let fits = |time: Duration| seconds.contains(&time.as_secs()) && time.subsec_nanos() == 0;
        if fits(idle) && fits(interval) && (1..=127).contains(&probes) {
            Ok(Self { idle, interval, probes })
        } else {
            Err(KeepaliveInvalid)
        }
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self::new()
    }
}

/// Keepalive times or counts the kernel does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("keepalive takes whole seconds from 1 to 32767 and 1 to 127 probes")]
pub struct KeepaliveInvalid;

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
    fn a_connect_deadline_of_nothing_is_refused() {
        assert!(DialOptions::new().timeout(Duration::ZERO).is_err());
    }

    #[test]
    fn keepalive_is_what_the_kernel_takes() {
        let second = Duration::from_secs(1);
        assert!(Keepalive::with(second, second, 1).is_ok());
        assert!(Keepalive::with(Duration::from_millis(1500), second, 1).is_err());
        assert!(Keepalive::with(second, Duration::ZERO, 1).is_err());
        assert!(Keepalive::with(second, Duration::from_secs(32_768), 1).is_err());
        assert!(Keepalive::with(second, second, 0).is_err());
        assert!(Keepalive::with(second, second, 128).is_err());
    }

    #[test]
    fn labels_parse_back() {
        for policy in SourcePort::ALL {
            assert_eq!(policy.label().parse(), Ok(policy));
        }
        assert!("always".parse::<SourcePort>().is_err());
    }

    #[test]
    fn the_session_cap_follows_the_limit_on_descriptors() {
        assert_eq!(sessions_within(1024).get(), 480);
        assert_eq!(sessions_within(3).get(), 1);
        assert_eq!(sessions_within(u64::MAX).get(), usize::MAX / 2 - 32);
    }
}
