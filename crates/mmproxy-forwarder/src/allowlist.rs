//! Who may speak PROXY to us: networks of load balancers.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;

use ipnet::IpNet;

use crate::lines::{LineMistake, TextError};
use crate::networks::{Networks, normalised};

/// Networks whose hosts may announce clients. Fails closed: an empty list allows nobody.
///
/// Networks are normalised: host bits are cleared, `::ffff:a.b.c.d/n` becomes IPv4, and what another network
/// of the list covers is dropped. So `::/0` means every IPv6 peer, and no IPv4 peer.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AllowList {
    /// Invariant: none of them covers another.
    networks: Networks<()>,
}

impl AllowList {
    /// The list that allows nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the file format of [`parse_networks`].
    ///
    /// # Errors
    ///
    /// Every mistake of the text at once.
    pub fn parse(text: &str) -> Result<Self, AllowListError> {
        Ok(parse_networks(text)?.into_iter().collect())
    }

    /// Adds a network; host bits are cleared.
    pub fn insert(&mut self, network: IpNet) {
        let network = normalised(network);
        if !self.networks.covers(network) {
            self.networks.remove_within(network);
            self.networks.insert(network, ());
        }
    }

    /// Whether `peer` is in one of the networks. An IPv4-mapped address is looked up as IPv4.
    pub fn contains(&self, peer: IpAddr) -> bool {
        self.networks.longest(peer).is_some()
    }

    /// Whether nobody is allowed.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// How many networks are left after normalisation.
    pub fn len(&self) -> usize {
        self.networks.len()
    }

    /// The networks, IPv4 first, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> {
        self.networks.iter().map(|(network, ())| network)
    }
}

/// Reads networks as a file has them: a network (`192.0.2.0/24`, `2001:db8::/32`) or an address per line; blank lines
/// and what follows `#` or `;` are ignored. Every network is returned as it stands there, without host bits.
///
/// # Errors
///
/// Every mistake of the text at once.
pub fn parse_networks(text: &str) -> Result<Vec<IpNet>, AllowListError> {
    let mut networks = Vec::new();
    let mut mistakes = Vec::new();
    // Editors of another system put a byte order mark first; it is no mistake of the operator's.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, number) in text.lines().zip(1..) {
        let entry = line.split(['#', ';']).next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        match parse_network(entry) {
            Ok(network) => networks.push(network),
            Err(problem) => mistakes.push(LineMistake {
                line: NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN),
                text: entry.to_owned(),
                problem,
            }),
        }
    }
    TextError::none_of(mistakes).map(|()| networks)
}

/// One network or address, as a line of the file or `--allow` has it.
///
/// # Errors
///
/// [`NetworkProblem`] says what is wrong with `text`.
pub fn parse_network(text: &str) -> Result<IpNet, NetworkProblem> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| NetworkProblem::Address)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => bits,
        // `u8::from_str` takes `+8`, which is no prefix length anywhere else.
        Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
            prefix.parse().map_err(|_| NetworkProblem::Prefix { bits })?
        }
        Some(_) => return Err(NetworkProblem::Prefix { bits }),
    };
    let network = IpNet::new(address, prefix).map_err(|_| NetworkProblem::Prefix { bits })?;
    Ok(normalised(network))
}

impl FromIterator<IpNet> for AllowList {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let mut list = Self::new();
        networks.into_iter().for_each(|network| list.insert(network));
        list
    }
}

/// One network per line, as [`AllowList::parse`] reads them.
impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|network| writeln!(f, "{network}"))
    }
}

/// The mistakes in the text of an allow-list.
pub type AllowListError = TextError<NetworkProblem>;

/// A line that is neither a network nor a comment.
pub type Mistake = LineMistake<NetworkProblem>;

