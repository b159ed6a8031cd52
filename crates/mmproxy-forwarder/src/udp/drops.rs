//! Datagrams that went nowhere: counted by reason, told once a minute and reason.

use std::fmt;
use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use mmproxy_codec::HeaderError;
use nix::libc;

use crate::errno;
use crate::error::{Blame, SessionError};
use crate::rate::RateLimited;
use crate::report::CloseReason;
use crate::udp::header::DatagramRefused;

/// Why a datagram was dropped: closed set, one metrics label each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The sender is in no allowed network.
    PeerNotAllowed,
    /// There is no header of the expected format.
    HeaderMissing,
    /// The datagram ends within its header.
    HeaderTruncated,
    /// The header's checksum is wrong.
    HeaderChecksum,
    /// A header that breaks another rule, or version 1.
    HeaderInvalid,
    /// The header is about something else than a UDP datagram.
    WrongFamily,
    /// Policy refuses the announced client.
    SourceRefused,
    /// The announced client is denied, or not allowed, by a list of clients.
    ClientDenied,
    /// The client's family has no target.
    NoTarget,
    /// The destination that the header names is no allowed target.
    DestinationRefused,
    /// The kernel refuses the announced client as a source.
    SourceUnusable,
    /// The client's port is taken or unknown, and policy is to keep it.
    PortUnavailable,
    /// The process lacks a privilege, or a firewall of this host refuses to send.
    NotPermitted,
    /// Out of descriptors, memory or ports.
    OutOfResources,
    /// A limit on flows is reached, and every flow it counts is established and in use.
    FlowLimit,
    /// Nobody listens at the target.
    TargetRefused,
    /// No way to the target.
    TargetUnreachable,
    /// The socket to the target, or the way between two workers, is full.
    Overloaded,
    /// The network namespace of the target is not there.
    NamespaceGone,
    /// The payload is larger than a datagram to the target can be.
    TooLarge,
    /// A reply is larger than a datagram can be once its header is in front of it.
    ReplyTooLarge,
    /// The kernel did not send a reply to the balancer.
    ReplyFailed,
    /// The balancer's own datagram, which policy refuses.
    HealthCheckRefused,
    /// The gateway is stopping and takes no new flows.
    Stopping,
}

impl DropReason {
    /// Every reason, to register labels before the first datagram.
    pub const ALL: [Self; 24] = [
        Self::PeerNotAllowed,
        Self::HeaderMissing,
        Self::HeaderTruncated,
        Self::HeaderChecksum,
        Self::HeaderInvalid,
        Self::WrongFamily,
        Self::SourceRefused,
        Self::ClientDenied,
        Self::NoTarget,
        Self::DestinationRefused,
        Self::SourceUnusable,
        Self::PortUnavailable,
        Self::NotPermitted,
        Self::OutOfResources,
        Self::FlowLimit,
        Self::TargetRefused,
        Self::TargetUnreachable,
        Self::Overloaded,
        Self::NamespaceGone,
        Self::TooLarge,
        Self::ReplyTooLarge,
        Self::ReplyFailed,
        Self::HealthCheckRefused,
        Self::Stopping,
    ];

