//! What a session leaves behind: one report with one reason, exactly once.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use mmproxy_codec::Version;

use crate::addr::{ClaimedSource, PeerAddr, TargetAddr};
use crate::details::HeaderDetails;
use crate::error::{Blame, SessionError};
use crate::tcp::dial::ClientPort;

/// Number of a session, unique while the process lives; starts at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Everything known about a session when it ends. A step that was not reached left `None`.
#[derive(Debug)]
#[non_exhaustive]
pub struct SessionReport {
    /// Number of the session.
    pub id: SessionId,
    /// The load balancer.
    pub peer: PeerAddr,
    /// The listener the peer connected to.
    pub listener: SocketAddr,
    /// Version of the header.
    pub header: Option<Version>,
    /// Length of the header in bytes; 0 where none was read.
    pub header_len: u32,
    /// What the header told beside addresses, if it told anything.
    pub details: Option<Box<HeaderDetails>>,
    /// First bytes that came where a header should have been, at most [`OPENING_LEN`]; empty once a header was
    /// read. They tell what a peer speaks instead of PROXY.
    pub opening: Vec<u8>,
    /// The client as announced; `None` for LOCAL, UNKNOWN and families that TCP does not carry.
    pub claimed: Option<ClaimedSource>,
    /// The address the target sees: the client's, or the gateway's own where nothing was spoofed.
    pub bound: Option<SocketAddr>,
    /// What became of the client's port; `None` where nothing was spoofed.
    pub client_port: Option<ClientPort>,
    /// The target that was chosen.
    pub target: Option<TargetAddr>,
    /// Bytes behind the header that the target's socket accepted.
    pub bytes_up: u64,
    /// Bytes from the target that the peer's socket accepted.
    pub bytes_down: u64,
    /// Those of `bytes_up` that never left the kernel (`splice(2)`).
    pub spliced_up: u64,
    /// Those of `bytes_down` that never left the kernel.
    pub spliced_down: u64,
    /// From accept to the end of the header.
    pub header_time: Option<Duration>,
    /// From the end of the header to the connection to the target.
    pub dial_time: Option<Duration>,
    /// From the connection to the target to the first byte from it that the peer's socket accepted.
    pub first_byte_time: Option<Duration>,
    /// From accept to the end.
    pub total_time: Duration,
    /// Why it ended.
    pub reason: CloseReason,
    /// The error behind `reason`, with addresses and the kernel's word; `None` for ordinary ends.
    pub error: Option<SessionError>,
}

/// How much of [`SessionReport::opening`] is kept: enough to know TLS, SSH, HTTP and SMTP by.
pub const OPENING_LEN: usize = 32;

/// Why a session ended: closed set, one metrics label each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Both sides ended in order and everything was delivered.
    Finished,
    /// The peer connected and left without a byte, as health checks do.
    ConnectOnly,
    /// The peer is in no allowed network.
    PeerNotAllowed,
    /// The limit on sessions was reached.
    SessionLimit,
    /// The limit on sessions of one listener was reached.
    ListenerLimit,
    /// The limit on sessions of one balancer was reached.
    BalancerLimit,
    /// What came is not a PROXY header at all.
    HeaderMissing,
    /// A PROXY header that breaks a rule.
    HeaderInvalid,
    /// The peer ended within the header.
    HeaderIncomplete,
    /// No whole header within the deadline.
    HeaderTimeout,
    /// Policy refuses the announced client.
    SourceRefused,
    /// The announced client is denied, or not allowed, by a list of clients.
    ClientDenied,
    /// The limit on sessions of one client was reached.
    ClientLimit,
    /// The limit on sessions of the clients in one network was reached.
    ClientNetworkLimit,
    /// The clients in one network begin sessions faster than they may.
    ClientRate,
    /// The client's family has no target.
    NoTarget,
    /// The destination that the header names is no allowed target.
    DestinationRefused,
    /// The kernel refuses the announced client as a source.
    SourceUnusable,
    /// The client's port is taken or unknown, and policy is to keep it.
    PortUnavailable,
    /// The process lacks a privilege, or a firewall of this host refuses the connection.
    NotPermitted,
    /// Out of descriptors, memory or ports.
    OutOfResources,
    /// The target refused the connection.
    TargetRefused,
    /// No way to the target.
    TargetUnreachable,
    /// The target did not answer within the deadline.
    TargetTimeout,
    /// The peer reset the connection.
    PeerReset,
    /// The peer fell silent: keepalive or retransmission gave up.
    PeerLost,
    /// The target reset the connection.
    TargetReset,
    /// The target fell silent: keepalive or retransmission gave up.
    TargetLost,
    /// No byte moved for as long as is allowed.
    IdleTimeout,
    /// One side ended, and no byte moved for as long as is allowed then.
    HalfClosedTimeout,
    /// The network namespace of the target is not there, or was replaced while the session lived.
    NamespaceGone,
    /// The balancer's own connection, answered by the gateway because the target is up.
    HealthCheck,
    /// The balancer's own connection, reset by the gateway because the target is down.
    HealthCheckFailed,
    /// The balancer's own connection, which policy refuses.
    HealthCheckRefused,
    /// The operator closed it.
    Killed,
    /// The gateway stopped and the drain deadline passed.
    Drained,
    /// The process that served it ended without being told to, and its sockets with it. Said by who outlives it: no session
    /// reports this itself.
    WorkerLost,
    /// The session's task panicked: a bug.
    Panicked,
}