/// What is wrong with the text of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkProblem {
    /// The part before `/` is no IP address.
    #[error("not an IP address or a network such as 192.0.2.0/24")]
    Address,
    /// The part behind `/` is no number, or more than the address has bits.
    #[error("the prefix length has to be a number from 0 to {bits}")]
    Prefix {
        /// Bits of the address before it.
        bits: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::Ipv4Net;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn list(text: &str) -> AllowList {
        AllowList::parse(text).expect("well-formed list")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("test address")
    }

    #[test]
    fn an_empty_list_allows_nobody() {
        for text in ["", "\n\n", "# nothing yet\n;\n"] {
            assert!(list(text).is_empty());
            assert!(!list(text).contains(ip("127.0.0.1")));
            assert!(!list(text).contains(ip("::1")));
        }
    }

    #[test]
    fn comments_blank_lines_bare_addresses_and_host_bits_are_taken() {
        let list = list(
            "\u{feff}# balancers\n\n  10.0.0.5/8 ; office\r\n192.0.2.7\t# one host\n2001:db8::7/32\n::1\n",
        );
        assert_eq!(list.to_string(), "10.0.0.0/8\n192.0.2.7/32\n::1/128\n2001:db8::/32\n");
        for inside in ["10.255.0.1", "192.0.2.7", "::1", "2001:db8:ffff::", "::ffff:10.1.2.3"] {
            assert!(list.contains(ip(inside)), "{inside}");
        }
        for outside in
            ["11.0.0.0", "9.255.255.255", "192.0.2.6", "192.0.2.8", "::2", "2001:db9::", "::ffff:11.0.0.1"]
        {
            assert!(!list.contains(ip(outside)), "{outside}");
        }
    }

    #[test]
    fn a_mapped_network_is_the_ipv4_network_and_everything_of_ipv6_is_not_ipv4() {
        assert_eq!(list("::ffff:10.0.0.5/104").to_string(), "10.0.0.0/8\n");
        assert!(!list("::/0").contains(ip("10.0.0.1")));
        assert!(!list("0.0.0.0/0").contains(ip("::1")));
        assert!(list("0.0.0.0/0").contains(ip("::ffff:10.0.0.1")));
    }

    #[test]
    fn every_mistake_is_reported_with_its_line() {
        let text = "10.0.0.0/33\n# fine\n10.0.0.0/8\nexample.org\n::/129\n10.0.0.0/+8\n10.0.0.0/\n10.0.0.0/8 eth0\nfe80::1%1\n";
        let error = AllowList::parse(text).expect_err("seven mistakes");
        let lines: Vec<_> = error.mistakes().iter().map(|mistake| mistake.line.get()).collect();
        assert_eq!(lines, [1, 4, 5, 6, 7, 8, 9]);
        assert_eq!(
            error.mistakes()[0].to_string(),
            "line 1: `10.0.0.0/33`: the prefix length has to be a number from 0 to 32"
        );
        assert_eq!(
            error.mistakes()[1].to_string(),
            "line 4: `example.org`: not an IP address or a network such as 192.0.2.0/24"
        );
    }

    #[test]
    fn a_hundred_thousand_networks_are_no_trouble() {
        let all: AllowList = (0..100_000u32)
            .map(|n| IpNet::from(Ipv4Net::new_assert(Ipv4Addr::from(n.wrapping_mul(2_654_435_761)), 32)))
            .collect();
        assert_eq!(all.len(), 100_000);
        assert!(all.contains(IpAddr::V4(Ipv4Addr::from(99_999u32.wrapping_mul(2_654_435_761)))));
    }

    #[test]
    fn the_list_of_cloudflares_networks_that_is_shipped_is_complete() {
        let list = list(include_str!("../../../deploy/allow/cloudflare.txt"));
        let v4 = list.iter().filter(|network| network.addr().is_ipv4()).count();
        assert_eq!((v4, list.len()), (15, 22));
        for (inside, outside) in [
            ("173.245.63.255", "173.245.64.0"),
            ("104.27.255.255", "104.28.0.0"),
            ("2a06:98c7:ffff::1", "2a06:98c8::1"),
        ] {
            assert!(list.contains(ip(inside)) && !list.contains(ip(outside)), "{inside} {outside}");
        }
    }

    fn network() -> impl Strategy<Value = IpNet> {
        // Few addresses and short prefixes, so that networks overlap, touch and repeat.
        let v4 = (0u32..64, 0u8..=32).prop_map(|(ip, len)| (IpAddr::V4(Ipv4Addr::from(ip << 26)), len));
        let v6 = (0u128..64, 0u8..=128).prop_map(|(ip, len)| (IpAddr::V6(Ipv6Addr::from(ip << 122)), len));
        let low = (0u32..64, 24u8..=32).prop_map(|(ip, len)| (IpAddr::V4(Ipv4Addr::from(ip)), len));
        prop_oneof![v4, v6, low].prop_map(|(ip, len)| IpNet::new(ip, len).expect("prefix in range"))
    }

    proptest! {
        /// Dropping covered networks changes nothing, nor does the order in which they come: some network as given
        /// contains the address, or none does.
        #[test]
        fn a_lookup_agrees_with_trying_each_network(
            networks in prop::collection::vec(network(), 0..24),
            probes in prop::collection::vec(network(), 1..24),
        ) {
            let bulk: AllowList = networks.iter().copied().collect();
            let mut one_by_one = AllowList::new();
            networks.iter().rev().for_each(|network| one_by_one.insert(*network));
            prop_assert_eq!(&bulk, &one_by_one);
            for probe in probes.iter().flat_map(|net| [net.addr(), net.network(), net.broadcast()]) {
                // The last address of ::/80 is a mapped one: IPv4, whatever IPv6 network it lies in.
                let peer = probe.to_canonical();
                let expected = networks.iter().any(|network| network.contains(&peer));
                prop_assert_eq!(bulk.contains(probe), expected, "{}", probe);
            }
        }

        /// What is printed reads back as the same list.
        #[test]
        fn printing_and_parsing_agree(networks in prop::collection::vec(network(), 0..24)) {
            let list: AllowList = networks.into_iter().collect();
            prop_assert_eq!(AllowList::parse(&list.to_string()), Ok(list));
        }

        /// No text makes the parser panic.
        #[test]
        fn any_text_is_a_list_or_a_list_of_mistakes(text in "\\PC*|[0-9a-f:./#; \n]*") {
            drop(AllowList::parse(&text));
        }
    }
}
