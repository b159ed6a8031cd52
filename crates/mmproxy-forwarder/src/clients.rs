//! Which clients are served, by configuration: denied and allowed networks.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::networks::{Networks, normalised};

/// Networks of clients that are denied, and of those that are allowed.
///
/// Of all networks that contain a client's address, the smallest decides; where it is both denied and allowed, it is
/// denied. So a network can be denied within an allowed one, and an address allowed within that. The default lets
/// everybody pass.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ClientLists {
    verdicts: Networks<Verdict>,
    /// What becomes of those that no network contains.
    others: Verdict,
}

impl ClientLists {
    /// With `allowed`, whoever is in none of these networks is refused: nobody passes an empty list. `None` lets
    /// everybody pass who is not denied.
    ///
    /// Networks are normalised as those of an [`AllowList`](crate::AllowList), but none is dropped.
    pub fn new<A, D>(allowed: Option<A>, denied: D) -> Self
    where
        A: IntoIterator<Item = IpNet>,
        D: IntoIterator<Item = IpNet>,
    {
        let mut lists = Self::default();
        if let Some(allowed) = allowed {
            lists.others = Verdict::Denied;
            for network in allowed {
                lists.verdicts.insert(normalised(network), Verdict::Allowed);
            }
        }
        for network in denied {
            lists.verdicts.insert(normalised(network), Verdict::Denied);
        }
        lists
    }

    /// Decides on the client at `ip`; an IPv4-mapped address is looked up as IPv4.
    ///
    /// # Errors
    ///
    /// [`ClientDenied`] with the address.
    pub fn check(&self, ip: IpAddr) -> Result<(), ClientDenied> {
        match (self.verdicts.longest(ip), self.others) {
            (Some(Verdict::Allowed), _) | (None, Verdict::Allowed) => Ok(()),
            (Some(Verdict::Denied), _) => Err(ClientDenied::Denied(ip)),
            (None, Verdict::Denied) => Err(ClientDenied::NotAllowed(ip)),
        }
    }

    /// How many networks are listed.
    pub fn len(&self) -> usize {
        self.verdicts.len()
    }

    /// Whether everybody passes because nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.verdicts.is_empty() && self.others == Verdict::Allowed
    }
}

/// A client that is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientDenied {
    /// The smallest network listed that contains it is denied.
    #[error("client {0} is in a denied network")]
    Denied(IpAddr),
    /// There are allowed networks, and it is in none of them.
    #[error("client {0} is in no allowed network of clients")]
    NotAllowed(IpAddr),
    /// The deny list of the running gateway has it.
    #[error("client {0} is on the deny list")]
    Banned(IpAddr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Verdict {
    #[default]
    Allowed,
    Denied,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace().map(|net| crate::parse_network(net).expect("test network")).collect()
    }

    fn verdicts(lists: &ClientLists, ips: &str) -> Vec<bool> {
        ips.split_whitespace().map(|ip| lists.check(ip.parse().expect("test address")).is_ok()).collect()
    }

    #[test]
    fn nothing_listed_lets_everybody_pass() {
        let lists = ClientLists::default();
        assert!(lists.is_empty());
        assert_eq!(verdicts(&lists, "192.0.2.7 2001:db8::7"), [true, true]);
    }

    #[test]
    fn the_smallest_network_decides_and_deny_wins_where_it_is_both() {
        let lists = ClientLists::new(
            Some(nets("192.0.2.0/24 198.51.100.0/24 10.1.2.0/24 2001:db8::/32")),
            nets("192.0.2.128/25 198.51.100.0/24 10.0.0.0/8"),
        );
        let ips = "192.0.2.7 192.0.2.200 198.51.100.1 10.1.1.1 10.1.2.3 2001:db8::7 203.0.113.1";
        assert_eq!(verdicts(&lists, ips), [true, false, false, false, true, true, false]);
        let ip = "203.0.113.1".parse().unwrap();
        assert_eq!(lists.check(ip), Err(ClientDenied::NotAllowed(ip)));
        let ip = "::ffff:10.1.1.1".parse().unwrap();
        assert_eq!(lists.check(ip), Err(ClientDenied::Denied(ip)));
    }

    #[test]
    fn an_empty_list_of_allowed_clients_allows_nobody() {
        let lists = ClientLists::new(Some([]), []);
        assert!(!lists.is_empty());
        assert_eq!(verdicts(&lists, "192.0.2.7 ::1"), [false, false]);
    }

    #[test]
    fn denied_networks_alone_leave_everybody_else_alone() {
        let lists = ClientLists::new(None::<Vec<IpNet>>, nets("::ffff:192.0.2.0/120 2001:db8::/32"));
        assert_eq!(
            verdicts(&lists, "192.0.2.7 192.0.3.7 2001:db8::7 2001:db9::7"),
            [false, true, false, true]
        );
    }

    fn network() -> impl Strategy<Value = IpNet> {
        let v4 = (0u32..16, 0u8..=32).prop_map(|(ip, len)| (IpAddr::V4(Ipv4Addr::from(ip << 28)), len));
        let v6 = (0u128..16, 0u8..=128).prop_map(|(ip, len)| (IpAddr::V6(Ipv6Addr::from(ip << 124)), len));
        prop_oneof![v4, v6].prop_map(|(ip, len)| IpNet::new(ip, len).expect("prefix in range"))
    }

    proptest! {
        /// Trying every network gives the same answer.
        #[test]
        fn a_lookup_agrees_with_trying_each_network(
            allowed in prop::option::of(prop::collection::vec(network(), 0..12)),
            denied in prop::collection::vec(network(), 0..12),
            probes in prop::collection::vec(network(), 1..12),
        ) {
            let lists = ClientLists::new(allowed.clone(), denied.iter().copied());
            for probe in probes.iter().flat_map(|net| [net.addr(), net.network(), net.broadcast()]) {
                let ip = probe.to_canonical();
                let longest = |nets: &[IpNet]| {
                    nets.iter().filter(|net| net.contains(&ip)).map(IpNet::prefix_len).max()
                };
                let expected = match (allowed.as_deref().map(longest), longest(&denied)) {
                    (None, denied) => denied.is_none(),
                    (Some(None), _) => false,
                    (Some(Some(allowed)), denied) => denied.is_none_or(|denied| denied < allowed),
                };
                prop_assert_eq!(lists.check(probe).is_ok(), expected, "{}", probe);
            }
        }
    }
}
