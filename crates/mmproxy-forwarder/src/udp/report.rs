//! What a flow leaves behind: one report with one reason, exactly once.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use mmproxy_codec::Version;

use crate::addr::{ClaimedSource, PeerAddr, TargetAddr};
use crate::destination::ClaimedDestination;
use crate::report::SessionId;
use crate::tcp::dial::ClientPort;

/// Everything known about a flow when it begins and when it ends.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FlowReport {
    /// Number of the flow; flows and sessions of one gateway share the numbers.
    pub id: SessionId,
    /// The load balancer, as it sent last.
    pub peer: PeerAddr,
    /// The listener.
    pub listener: SocketAddr,
    /// Format of the header.
    pub header: Option<Version>,
    /// The client as announced; `None` for LOCAL and UNSPEC.
    pub claimed: Option<ClaimedSource>,
    /// Where the client sent to, as announced.
    pub destination: Option<ClaimedDestination>,
    /// The address the target sees: the client's, or the gateway's own where nothing was spoofed.
    pub bound: SocketAddr,
    /// What became of the client's port; `None` where nothing was spoofed.
    pub client_port: Option<ClientPort>,
    /// The target.
    pub target: TargetAddr,
    /// Datagrams that the target's socket accepted.
    pub datagrams_up: u64,
    /// Datagrams from the target that were handed to the balancer.
    pub datagrams_down: u64,
    /// Their payload in bytes, without headers.
    pub bytes_up: u64,
    /// Their payload in bytes, without headers.
    pub bytes_down: u64,
    /// Whether the client went on after a reply, which nobody does who invents addresses.
    pub established: bool,
    /// From the first datagram to the end.
    pub total_time: Duration,
}

/// Why a flow ended: closed set, one metrics label each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowEnd {
    /// No datagram went either way for the idle time.
    Idle,
    /// A limit was reached, and it was the one to go.
    Evicted,
    /// A list of clients was changed, and its client is denied now.
    ClientDenied,
    /// The network namespace of the target is gone, or another one took its place.
    NamespaceGone,
    /// The operator closed it.
    Killed,
    /// The gateway stopped.
    Stopped,
    /// The process that served it ended without being told to. Said by who outlives it.
    WorkerLost,
    /// Its worker panicked, which is a bug.
    Panicked,
}

impl FlowEnd {
    /// Every end, to register labels before the first flow.
    pub const ALL: [Self; 8] = [
        Self::Idle,
        Self::Evicted,
        Self::ClientDenied,
        Self::NamespaceGone,
        Self::Killed,
        Self::Stopped,
        Self::WorkerLost,
        Self::Panicked,
    ];

    /// Name in logs and metrics. Never rename: dashboards key on it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Evicted => "evicted",
            Self::ClientDenied => "client_denied",
            Self::NamespaceGone => "namespace_gone",
            Self::Killed => "killed",
            Self::Stopped => "stopped",
            Self::WorkerLost => "worker_lost",
            Self::Panicked => "panicked",
        }
    }
}

impl fmt::Display for FlowEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
