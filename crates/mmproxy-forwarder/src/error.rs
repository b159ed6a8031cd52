//! What can end a session early, and whose fault each of it is.

use std::net::SocketAddr;

use crate::addr::{Family, PeerAddr, SpoofSource};
use crate::clients::ClientDenied;
use crate::destination::DestinationRefused;
use crate::health::HealthCheckEnd;
use crate::limits::ClientLimitReached;
use crate::live::Killed;
use crate::netns::NamespaceGone;
use crate::policy::SourceRefused;
use crate::report::CloseReason;
use crate::tcp::dial::DialError;
use crate::tcp::header::HeaderReadError;
use crate::tcp::relay::RelayError;
use crate::tcp::timeouts::Silent;

/// Who has to act, if anybody: decides log level, metric and alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// Nobody: an ordinary end.
    Nobody,
    /// The load balancer or the client behind it.
    Peer,
    /// The operator: privileges, targets, policy.
    Configuration,
    /// This machine ran out of something; it recovers by itself.
    Resources,
    /// The server behind the gateway.
    Target,
    /// The gateway: a bug.
    Gateway,
}

impl Blame {
    /// Name in logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Peer => "peer",
            Self::Configuration => "configuration",
            Self::Resources => "resources",
            Self::Target => "target",
            Self::Gateway => "gateway",
        }
    }
}

/// Why a session did not come to its ordinary end: one variant per step of the flow.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The peer may not connect, or not now.
    #[error(transparent)]
    Admission(#[from] AdmissionRefused),
    /// No usable header came.
    #[error(transparent)]
    Header(#[from] HeaderReadError),
    /// The announced client may not be spoofed.
    #[error(transparent)]
    Source(#[from] SourceRefused),
    /// A list of clients refuses the announced one.
    #[error(transparent)]
    Client(#[from] ClientDenied),
    /// The announced client, or its network, has enough sessions.
    #[error(transparent)]
    Limit(#[from] ClientLimitReached),
    /// The client's family has no target.
    #[error(transparent)]
    NoTarget(#[from] NoTarget),
    /// The header's destination is no allowed target.
    #[error(transparent)]
    Destination(#[from] DestinationRefused),
    /// A balancer's own connection, which does not reach the target.
    #[error(transparent)]
    HealthCheck(#[from] HealthCheckEnd),
    /// No connection to the target.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The namespace of the target went away, and the session outlived it.
    #[error(transparent)]
    Namespace(#[from] NamespaceGone),
    /// One side broke.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// Nothing moved for too long.
    #[error(transparent)]
    Silent(#[from] Silent),
    /// The operator closed it.
    #[error(transparent)]
    Killed(#[from] Killed),
}

impl SessionError {
    /// The close reason this error makes.
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::Admission(error) => error.reason(),
            Self::Header(error) => error.reason(),
            Self::Source(_) => CloseReason::SourceRefused,
            Self::Client(_) => CloseReason::ClientDenied,
            Self::Limit(reached) => reached.reason(),
            Self::NoTarget(_) => CloseReason::NoTarget,
            Self::Destination(_) => CloseReason::DestinationRefused,
            Self::Dial(error) => error.reason(),
            Self::Namespace(NamespaceGone) => CloseReason::NamespaceGone,
            Self::Relay(error) => error.reason(),
            Self::Silent(silent) => silent.reason(),
            Self::HealthCheck(end) => end.reason(),
            Self::Killed(Killed) => CloseReason::Killed,
        }
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        self.reason().blame()
    }
}

/// A peer that is turned away before one byte of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdmissionRefused {
    /// No network of the allow-list contains it.
    #[error("{} is in no allowed network", .0.ip())]
    NotAllowed(PeerAddr),
    /// As many sessions as are allowed live already.
    #[error("all {limit} sessions are in use")]
    SessionLimit {
        /// The configured maximum.
        limit: usize,
    },
    /// As many sessions of its listener live as may.
    #[error("all {limit} sessions of the listener are in use")]
    ListenerLimit {
        /// The configured maximum.
        limit: usize,
    },
    /// As many sessions of this balancer live as may.
    #[error("all {limit} sessions of balancer {} are in use", peer.ip())]
    BalancerLimit {
        /// The balancer.
        peer: PeerAddr,
        /// The configured maximum.
        limit: usize,
    },
}

impl AdmissionRefused {
    /// The close reason this refusal makes.
    pub const fn reason(&self) -> CloseReason {
        match self {
            Self::NotAllowed(_) => CloseReason::PeerNotAllowed,
            Self::SessionLimit { .. } => CloseReason::SessionLimit,
            Self::ListenerLimit { .. } => CloseReason::ListenerLimit,
            Self::BalancerLimit { .. } => CloseReason::BalancerLimit,
        }
    }
}

/// A client of a family for which the gateway has no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("client {client} is {} and there is no {} target", self.family(), self.family())]
pub struct NoTarget {
    /// The announced client.
    pub client: SpoofSource,
}

impl NoTarget {
    /// The family without a target.
    pub const fn family(&self) -> Family {
        Family::of(self.client.addr())
    }
}

/// Why a gateway could not start to serve, or had to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The kernel did not tell this host's own addresses, which policy has to refuse.
    #[error("cannot learn this host's own addresses")]
    OwnAddresses(#[source] std::io::Error),
    /// The listening socket could not be handed to the runtime.
    #[error("cannot serve on {listener}")]
    Register {
        /// Address of the listener.
        listener: SocketAddr,
        /// What the kernel said.
        #[source]
        error: std::io::Error,
    },
    /// The listening socket itself is unusable; sessions had their drain before this was returned.
    #[error("listener on {listener} is broken")]
    Listener {
        /// Address of the listener.
        listener: SocketAddr,
        /// What `accept(2)` said.
        #[source]
        error: std::io::Error,
    },
}
