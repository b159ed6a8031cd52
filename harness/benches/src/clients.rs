//! The clients that the generator announces: each one another address.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use harness::Family;

/// An endless row of clients, no two the same within a run: spread over 44.0.0.0/8 and 2001:db8::/32.
///
/// Both networks are nobody's on the bench: packets to a client that do not take the return path have nowhere to go.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    next: AtomicU32,
}

impl Clients {
    /// The next one.
    pub(crate) fn next(&self, family: Family) -> SocketAddr {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // Multiplication by an odd number modulo 2^24 is a bijection: neighbours are far apart and none comes twice.
        let spread = number.wrapping_mul(SPREAD) & 0x00ff_ffff;
        #[expect(clippy::cast_possible_truncation, reason = "PORTS fits")]
        let port = FIRST_PORT + (spread % u32::from(PORTS)) as u16;
        match family {
            Family::V4 => (Ipv4Addr::from_bits(0x2c00_0000 | spread), port).into(),
            Family::V6 => {
                let network = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0));
                // The upper half of the address differs too, as it does between real clients' networks.
                let host = u128::from(spread) << 72 | u128::from(number);
                (Ipv6Addr::from(network | host), port).into()
            }
        }
    }
}

const SPREAD: u32 = 0x009e_3779;
/// Above what gateways and targets listen on: a wildcard listener's port cannot be a spoofed client's.
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 55_000;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_address_comes_twice_and_all_are_of_their_network() {
        for family in Family::BOTH {
            let clients = Clients::default();
            let mut seen = HashSet::new();
            for _ in 0..100_000 {
                let client = clients.next(family);
                assert!(client.port() >= FIRST_PORT);
                let text = client.ip().to_string();
                assert!(text.starts_with("44.") || text.starts_with("2001:db8:"), "{text}");
                assert!(seen.insert(client.ip()), "{text} came twice");
            }
        }
    }
}
