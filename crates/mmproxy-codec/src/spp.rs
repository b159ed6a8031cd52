//! Cloudflare's Simple Proxy Protocol: 38 bytes in front of every datagram of a proxied flow.
//!
//! Magic, client address, proxy address, client port, proxy port; no version, length or checksum. The way back is
//! part of the protocol: datagrams sent to the proxy must begin with the header of the flow they answer, see
//! [`encode::spp_reply`](crate::encode::spp_reply).

use core::net::SocketAddr;
use core::ops::Range;

use crate::detect::SPP_MAGIC;
use crate::encode::{EncodeError, plain};
use crate::error::HeaderError;
use crate::header::{Command, Family, Header, Transport, Version, mapped};

/// Bytes of an SPP header.
pub const SPP_LEN: usize = 38;

/// The header at the start of `datagram`, which begins with the magic.
///
/// Reported as IPv4 if both addresses are IPv4-mapped, as IPv6 with the addresses of the wire otherwise.
#[inline]
pub(crate) fn decode(datagram: &[u8]) -> Result<Header<'static>, HeaderError> {
    let Some(wire) = datagram.first_chunk::<SPP_LEN>() else {
        return Err(HeaderError::Truncated { need: SPP_LEN, got: datagram.len() });
    };
    let client = array(wire, field::CLIENT);
    let proxy = array(wire, field::PROXY);
    let ports = (
        u16::from_be_bytes(array(wire, field::CLIENT_PORT)),
        u16::from_be_bytes(array(wire, field::PROXY_PORT)),
    );
    let bare = Header::bare(Version::Spp, Command::Proxy, Family::Unspec, Transport::Datagram);
    Ok(match (mapped_v4(client), mapped_v4(proxy)) {
        (Some(client), Some(proxy)) => bare.inet(client, proxy, ports),
        (None, _) | (_, None) => bare.inet6(client, proxy, ports),
    })
}

/// `N` bytes of a header; `range` is one of [`field`] and has that length.
#[inline]
fn array<const N: usize>(wire: &[u8; SPP_LEN], range: Range<usize>) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&wire[range]);
    bytes
}

/// The IPv4 address in `::ffff:a.b.c.d`.
#[inline]
const fn mapped_v4(octets: [u8; 16]) -> Option<[u8; 4]> {
    match octets {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, a, b, c, d] => Some([a, b, c, d]),
        _ => None,
    }
}

/// An SPP header for a datagram from `client` to `proxy`; IPv4 addresses are mapped.
///
/// # Errors
///
/// [`EncodeError::Scope`] if an IPv6 address has a scope or flow information: the format has no place for it.
pub fn spp(client: SocketAddr, proxy: SocketAddr) -> Result<[u8; SPP_LEN], EncodeError> {
    let (client, proxy) = (plain(mapped(client))?, plain(mapped(proxy))?);
    let mut wire = [0; SPP_LEN];
    wire[field::MAGIC].copy_from_slice(&SPP_MAGIC);
    wire[field::CLIENT].copy_from_slice(&client.ip().octets());
    wire[field::PROXY].copy_from_slice(&proxy.ip().octets());
    wire[field::CLIENT_PORT].copy_from_slice(&client.port().to_be_bytes());
    wire[field::PROXY_PORT].copy_from_slice(&proxy.port().to_be_bytes());
    Ok(wire)
}

/// The SPP header that datagrams sent back to the proxy must begin with: the same as on the way in, byte for byte.
///
/// `None` if `header` is not SPP: other formats ask for nothing on the way back.
pub fn spp_reply(header: &Header<'_>) -> Option<[u8; SPP_LEN]> {
    if header.version() != Version::Spp {
        return None;
    }
    let (client, proxy) = (header.source()?, header.destination()?);
    spp(client, proxy).ok()
}

/// Byte positions in an SPP header.
mod field {
    use core::ops::Range;

    pub(super) const MAGIC: Range<usize> = 0..2;
    pub(super) const CLIENT: Range<usize> = 2..18;
    pub(super) const PROXY: Range<usize> = 18..34;
    pub(super) const CLIENT_PORT: Range<usize> = 34..36;
    pub(super) const PROXY_PORT: Range<usize> = 36..super::SPP_LEN;
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv6Addr, SocketAddrV6};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_reply_begins_with_the_header_of_the_request() {
        for (client, proxy) in [
            ("192.0.2.1:1", "198.51.100.1:2"),
            ("[2001:db8::1]:1", "[2001:db8::2]:2"),
            ("[::ffff:192.0.2.1]:1", "[2001:db8::2]:2"),
        ] {
            let wire = spp(address(client), address(proxy)).unwrap();
            assert_eq!(spp_reply(&decode(&wire).unwrap()), Some(wire));
        }
    }

    #[test]
    fn other_formats_ask_for_nothing_on_the_way_back() {
        let mut buf = [0; 16];
        let local = crate::encode::v2_local(&mut buf).unwrap().finish();
        let (header, _) = crate::decode(local).unwrap().complete().unwrap();
        assert_eq!(spp_reply(&header), None);
    }

    /// docs/conformance.md, reading 18.
    #[test]
    fn reading_18_a_half_mapped_pair_stays_ipv6() {
        let wire = spp(address("192.0.2.1:1"), address("[2001:db8::2]:2")).unwrap();
        let header = decode(&wire).unwrap();
        assert_eq!(header.source(), Some(address("[::ffff:192.0.2.1]:1")));
        assert_eq!(header.destination(), Some(address("[2001:db8::2]:2")));
    }

    #[test]
    fn a_scope_has_no_place_in_the_format() {
        let scoped = SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 0, 7));
        assert_eq!(spp(scoped, address("[::1]:2")), Err(EncodeError::Scope));
        assert_eq!(spp(address("[::1]:2"), scoped), Err(EncodeError::Scope));
    }
}