impl CloseReason {
    /// Every reason, to register labels before the first session.
    pub const ALL: [Self; 38] = [
        Self::Finished,
        Self::ConnectOnly,
        Self::PeerNotAllowed,
        Self::SessionLimit,
        Self::ListenerLimit,
        Self::BalancerLimit,
        Self::HeaderMissing,
        Self::HeaderInvalid,
        Self::HeaderIncomplete,
        Self::HeaderTimeout,
        Self::SourceRefused,
        Self::ClientDenied,
        Self::ClientLimit,
        Self::ClientNetworkLimit,
        Self::ClientRate,
        Self::NoTarget,
        Self::DestinationRefused,
        Self::SourceUnusable,
        Self::PortUnavailable,
        Self::NotPermitted,
        Self::OutOfResources,
        Self::TargetRefused,
        Self::TargetUnreachable,
        Self::TargetTimeout,
        Self::PeerReset,
        Self::PeerLost,
        Self::TargetReset,
        Self::TargetLost,
        Self::IdleTimeout,
        Self::HalfClosedTimeout,
        Self::NamespaceGone,
        Self::HealthCheck,
        Self::HealthCheckFailed,
        Self::HealthCheckRefused,
        Self::Killed,
        Self::Drained,
        Self::WorkerLost,
        Self::Panicked,
    ];

    /// Name in logs and metrics. Never rename: dashboards key on it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::ConnectOnly => "connect_only",
            Self::PeerNotAllowed => "peer_not_allowed",
            Self::SessionLimit => "session_limit",
            Self::ListenerLimit => "listener_limit",
            Self::BalancerLimit => "balancer_limit",
            Self::HeaderMissing => "header_missing",
            Self::HeaderInvalid => "header_invalid",
            Self::HeaderIncomplete => "header_incomplete",
            Self::HeaderTimeout => "header_timeout",
            Self::SourceRefused => "source_refused",
            Self::ClientDenied => "client_denied",
            Self::ClientLimit => "client_limit",
            Self::ClientNetworkLimit => "client_network_limit",
            Self::ClientRate => "client_rate",
            Self::NoTarget => "no_target",
            Self::DestinationRefused => "destination_refused",
            Self::SourceUnusable => "source_unusable",
            Self::PortUnavailable => "port_unavailable",
            Self::NotPermitted => "not_permitted",
            Self::OutOfResources => "out_of_resources",
            Self::TargetRefused => "target_refused",
            Self::TargetUnreachable => "target_unreachable",
            Self::TargetTimeout => "target_timeout",
            Self::PeerReset => "peer_reset",
            Self::PeerLost => "peer_lost",
            Self::TargetReset => "target_reset",
            Self::TargetLost => "target_lost",
            Self::IdleTimeout => "idle_timeout",
            Self::HalfClosedTimeout => "half_closed_timeout",
            Self::NamespaceGone => "namespace_gone",
            Self::HealthCheck => "health_check",
            Self::HealthCheckFailed => "health_check_failed",
            Self::HealthCheckRefused => "health_check_refused",
            Self::Killed => "killed",
            Self::Drained => "drained",
            Self::WorkerLost => "worker_lost",
            Self::Panicked => "panicked",
        }
    }

    /// Whose fault it is.
    pub const fn blame(self) -> Blame {
        match self {
            Self::Finished
            | Self::ConnectOnly
            | Self::IdleTimeout
            | Self::HalfClosedTimeout
            | Self::HealthCheck
            | Self::Killed
            | Self::Drained => Blame::Nobody,
            Self::PeerNotAllowed
            | Self::HeaderMissing
            | Self::HeaderInvalid
            | Self::HeaderIncomplete
            | Self::HeaderTimeout
            | Self::SourceRefused
            | Self::ClientDenied
            | Self::ClientLimit
            | Self::ClientNetworkLimit
            | Self::ClientRate
            | Self::DestinationRefused
            | Self::SourceUnusable
            | Self::HealthCheckRefused
            | Self::PeerReset
            | Self::PeerLost => Blame::Peer,
            Self::NoTarget | Self::PortUnavailable | Self::NotPermitted => Blame::Configuration,
            Self::SessionLimit | Self::ListenerLimit | Self::BalancerLimit | Self::OutOfResources => {
                Blame::Resources
            }
            Self::TargetRefused
            | Self::TargetUnreachable
            | Self::TargetTimeout
            | Self::TargetReset
            | Self::TargetLost
            | Self::HealthCheckFailed
            | Self::NamespaceGone => Blame::Target,
            Self::WorkerLost | Self::Panicked => Blame::Gateway,
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_is_listed_once_with_a_label_of_its_own() {
        let labels: HashSet<_> = CloseReason::ALL.into_iter().map(CloseReason::label).collect();
        assert_eq!(labels.len(), CloseReason::ALL.len());
        // `ALL` follows the order of the variants, so a forgotten one would break the chain.
        for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason}");
        }
        assert_eq!(CloseReason::Panicked as usize + 1, CloseReason::ALL.len());
    }
}
