//! Who the client is and where it goes: by configuration, never by looking at the bytes.

use crate::addr::{Family, PeerAddr, SpoofSource, TargetAddr, Targets};
use crate::destination::{AllowedTargets, ClaimedDestination, DestinationRefused};
use crate::error::{NoTarget, SessionError};

/// Where a gateway learns the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ClientFrom {
    /// From the PROXY header in front of each connection; a connection without one is refused.
    #[default]
    Header,
    /// From the connection itself: the peer is the client, and every byte is payload.
    ///
    /// What other gateways call transparent mode. A header, should one come, reaches the target.
    Peer,
}

/// Where a gateway takes its targets from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetChoice {
    /// One target per family, whatever the header says.
    Fixed(Targets),
    /// The header's destination, where it is allowed.
    FromHeader {
        /// What a header may name.
        allowed: AllowedTargets,
        /// Targets of connections whose header names none (LOCAL, UNKNOWN); without them those are refused.
        others: Option<Targets>,
    },
}

impl TargetChoice {
    /// The target of a client that is spoofed.
    pub(crate) fn of_client(
        &self,
        source: SpoofSource,
        destination: Option<ClaimedDestination>,
    ) -> Result<TargetAddr, SessionError> {
        match self {
            Self::Fixed(targets) => Ok(targets.of(source.family()).ok_or(NoTarget { client: source })?),
            Self::FromHeader { allowed, .. } => {
                let destination = destination.ok_or(DestinationRefused::Missing)?;
                Ok(allowed.authorise(destination)?)
            }
        }
    }

    /// The target that is configured for `family`, if one is.
    pub(crate) fn configured(&self, family: Family) -> Option<TargetAddr> {
        match self {
            Self::Fixed(targets) | Self::FromHeader { others: Some(targets), .. } => targets.of(family),
            Self::FromHeader { others: None, .. } => None,
        }
    }

    /// The target of a connection that is the balancer's own, or whose client nobody knows.
    pub(crate) fn of_balancer(&self, peer: PeerAddr) -> Result<TargetAddr, SessionError> {
        match self {
            Self::Fixed(targets) | Self::FromHeader { others: Some(targets), .. } => {
                Ok(targets.preferring(Family::of(peer.addr())))
            }
            Self::FromHeader { others: None, .. } => Err(DestinationRefused::Missing.into()),
        }
    }
}

impl From<Targets> for TargetChoice {
    fn from(targets: Targets) -> Self {
        Self::Fixed(targets)
    }
}
