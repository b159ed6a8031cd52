//! How connections to a target are made.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::{TimeoutTooShort, at_least, silence};
use crate::addr::Family;
use crate::netns::TargetNamespace;

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

    /// When a silent connection is probed, on both sides of a session, once it has lived for a second. Default
    /// [`Keepalive::new`]; `None` turns it off.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
