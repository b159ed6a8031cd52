//! Targets that a header may choose: decided before a socket exists, and nothing is allowed by default.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::IpNet;

use crate::addr::{TargetAddr, TargetInvalid, unmapped};
use crate::allowlist::{NetworkProblem, parse_network};

/// The address the client connected to, as the header names it. Untrusted, like the source beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClaimedDestination(SocketAddr);

impl ClaimedDestination {
    /// The role of `address`, with an IPv4-mapped address unmapped.
    pub fn new(address: SocketAddr) -> Self {
        Self(unmapped(address))
    }

    /// Address and port.
    pub const fn addr(self) -> SocketAddr {
        self.0
    }
}

/// Which announced destinations may become targets. Fails closed: an empty list allows none.
///
/// A balancer that may name any target reaches every service of this host and its networks; so each one has to
/// be allowed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AllowedTargets {
    targets: Vec<AllowedTarget>,
}

impl AllowedTargets {
    /// The list that allows nothing.
    pub const fn new() -> Self {
        Self { targets: Vec::new() }
    }

    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// What is allowed, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &AllowedTarget> {
        self.targets.iter()
    }

    /// Turns what a header claims into a target.
    ///
    /// # Errors
    ///
    /// [`DestinationRefused`] with the destination and whether it is not allowed or no possible target.
    pub fn authorise(&self, claimed: ClaimedDestination) -> Result<TargetAddr, DestinationRefused> {
        let destination = claimed.addr();
        if !self.targets.iter().any(|allowed| allowed.contains(destination)) {
            return Err(DestinationRefused::NotAllowed { destination });
        }
        Ok(TargetAddr::new(destination)?)
    }
}

impl FromIterator<AllowedTarget> for AllowedTargets {
    fn from_iter<I: IntoIterator<Item = AllowedTarget>>(targets: I) -> Self {
        Self { targets: targets.into_iter().collect() }
    }
}

/// A network and its ports that a header may name: `10.0.0.0/8`, `10.0.0.5:22`, `10.0.0.5:20000-20100`,
/// `2001:db8::/32`, `[2001:db8::5]:22`. Without ports every port is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedTarget {
    network: IpNet,
    ports: RangeInclusive<u16>,
}

impl AllowedTarget {
    /// The addresses that are meant.
    pub const fn network(&self) -> IpNet {
        self.network
    }

    /// The ports that are meant.
    pub fn ports(&self) -> RangeInclusive<u16> {
        self.ports.clone()
    }

    /// Whether `destination`, unmapped, is meant.
    pub fn contains(&self, destination: SocketAddr) -> bool {
        self.network.contains(&destination.ip()) && self.ports.contains(&destination.port())
    }
}

impl FromStr for AllowedTarget {
    type Err = AllowedTargetProblem;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (network, ports) = match text.strip_prefix('[') {
            Some(rest) => {
                let (network, rest) = rest.split_once(']').ok_or(AllowedTargetProblem::Bracket)?;
                match rest.strip_prefix(':') {
                    Some(ports) => (network, Some(ports)),
                    None if rest.is_empty() => (network, None),
                    None => return Err(AllowedTargetProblem::Bracket),
                }
            }
            // One colon is IPv4's; an IPv6 network has two at least, and needs brackets before a port.
            None => match text.split_once(':') {
                Some((network, ports)) if !ports.contains(':') => (network, Some(ports)),
                Some(_) | None => (text, None),
            },
        };
        let ports = ports.map_or(Ok(1..=u16::MAX), port_range)?;
        Ok(Self { network: parse_network(network)?, ports })
    }
}

impl fmt::Display for AllowedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, ports } = self;
        let (first, last) = (ports.start(), ports.end());
        match network.addr() {
            _ if (*first, *last) == (1, u16::MAX) => return network.fmt(f),
            IpAddr::V4(_) => write!(f, "{network}:{first}")?,
            IpAddr::V6(_) => write!(f, "[{network}]:{first}")?,
        }
        if first == last { Ok(()) } else { write!(f, "-{last}") }
    }
}

/// What is wrong with the text of an [`AllowedTarget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllowedTargetProblem {
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkProblem),
    /// A bracket without its partner, or something else than a port behind it.
    #[error("an IPv6 network with ports is written [NETWORK]:PORTS")]
    Bracket,
    /// The ports.
    #[error("ports are a number from 1 to 65535 or a range such as 20000-20100")]
    Ports,
}

