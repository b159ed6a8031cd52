//! Addresses carry their role: swapping two of them is the worst mistake a gateway can make.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The load balancer: the address `accept(2)` reported.
///
/// An IPv4 peer of a dual-stack listener appears as IPv4, never as `::ffff:a.b.c.d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(SocketAddr);

impl PeerAddr {
    /// The role of `address`, with an IPv4-mapped address unmapped.
    pub fn new(address: SocketAddr) -> Self {
        Self(unmapped(address))
    }

    /// Address and port.
    pub const fn addr(self) -> SocketAddr {
        self.0
    }

    /// Address without the port.
    pub const fn ip(self) -> IpAddr {
        self.0.ip()
    }
}

/// The client as the header names it. Untrusted: whatever a peer cares to send.
///
/// An IPv4-mapped address is unmapped, so that no rule can be passed by writing an address differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClaimedSource(SocketAddr);

impl ClaimedSource {
    /// The role of `address`, with an IPv4-mapped address unmapped.
    pub fn new(address: SocketAddr) -> Self {
        Self(unmapped(address))
    }

    /// Address and port; port 0 means that the port is unknown.
    pub const fn addr(self) -> SocketAddr {
        self.0
    }

    /// Address without the port.
    pub const fn ip(self) -> IpAddr {
        self.0.ip()
    }
}

/// A claimed source that policy let through: the only source a spoofed connection can be made from.
///
/// Made by [`SourcePolicy::authorise`](crate::SourcePolicy::authorise) and by nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpoofSource(SocketAddr);

impl SpoofSource {
    /// For the policy alone.
    pub(crate) const fn authorised(claimed: ClaimedSource) -> Self {
        Self(claimed.0)
    }

    /// Address and port; port 0 means that the port is unknown.
    pub const fn addr(self) -> SocketAddr {
        self.0
    }

    /// Address without the port.
    pub const fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// Family of the address, which the target must share.
    pub const fn family(self) -> Family {
        Family::of(self.0)
    }
}

/// Where a session is handed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TargetAddr(SocketAddr);

impl TargetAddr {
    /// A target of either family.
    ///
    /// # Errors
    ///
    /// [`TargetInvalid`] for an address nobody can connect to: port 0, the unspecified address, multicast,
    /// broadcast, or an IPv4-mapped IPv6 address, which is written as IPv4 instead.
    pub fn new(address: SocketAddr) -> Result<Self, TargetInvalid> {
        let problem = match address.ip() {
            ip if ip.is_unspecified() => Some(TargetProblem::Unspecified),
            ip if ip.is_multicast() => Some(TargetProblem::Multicast),
            IpAddr::V4(ip) if ip.is_broadcast() => Some(TargetProblem::Multicast),
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Some(TargetProblem::Mapped),
            IpAddr::V4(_) | IpAddr::V6(_) if address.port() == 0 => Some(TargetProblem::PortZero),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        };
        match problem {
            Some(problem) => Err(TargetInvalid { address, problem }),
            None => Ok(Self(address)),
        }
    }

    /// Address and port.
    pub const fn addr(self) -> SocketAddr {
        self.0
    }

    /// Family of the address.
    pub const fn family(self) -> Family {
        Family::of(self.0)
    }
}

/// A gateway's targets: one per family, at least one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    v4: Option<TargetAddr>,
    v6: Option<TargetAddr>,
}

impl Targets {
    /// Targets for IPv4 clients and for IPv6 clients; clients of a family without one are refused.
    ///
    /// # Errors
    ///
    /// [`TargetsInvalid`] when both are missing or one is no possible target.
    pub fn new(v4: Option<SocketAddrV4>, v6: Option<SocketAddrV6>) -> Result<Self, TargetsInvalid> {
        if v4.is_none() && v6.is_none() {
            return Err(TargetsInvalid::None);
        }
        let v4 = v4.map(|v4| TargetAddr::new(v4.into())).transpose()?;
        let v6 = v6.map(|v6| TargetAddr::new(v6.into())).transpose()?;
        Ok(Self { v4, v6 })
    }

