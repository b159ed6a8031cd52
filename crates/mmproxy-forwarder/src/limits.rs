//! How many sessions may live, and begin, at a time: altogether, and of one of each kind.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU32, NonZeroUsize};

use ipnet::IpNet;

use crate::addr::PeerAddr;
use crate::report::CloseReason;

pub(crate) mod crowd;
pub(crate) mod gate;

/// Limits on the sessions of a gateway. What is over one is refused at once, before anything is dialed; on balancers and
/// listeners before a byte is read.
///
/// Sessions count while they live, from the moment they pass. Each limit is the gateway's, whatever the number of its
/// listeners and threads. A *client* is an IPv4 address or an IPv6 /64, which one host has all of; connections that
/// announce none, such as health checks, are no client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    pub(crate) total: NonZeroUsize,
    pub(crate) per_listener: Option<NonZeroUsize>,
    pub(crate) per_balancer: Option<NonZeroUsize>,
    pub(crate) per_client: Option<NonZeroUsize>,
    pub(crate) per_network: Option<NonZeroUsize>,
    pub(crate) networks: ClientNetworks,
    pub(crate) pace: Option<Pace>,
}

impl SessionLimits {
    /// No limits at all.
    pub const UNLIMITED: Self = Self {
        total: NonZeroUsize::MAX,
        per_listener: None,
        per_balancer: None,
        per_client: None,
        per_network: None,
        networks: ClientNetworks::DEFAULT,
        pace: None,
    };

    /// `total` sessions altogether, with the defaults named at each setter for the rest.
    pub const fn new(total: NonZeroUsize) -> Self {
        Self {
            total,
            per_client: Some(part(total, 8)),
            per_network: Some(part(total, 4)),
            pace: Some(Pace::DEFAULT),
            ..Self::UNLIMITED
        }
    }

    /// Sessions of one listener's address. Default `None`: any part of the total.
    #[must_use]
    pub const fn per_listener(mut self, sessions: Option<NonZeroUsize>) -> Self {
        self.per_listener = sessions;
        self
    }

    /// Sessions of one balancer's address. Default `None`: any part of the total, because most gateways have one balancer,
    /// and everybody comes through it.
    #[must_use]
    pub const fn per_balancer(mut self, sessions: Option<NonZeroUsize>) -> Self {
        self.per_balancer = sessions;
        self
    }

    /// Sessions of one client. Default: an eighth of the total.
    #[must_use]
    pub const fn per_client(mut self, sessions: Option<NonZeroUsize>) -> Self {
        self.per_client = sessions;
        self
    }

    /// Sessions of the clients in one network. Default: a quarter of the total.
    #[must_use]
    pub const fn per_client_network(mut self, sessions: Option<NonZeroUsize>) -> Self {
        self.per_network = sessions;
        self
    }

    /// What a network of clients is. Default: IPv4 /24, IPv6 /56.
    #[must_use]
    pub const fn client_networks(mut self, networks: ClientNetworks) -> Self {
        self.networks = networks;
        self
    }

    /// How fast new sessions of the clients in one network may begin. Default: [`Pace::DEFAULT`].
    #[must_use]
    pub const fn pace(mut self, pace: Option<Pace>) -> Self {
        self.pace = pace;
        self
    }

    /// Sessions altogether.
    pub const fn total(&self) -> NonZeroUsize {
        self.total
    }
}

/// Length of the prefix that a client shares with its neighbours, for each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientNetworks {
    /// Invariant: at most 32.
    v4: u8,
    /// Invariant: at most 128.
    v6: u8,
}

impl ClientNetworks {
    /// IPv4 /24, the smallest network that is routed; IPv6 /56, what a household is given.
    pub const DEFAULT: Self = Self { v4: 24, v6: 56 };

    /// What one client is.
    pub(crate) const ONE: Self = Self { v4: 32, v6: 64 };

    /// Prefixes of these lengths in bits; `None` if one is longer than an address.
    pub const fn new(v4: u8, v6: u8) -> Option<Self> {
        if v4 <= 32 && v6 <= 128 { Some(Self { v4, v6 }) } else { None }
    }

    /// Of IPv4 addresses, in bits.
    pub const fn v4(self) -> u8 {
        self.v4
    }

    /// Of IPv6 addresses, in bits.
    pub const fn v6(self) -> u8 {
        self.v6
    }

    /// The network that the unmapped address `ip` is in.
    pub(crate) fn of(self, ip: IpAddr) -> IpNet {
        let length = if ip.is_ipv4() { self.v4 } else { self.v6 };
        IpNet::new(ip, length).expect("no longer than an address").trunc()
    }

    /// The same as a number; as no client's address is IPv4-mapped, no two networks have one in common.
    pub(crate) const fn number(self, ip: IpAddr) -> u128 {
        const fn leading(bits: u128, length: u32) -> u128 {
            if length == 0 { 0 } else { bits >> (128 - length) << (128 - length) }
        }
        match ip {
            IpAddr::V4(v4) => leading(mapped(v4).to_bits(), 96 + self.v4 as u32),
            IpAddr::V6(v6) => leading(v6.to_bits(), self.v6 as u32),
        }
    }
}