    /// Name in logs and metrics. Never rename: dashboards key on it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::PeerNotAllowed => "peer_not_allowed",
            Self::HeaderMissing => "header_missing",
            Self::HeaderTruncated => "header_truncated",
            Self::HeaderChecksum => "header_checksum",
            Self::HeaderInvalid => "header_invalid",
            Self::WrongFamily => "wrong_family",
            Self::SourceRefused => "source_refused",
            Self::ClientDenied => "client_denied",
            Self::NoTarget => "no_target",
            Self::DestinationRefused => "destination_refused",
            Self::SourceUnusable => "source_unusable",
            Self::PortUnavailable => "port_unavailable",
            Self::NotPermitted => "not_permitted",
            Self::OutOfResources => "out_of_resources",
            Self::FlowLimit => "flow_limit",
            Self::TargetRefused => "target_refused",
            Self::TargetUnreachable => "target_unreachable",
            Self::Overloaded => "overloaded",
            Self::NamespaceGone => "namespace_gone",
            Self::TooLarge => "too_large",
            Self::ReplyTooLarge => "reply_too_large",
            Self::ReplyFailed => "reply_failed",
            Self::HealthCheckRefused => "health_check_refused",
            Self::Stopping => "stopping",
        }
    }

    /// Whose fault it is.
    pub const fn blame(self) -> Blame {
        match self {
            Self::Stopping => Blame::Nobody,
            Self::PeerNotAllowed
            | Self::HeaderMissing
            | Self::HeaderTruncated
            | Self::HeaderChecksum
            | Self::HeaderInvalid
            | Self::WrongFamily
            | Self::SourceRefused
            | Self::ClientDenied
            | Self::DestinationRefused
            | Self::SourceUnusable
            | Self::HealthCheckRefused
            | Self::TooLarge => Blame::Peer,
            Self::NoTarget | Self::PortUnavailable | Self::NotPermitted => Blame::Configuration,
            Self::OutOfResources | Self::FlowLimit | Self::Overloaded | Self::ReplyFailed => Blame::Resources,
            Self::TargetRefused | Self::TargetUnreachable | Self::NamespaceGone | Self::ReplyTooLarge => {
                Blame::Target
            }
        }
    }

    pub(crate) fn of_refused(refused: &DatagramRefused) -> Self {
        match refused {
            DatagramRefused::Family { .. } => Self::WrongFamily,
            DatagramRefused::Header(HeaderError::NotProxy) => Self::HeaderMissing,
            DatagramRefused::Header(HeaderError::Truncated { .. }) => Self::HeaderTruncated,
            DatagramRefused::Header(HeaderError::V2Crc32c { .. }) => Self::HeaderChecksum,
            DatagramRefused::Header(_) => Self::HeaderInvalid,
        }
    }

    /// The reason of an error of send(2) toward a target.
    pub(crate) fn of_unsent(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::TargetRefused,
            Some(libc::EMSGSIZE) => Self::TooLarge,
            Some(libc::EAGAIN) => Self::Overloaded,
            _ if errno::is_exhausted(error) => Self::OutOfResources,
            _ if errno::is_forbidden(error) => Self::NotPermitted,
            _ => Self::TargetUnreachable,
        }
    }

    /// The reason of an error that ends a TCP session before its relay.
    pub(crate) fn of_error(error: &SessionError) -> Self {
        match error.reason() {
            CloseReason::PeerNotAllowed => Self::PeerNotAllowed,
            CloseReason::SourceRefused => Self::SourceRefused,
            CloseReason::ClientDenied => Self::ClientDenied,
            CloseReason::NoTarget => Self::NoTarget,
            CloseReason::DestinationRefused => Self::DestinationRefused,
            CloseReason::SourceUnusable => Self::SourceUnusable,
            CloseReason::PortUnavailable => Self::PortUnavailable,
            CloseReason::NotPermitted => Self::NotPermitted,
            // Sessions are limited by number; flows have limits of their own.
            CloseReason::SessionLimit
            | CloseReason::ListenerLimit
            | CloseReason::BalancerLimit
            | CloseReason::ClientLimit
            | CloseReason::ClientNetworkLimit
            | CloseReason::ClientRate
            | CloseReason::OutOfResources => Self::OutOfResources,
            CloseReason::TargetRefused => Self::TargetRefused,
            CloseReason::NamespaceGone => Self::NamespaceGone,
            CloseReason::HealthCheckRefused => Self::HealthCheckRefused,
            // Of TCP's own ends only those about a target that is not there can come from here.
            CloseReason::TargetUnreachable
            | CloseReason::TargetTimeout
            | CloseReason::TargetReset
            | CloseReason::TargetLost
            | CloseReason::Finished
            | CloseReason::ConnectOnly
            | CloseReason::HeaderMissing
            | CloseReason::HeaderInvalid
            | CloseReason::HeaderIncomplete
            | CloseReason::HeaderTimeout
            | CloseReason::PeerReset
            | CloseReason::PeerLost
            | CloseReason::IdleTimeout
            | CloseReason::HalfClosedTimeout
            | CloseReason::HealthCheck
            | CloseReason::HealthCheckFailed
            | CloseReason::Killed
            | CloseReason::Drained
            | CloseReason::WorkerLost
            | CloseReason::Panicked => Self::TargetUnreachable,
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What a UDP gateway has counted so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpCounts {
    /// Datagrams handed to targets.
    pub up: u64,
    /// Datagrams handed to balancers.
    pub down: u64,
    /// Payload handed to targets, in bytes.
    pub bytes_up: u64,
    /// Payload that came back from targets, in bytes.
    pub bytes_down: u64,
    /// Flows that had to go before their time to make room for others.
    pub evicted: u64,
    /// Replies that went in fragments because the header in front made them too large for the path.
    pub fragmented: u64,
    /// Panics of workers, each of which cost the flows that the worker had.
    pub panics: u64,
    dropped: [u64; DropReason::ALL.len()],
}

impl UdpCounts {
    /// Datagrams dropped for `reason`.
    pub const fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }
}

/// The counters behind [`UdpCounts`], shared by all workers.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) up: AtomicU64,
    pub(crate) down: AtomicU64,
    pub(crate) bytes_up: AtomicU64,
    pub(crate) bytes_down: AtomicU64,
    pub(crate) evicted: AtomicU64,
    pub(crate) fragmented: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
    told: Mutex<[RateLimited; DropReason::ALL.len()]>,
    panics: AtomicU64,
    panics_told: Mutex<RateLimited>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            fragmented: AtomicU64::new(0),
            dropped: std::array::from_fn(|_| AtomicU64::new(0)),
            told: Mutex::new(std::array::from_fn(|_| RateLimited::per_minute())),
            panics: AtomicU64::new(0),
            panics_told: Mutex::new(RateLimited::per_minute()),
        }
    }

    /// Counts one; `Some(n)` if it should be told, with `n` held back since the last one that was.
    pub(crate) fn dropped(&self, reason: DropReason, now: Instant) -> Option<u64> {
        self.dropped[reason as usize].fetch_add(1, Ordering::Relaxed);
        self.told.lock().unwrap_or_else(PoisonError::into_inner)[reason as usize].admit(now)
    }

    /// The same for a worker's panic.
    pub(crate) fn panicked(&self, now: Instant) -> Option<u64> {
        self.panics.fetch_add(1, Ordering::Relaxed);
        self.panics_told.lock().unwrap_or_else(PoisonError::into_inner).admit(now)
    }

    pub(crate) fn snapshot(&self) -> UdpCounts {
        UdpCounts {
            up: self.up.load(Ordering::Relaxed),
            down: self.down.load(Ordering::Relaxed),
            bytes_up: self.bytes_up.load(Ordering::Relaxed),
            bytes_down: self.bytes_down.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
            fragmented: self.fragmented.load(Ordering::Relaxed),
            panics: self.panics.load(Ordering::Relaxed),
            dropped: std::array::from_fn(|reason| self.dropped[reason].load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_is_listed_once_with_a_label_of_its_own() {
        let labels: HashSet<_> = DropReason::ALL.into_iter().map(DropReason::label).collect();
        assert_eq!(labels.len(), DropReason::ALL.len());
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason}");
        }
        assert_eq!(DropReason::Stopping as usize + 1, DropReason::ALL.len());
    }
}
