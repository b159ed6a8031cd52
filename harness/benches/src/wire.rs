//! What generator and target say to each other: a hello that names the client, and bytes that can be checked.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The first bytes of every session, behind the PROXY header: who the client is, and what the target shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The address that the target must see.
    pub(crate) client: SocketAddr,
    pub(crate) role: Role,
    /// Makes this session's bytes different from all others'.
    pub(crate) seed: u64,
}

/// What the target does once it has answered the hello with one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Reads and checks until the end.
    Sink,
    /// Writes until a byte arrives, then finishes.
    Source,
    /// Sends back what it reads. Also what a session does that stays idle.
    Echo,
}

impl Hello {
    /// How long a hello is.
    pub(crate) const LEN: usize = 32;

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[field::MAGIC].copy_from_slice(&MAGIC);
        bytes[field::ROLE] = match self.role {
            Role::Sink => 1,
            Role::Source => 2,
            Role::Echo => 3,
        };
        bytes[field::CLIENT].copy_from_slice(&address(self.client));
        bytes[field::SEED].copy_from_slice(&self.seed.to_le_bytes());
        bytes
    }

    /// `None` when these are other bytes than a generator sends.
    pub(crate) fn from_bytes(bytes: &[u8; Self::LEN]) -> Option<Self> {
        if bytes[field::MAGIC] != MAGIC {
            return None;
        }
        let role = match bytes[field::ROLE] {
            1 => Role::Sink,
            2 => Role::Source,
            3 => Role::Echo,
            _ => return None,
        };
        let client = client(bytes[field::CLIENT].try_into().ok()?);
        let seed = u64::from_le_bytes(bytes[field::SEED].try_into().ok()?);
        Some(Self { client, role, seed })
    }
}

/// The target's answer to a hello that came from the right client.
pub(crate) const WELCOME: u8 = b'+';
/// The target's answer to a hello that came from somebody else.
pub(crate) const STRANGER: u8 = b'!';

/// An address as 18 bytes: IPv6 (or IPv4 mapped into it), then the port.
pub(crate) fn address(address: SocketAddr) -> [u8; 18] {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..].copy_from_slice(&address.port().to_be_bytes());
    bytes
}

/// The address that [`address`] wrote.
pub(crate) fn client(bytes: &[u8; 18]) -> SocketAddr {
    let mut ip = [0; 16];
    ip.copy_from_slice(&bytes[..16]);
    SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), u16::from_be_bytes([bytes[16], bytes[17]]))
}

const MAGIC: [u8; 4] = *b"mmpb";

/// Byte positions in a hello.
mod field {
    use std::ops::Range;

    pub(super) const MAGIC: Range<usize> = 0..4;
    pub(super) const ROLE: usize = 4;
    pub(super) const CLIENT: Range<usize> = 6..24;
    pub(super) const SEED: Range<usize> = 24..32;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_survives_the_way() {
        for client in ["44.1.2.3:4711", "[2001:db8::7]:9"] {
            for role in [Role::Sink, Role::Source, Role::Echo] {
                let hello = Hello { client: client.parse().unwrap(), role, seed: 0x0123_4567_89ab_cdef };
                assert_eq!(Hello::from_bytes(&hello.to_bytes()), Some(hello));
            }
        }
    }

    #[test]
    fn other_bytes_are_no_hello() {
        assert_eq!(Hello::from_bytes(&[0; Hello::LEN]), None);
        let mut bytes = Hello { client: "44.1.2.3:1".parse().unwrap(), role: Role::Sink, seed: 1 }.to_bytes();
        bytes[4] = 9;
        assert_eq!(Hello::from_bytes(&bytes), None);
    }
}