/// New sessions per second, and how many may begin at once after a pause: a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Invariant: at most a thousand million, so that a nanosecond is not too long for one.
    per_second: NonZeroU32,
    burst: NonZeroU32,
}

impl Pace {
    /// A thousand per second, four thousand at once: far more than the clients behind one network of a provider make, far
    /// less than a gateway can serve.
    pub const DEFAULT: Self = Self { per_second: number(1_000), burst: number(4_000) };

    /// `per_second` new sessions, and `burst` at once after a pause. Anything above a thousand million is taken for that.
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self { per_second: per_second.min(number(1_000_000_000)), burst }
    }

    /// New sessions per second.
    pub const fn per_second(self) -> NonZeroU32 {
        self.per_second
    }

    /// New sessions at once after a pause.
    pub const fn burst(self) -> NonZeroU32 {
        self.burst
    }

    /// Nanoseconds for one.
    pub(crate) const fn interval(self) -> u64 {
        1_000_000_000 / self.per_second.get() as u64
    }

    /// Nanoseconds for all that may begin at once.
    pub(crate) const fn tolerance(self) -> u64 {
        self.interval() * self.burst.get() as u64
    }
}

/// A client that has enough sessions, or begins too many: refused before anything is dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientLimitReached {
    /// As many sessions of one client live as may.
    #[error("all {limit} sessions of client {client} are in use")]
    Client {
        /// An address, or the /64 that a host has all of.
        client: IpNet,
        /// The configured maximum.
        limit: usize,
    },
    /// The same for its network.
    #[error("all {limit} sessions of clients in {network} are in use")]
    Network {
        /// The client's network.
        network: IpNet,
        /// The configured maximum.
        limit: usize,
    },
    /// Its network begins more sessions than it may.
    #[error("clients in {network} begin more than {per_second} sessions per second")]
    Pace {
        /// The client's network.
        network: IpNet,
        /// The configured maximum.
        per_second: u32,
    },
}

impl ClientLimitReached {
    /// The close reason this refusal makes.
    pub const fn reason(&self) -> CloseReason {
        match self {
            Self::Client { .. } => CloseReason::ClientLimit,
            Self::Network { .. } => CloseReason::ClientNetworkLimit,
            Self::Pace { .. } => CloseReason::ClientRate,
        }
    }
}

/// A part of all sessions, at least one.
const fn part(total: NonZeroUsize, of: usize) -> NonZeroUsize {
    match NonZeroUsize::new(total.get().div_ceil(of)) {
        Some(part) => part,
        None => NonZeroUsize::MIN,
    }
}

const fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("not zero")
}

const fn mapped(v4: Ipv4Addr) -> Ipv6Addr {
    v4.to_ipv6_mapped()
}

/// Key of a balancer among balancers.
pub(crate) const fn balancer(peer: PeerAddr) -> u128 {
    match peer.ip() {
        IpAddr::V4(v4) => mapped(v4).to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("test address")
    }

    #[test]
    fn a_client_is_an_address_or_a_64_and_its_network_a_24_or_a_56() {
        for (ip, one, network) in [
            (ip("192.0.2.7"), "192.0.2.7/32", "192.0.2.0/24"),
            (ip("2001:db8:0:ff:1:2:3:4"), "2001:db8:0:ff::/64", "2001:db8::/56"),
        ] {
            assert_eq!(ClientNetworks::ONE.of(ip).to_string(), one);
            assert_eq!(ClientNetworks::DEFAULT.of(ip).to_string(), network);
        }
        assert_eq!(ClientNetworks::new(33, 0), None);
        assert_eq!(ClientNetworks::new(0, 129), None);
    }

    #[test]
    fn by_default_one_client_has_an_eighth_and_its_network_a_quarter() {
        let limits = SessionLimits::new(NonZeroUsize::new(100).unwrap());
        assert_eq!(limits.per_client.map(NonZeroUsize::get), Some(13));
        assert_eq!(limits.per_network.map(NonZeroUsize::get), Some(25));
        assert_eq!(SessionLimits::new(NonZeroUsize::MIN).per_client, Some(NonZeroUsize::MIN));
    }

    fn any_ip() -> impl Strategy<Value = IpAddr> {
        // Few bits of difference, at both ends.
        let v4 = any::<(u8, u8)>().prop_map(|(a, b)| IpAddr::from([a, 0, 2, b]));
        let v6 = any::<(u16, u16)>().prop_map(|(a, b)| IpAddr::from([a, 0, 0, 0, 0, 0, 0, b]));
        prop_oneof![v4, v6].prop_map(|ip| ip.to_canonical())
    }

    proptest! {
        /// Two addresses have one number exactly where they are in one network.
        #[test]
        fn numbers_stand_for_networks(a in any_ip(), b in any_ip(), v4 in 0u8..=32, v6 in 0u8..=128) {
            let networks = ClientNetworks::new(v4, v6).unwrap();
            // With ::/0 for all of IPv6 a number can be IPv4's only if that is /0 too: not a network of anybody's.
            prop_assume!(v4 > 0 || v6 > 0 || a.is_ipv4() == b.is_ipv4());
            let same = networks.of(a) == networks.of(b);
            prop_assert_eq!(networks.number(a) == networks.number(b), same, "{} {}", a, b);
        }
    }
}