/// A destination that does not become a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DestinationRefused {
    /// No allowed network and port contains it.
    #[error("destination {destination} is no allowed target")]
    NotAllowed {
        /// What the header named.
        destination: SocketAddr,
    },
    /// Nobody can connect to it.
    #[error(transparent)]
    Invalid(#[from] TargetInvalid),
    /// The header names none, and no target is configured beside it.
    #[error("the header names no destination and no target is configured for such connections")]
    Missing,
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, AllowedTargetProblem> {
    // `u16::from_str` takes `+8`, which is no port anywhere else.
    let port = |text: &str| match text.parse() {
        Ok(port @ 1..) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(AllowedTargetProblem::Ports),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first <= last { Ok(first..=last) } else { Err(AllowedTargetProblem::Ports) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn allowed(text: &str) -> AllowedTargets {
        text.split_whitespace().map(|target| target.parse().expect(target)).collect()
    }

    fn claim(text: &str) -> ClaimedDestination {
        ClaimedDestination::new(text.parse().expect("test address"))
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        let destination = claim("10.0.0.5:22").addr();
        assert_eq!(
            AllowedTargets::new().authorise(claim("10.0.0.5:22")),
            Err(DestinationRefused::NotAllowed { destination })
        );
    }

    #[test]
    fn networks_and_ports_have_to_fit_both() {
        let allowed = allowed("10.0.0.0/24:22 10.0.1.5:20000-20100 192.0.2.9 [2001:db8::/32]:80-81 fd00::/8");
        for inside in [
            "10.0.0.5:22",
            "[::ffff:10.0.0.5]:22",
            "10.0.1.5:20000",
            "10.0.1.5:20100",
            "192.0.2.9:1",
            "[2001:db8::1]:81",
            "[fd12::1]:65535",
        ] {
            assert!(allowed.authorise(claim(inside)).is_ok(), "{inside}");
        }
        for outside in [
            "10.0.0.5:23",
            "10.0.1.5:19999",
            "10.0.1.5:20101",
            "10.0.1.6:20000",
            "[2001:db8::1]:82",
            "[fe00::1]:1",
        ] {
            let destination = claim(outside).addr();
            let refused = Err(DestinationRefused::NotAllowed { destination });
            assert_eq!(allowed.authorise(claim(outside)), refused, "{outside}");
        }
    }

    #[test]
    fn what_nobody_can_connect_to_is_no_target_even_where_all_is_allowed() {
        let all = allowed("0.0.0.0/0 ::/0");
        for impossible in ["0.0.0.0:22", "224.0.0.1:22", "255.255.255.255:22", "[ff02::1]:22"] {
            assert!(
                matches!(all.authorise(claim(impossible)), Err(DestinationRefused::Invalid(_))),
                "{impossible}"
            );
        }
        // No port is in no range.
        assert!(matches!(all.authorise(claim("10.0.0.1:0")), Err(DestinationRefused::NotAllowed { .. })));
    }

    #[test]
    fn mistakes_are_told_apart() {
        for (text, problem) in [
            ("10.0.0.1:0", AllowedTargetProblem::Ports),
            ("10.0.0.1:", AllowedTargetProblem::Ports),
            ("10.0.0.1:+22", AllowedTargetProblem::Ports),
            ("10.0.0.1:2-1", AllowedTargetProblem::Ports),
            ("10.0.0.1:22-", AllowedTargetProblem::Ports),
            ("10.0.0.1:65536", AllowedTargetProblem::Ports),
            ("[2001:db8::1", AllowedTargetProblem::Bracket),
            ("[2001:db8::1]22", AllowedTargetProblem::Bracket),
            ("example.org:22", AllowedTargetProblem::Network(NetworkProblem::Address)),
            ("10.0.0.0/33", AllowedTargetProblem::Network(NetworkProblem::Prefix { bits: 32 })),
        ] {
            assert_eq!(text.parse::<AllowedTarget>(), Err(problem), "{text}");
        }
    }

    proptest! {
        /// What is printed reads back as the same rule, and the rule is what it says.
        #[test]
        fn printing_and_parsing_agree(ip: Ipv4Addr, len in 0u8..=32, one in 1u16.., other in 1u16.., port: u16) {
            let (first, last) = (one.min(other), one.max(other));
            let network = IpNet::new(ip.into(), len).expect("prefix in range").trunc();
            let rule = AllowedTarget { network, ports: first..=last };
            prop_assert_eq!(rule.to_string().parse(), Ok(rule.clone()));
            prop_assert_eq!(rule.contains(SocketAddr::from((ip, port))), (first..=last).contains(&port));
        }
    }
}