    /// The target for clients of `family`.
    pub const fn of(&self, family: Family) -> Option<TargetAddr> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// The target of `family`, or the other one where only that is configured: good enough for a connection
    /// that is not spoofed, whose source can be of either family.
    pub(crate) fn preferring(&self, family: Family) -> TargetAddr {
        self.of(family).or(self.v4).or(self.v6).expect("`new` refuses a pair without any target")
    }

    /// Every configured target, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = TargetAddr> {
        self.v4.into_iter().chain(self.v6)
    }
}

/// Address family, after IPv4-mapped addresses were unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Family of `address` as it stands; see [`unmapped`].
    pub const fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }
}

/// An address nobody can connect to, where a target was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} cannot be a target: {problem}")]
pub struct TargetInvalid {
    /// What was given.
    pub address: SocketAddr,
    /// What is wrong with it.
    pub problem: TargetProblem,
}

/// What is wrong with a target's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetProblem {
    /// 0.0.0.0 or ::.
    Unspecified,
    /// A group or everybody, not one machine.
    Multicast,
    /// `::ffff:a.b.c.d`.
    Mapped,
    /// Port 0.
    PortZero,
}

/// Why two optional targets do not make a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetsInvalid {
    /// Neither family has a target.
    #[error("no target is given")]
    None,
    /// One of them cannot be connected to.
    #[error(transparent)]
    Target(#[from] TargetInvalid),
}

/// `address` with an IPv4-mapped IPv6 address (`::ffff:a.b.c.d`) turned into the IPv4 address it stands for,
/// and without flow label.
///
/// The kernel treats both spellings as the same host; rules and comparisons have to as well.
pub fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        },
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ClaimedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SpoofSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TargetAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl fmt::Display for TargetProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "an unspecified address names no machine",
            Self::Multicast => "it is a multicast or broadcast address",
            Self::Mapped => "an IPv4-mapped address has to be written as IPv4",
            Self::PortZero => "port 0 is no port",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("test address")
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_it_stands_for_in_every_role() {
        let mapped = addr("[::ffff:192.0.2.7]:4711");
        assert_eq!(PeerAddr::new(mapped).addr(), addr("192.0.2.7:4711"));
        assert_eq!(ClaimedSource::new(mapped).addr(), addr("192.0.2.7:4711"));
        // IPv4-compatible (deprecated) and NAT64 addresses are IPv6 for the kernel.
        assert_eq!(unmapped(addr("[::192.0.2.7]:1")), addr("[::192.0.2.7]:1"));
        assert_eq!(unmapped(addr("[64:ff9b::192.0.2.7]:1")), addr("[64:ff9b::192.0.2.7]:1"));
    }

    #[test]
    fn a_target_is_an_address_somebody_can_listen_on() {
        for (text, problem) in [
            ("0.0.0.0:22", TargetProblem::Unspecified),
            ("[::]:22", TargetProblem::Unspecified),
            ("224.0.0.1:22", TargetProblem::Multicast),
            ("255.255.255.255:22", TargetProblem::Multicast),
            ("[ff02::1]:22", TargetProblem::Multicast),
            ("[::ffff:127.0.0.1]:22", TargetProblem::Mapped),
            ("127.0.0.1:0", TargetProblem::PortZero),
        ] {
            assert_eq!(TargetAddr::new(addr(text)), Err(TargetInvalid { address: addr(text), problem }));
        }
        assert_eq!(TargetAddr::new(addr("[::1]:22")).map(TargetAddr::addr), Ok(addr("[::1]:22")));
    }

    #[test]
    fn the_other_family_stands_in_only_where_it_is_alone() {
        let both = Targets::new("127.0.0.1:22".parse().ok(), "[::1]:23".parse().ok()).expect("two targets");
        assert_eq!(both.preferring(Family::V6).addr(), addr("[::1]:23"));
        let v4 = Targets::new("127.0.0.1:22".parse().ok(), None).expect("one target");
        assert_eq!(v4.of(Family::V6), None);
        assert_eq!(v4.preferring(Family::V6).addr(), addr("127.0.0.1:22"));
        assert_eq!(Targets::new(None, None), Err(TargetsInvalid::None));
    }
}
