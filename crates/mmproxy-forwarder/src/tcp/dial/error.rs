//! Why there is no connection to a target, and what cures it.

use std::fmt;
use std::io;
use std::time::Duration;

use super::PortConflict;
use crate::addr::{SpoofSource, TargetAddr};
use crate::netns::NamespaceGone;
use crate::report::CloseReason;

/// Why there is no connection to the target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// An IPv4 client toward an IPv6 target, or the reverse.
    #[error("{} client {client} cannot be shown to {} target {target}", client.family(), target.family())]
    Families {
        /// The client.
        client: SpoofSource,
        /// The target.
        target: TargetAddr,
    },
    /// The header names no port and policy is to keep it.
    #[error("client {client} has no port to keep")]
    PortUnknown {
        /// The client.
        client: SpoofSource,
    },
    /// The kernel does not give the client's port and policy is to keep it.
    #[error("cannot keep the port of client {client}: {conflict}")]
    PortUnavailable {
        /// The client.
        client: SpoofSource,
        /// Why the port is not to be had.
        conflict: PortConflict,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// The kernel does not take the client's address as a source.
    #[error("client {client} cannot be a source address")]
    SourceUnusable {
        /// The client.
        client: SpoofSource,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// A privilege is missing, or a firewall refuses.
    #[error("not permitted to {action}; {}", action.cure())]
    NotPermitted {
        /// What was refused.
        action: Action,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// Out of descriptors, memory or ephemeral ports.
    #[error("no resources to {action}")]
    Exhausted {
        /// What could not be done.
        action: Action,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// Nobody listens there.
    #[error("target {target} refuses connections")]
    Refused {
        /// The target.
        target: TargetAddr,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// No way there: no route, or the family is switched off on this host.
    #[error("target {target} is unreachable")]
    Unreachable {
        /// The target.
        target: TargetAddr,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
    /// The namespace of the target is not there now.
    #[error(transparent)]
    Namespace(#[from] NamespaceGone),
    /// No answer. Where the target is up, the return path is missing.
    #[error("target {target} did not answer within {limit:?}")]
    TimedOut {
        /// The target.
        target: TargetAddr,
        /// The deadline.
        limit: Duration,
    },
}

impl DialError {
    /// The close reason this error makes.
    pub const fn reason(&self) -> CloseReason {
        match self {
            Self::Families { .. } | Self::SourceUnusable { .. } => CloseReason::SourceUnusable,
            Self::PortUnknown { .. } | Self::PortUnavailable { .. } => CloseReason::PortUnavailable,
            Self::NotPermitted { .. } => CloseReason::NotPermitted,
            Self::Exhausted { .. } => CloseReason::OutOfResources,
            Self::Refused { .. } => CloseReason::TargetRefused,
            Self::Unreachable { .. } => CloseReason::TargetUnreachable,
            Self::Namespace(NamespaceGone) => CloseReason::NamespaceGone,
            Self::TimedOut { .. } => CloseReason::TargetTimeout,
        }
    }
}

/// A step on the way to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// `socket(2)` and its ordinary options.
    MakeSocket,
    /// `IP_TRANSPARENT`, `IPV6_TRANSPARENT`.
    UseForeignAddress,
    /// `SO_MARK`.
    Mark,
    /// `bind(2)`.
    Bind,
    /// `connect(2)`.
    Connect,
}

impl Action {
    const fn cure(self) -> &'static str {
        match self {
            Self::UseForeignAddress => "IP_TRANSPARENT needs CAP_NET_RAW or CAP_NET_ADMIN",
            Self::Mark => "SO_MARK needs CAP_NET_ADMIN, or CAP_NET_RAW since Linux 5.17",
            Self::MakeSocket | Self::Bind => "a security module or a sandbox forbids it",
            Self::Connect => "a firewall or a security module of this host forbids it",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MakeSocket => "make a socket",
            Self::UseForeignAddress => "use a foreign address",
            Self::Mark => "mark a socket",
            Self::Bind => "bind a socket",
            Self::Connect => "connect",
        })
    }
}
