//! What tells one flow from another.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

/// Identity of a flow: datagrams with the same key are one client's, and go out of one socket.
///
/// The balancer's port is no part of it: a balancer that goes on from another port, as one that was restarted does, is
/// followed. All addresses are unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowKey {
    /// The address that the balancer sends to: one listener on all addresses has several.
    pub(crate) local: IpAddr,
    pub(crate) balancer: IpAddr,
    pub(crate) origin: Origin,
}

/// Whose datagrams they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A client's, on its way to `destination`.
    Client { source: SocketAddr, destination: Option<SocketAddr> },
    /// The balancer's own, or those of a client without address. Only the port tells two of them apart.
    Balancer { port: u16 },
}

/// The network a client shares with its neighbours: whoever controls one address of it mostly has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientNetwork(IpAddr);

impl FlowKey {
    /// The network its client counts for; the balancer's own where the datagrams are.
    pub(crate) const fn network(&self) -> ClientNetwork {
        match self.origin {
            Origin::Client { source, .. } => ClientNetwork::of(source.ip()),
            Origin::Balancer { .. } => ClientNetwork::of(self.balancer),
        }
    }
}

impl Hash for FlowKey {
    /// In one piece: what is derived hands the hasher some twenty, each at the cost of eight bytes here.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = [0; field::LENGTH];
        bytes[field::LOCAL].copy_from_slice(&mapped(self.local));
        bytes[field::BALANCER].copy_from_slice(&mapped(self.balancer));
        match self.origin {
            Origin::Client { source, destination } => {
                bytes[field::SOURCE].copy_from_slice(&mapped(source.ip()));
                bytes[field::SOURCE_PORT].copy_from_slice(&source.port().to_ne_bytes());
                if let Some(destination) = destination {
                    bytes[field::DESTINATION].copy_from_slice(&mapped(destination.ip()));
                    bytes[field::DESTINATION_PORT].copy_from_slice(&destination.port().to_ne_bytes());
                }
            }
            Origin::Balancer { port } => bytes[field::SOURCE_PORT].copy_from_slice(&port.to_ne_bytes()),
        }
        state.write(&bytes);
    }
}

/// Where the parts of a key are in what is hashed.
mod field {
    use super::Range;

    pub(super) const LOCAL: Range<usize> = 0..16;
    pub(super) const BALANCER: Range<usize> = 16..32;
    pub(super) const SOURCE: Range<usize> = 32..48;
    pub(super) const DESTINATION: Range<usize> = 48..64;
    pub(super) const SOURCE_PORT: Range<usize> = 64..66;
    pub(super) const DESTINATION_PORT: Range<usize> = 66..68;
    pub(super) const LENGTH: usize = 72;
}

/// Addresses of both families, none of which is mapped already, in a form of one length.
const fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

impl ClientNetwork {
    /// IPv4: /24, the smallest network that is routed. IPv6: /56, what a household is given.
    pub(crate) const fn of(ip: IpAddr) -> Self {
        Self(match ip {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & !0xFF)),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 72 << 72)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    #[test]
    fn every_part_of_a_key_that_differs_makes_another_hash() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let client = |source: &str, destination: Option<&str>| Origin::Client {
            source: source.parse().unwrap(),
            destination: destination.map(|text| text.parse().unwrap()),
        };
        let key = FlowKey {
            local: ip("10.0.0.1"),
            balancer: ip("10.0.0.2"),
            origin: client("192.0.2.1:7", Some("198.51.100.1:53")),
        };
        let origins = [
            client("192.0.2.2:7", Some("198.51.100.1:53")),
            client("192.0.2.1:8", Some("198.51.100.1:53")),
            client("192.0.2.1:7", Some("198.51.100.2:53")),
            client("192.0.2.1:7", Some("198.51.100.1:54")),
            client("192.0.2.1:7", None),
            client("[2001:db8::1]:7", Some("[2001:db8::2]:53")),
            client("[2001:db8::1]:7", Some("[2001:db8::3]:53")),
            Origin::Balancer { port: 7 },
            Origin::Balancer { port: 8 },
        ];
        let mut keys = vec![
            key,
            FlowKey { local: ip("10.0.0.3"), ..key },
            FlowKey { balancer: ip("10.0.0.3"), ..key },
            FlowKey { local: key.balancer, balancer: key.local, ..key },
        ];
        keys.extend(origins.map(|origin| FlowKey { origin, ..key }));
        let hasher = RandomState::new();
        let hashes: HashSet<u64> = keys.iter().map(|key| hasher.hash_one(key)).collect();
        assert_eq!(hashes.len(), keys.len());
    }
}
