//! Networks with something known of each, found by longest prefix.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use prefix_trie::joint::JointPrefixMap;

/// A longest-prefix table of both families.
///
/// Keys are [`normalised`] by whoever inserts them, addresses by the table: an IPv4-mapped one is looked up as IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Networks<T: PartialEq>(JointPrefixMap<IpNet, T>);

impl<T: PartialEq> Networks<T> {
    /// Adds a network; what was known of it before is returned.
    pub(crate) fn insert(&mut self, network: IpNet, value: T) -> Option<T> {
        self.0.insert(network, value)
    }

    /// Takes out exactly `network`.
    pub(crate) fn remove(&mut self, network: IpNet) -> Option<T> {
        self.0.remove(&network)
    }

    /// Takes out `network` and every network in it.
    pub(crate) fn remove_within(&mut self, network: IpNet) {
        self.0.remove_children(&network);
    }

    /// What is known of the smallest network that contains `ip`.
    pub(crate) fn longest(&self, ip: IpAddr) -> Option<&T> {
        self.0.get_lpm(&host(ip)).map(|(_, value)| value)
    }

    /// What is known of the smallest network that contains all of `network`.
    pub(crate) fn longest_of(&self, network: IpNet) -> Option<&T> {
        self.0.get_lpm(&network).map(|(_, value)| value)
    }

    /// `network` and every network in it, if they are there; a network before those in it.
    pub(crate) fn within_mut(&mut self, network: IpNet) -> impl Iterator<Item = (IpNet, &mut T)> {
        self.0.children_mut(&network)
    }

    /// Whether one of the networks contains all of `network`.
    pub(crate) fn covers(&self, network: IpNet) -> bool {
        self.0.is_covered(&network)
    }

    /// Leaves those of which `keep` says so.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.0.retain(|_, value| keep(value));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// IPv4 first, in ascending order; a network before those in it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (IpNet, &T)> {
        self.0.iter()
    }
}

impl<T: PartialEq> Default for Networks<T> {
    fn default() -> Self {
        Self(JointPrefixMap::new())
    }
}

/// Without host bits; an IPv4-mapped network as IPv4, because addresses are compared unmapped.
pub(crate) fn normalised(network: IpNet) -> IpNet {
    let network = network.trunc();
    let IpNet::V6(v6) = network else { return network };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(v4), Some(prefix)) => Ipv4Net::new(v4, prefix).map_or(network, IpNet::from),
        _ => network,
    }
}

fn host(ip: IpAddr) -> IpNet {
    IpNet::from(ip.to_canonical())
}
