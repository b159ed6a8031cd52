//! The headers that are measured, and each crate's way to read one.
//!
//! Every reader gets the bytes of one whole header and returns the client and what it connected to, so that none
//! can leave out the addresses. What else a crate checks is its own affair: none but this one verifies checksums, or
//! looks at TLVs before it is asked for them. Where that matters, a reader with `+ checks` in its name does the same
//! by hand, so that there is something to compare with.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};

use mmproxy_codec::{Addresses, SslClient, TlvType, Transport, encode};

/// A crate's way to read one header: the sum of all it says about client and what that connected to, 0 if nothing.
///
/// A sum, because it stays in a register: a pair of addresses is copied through memory on its way out, which would
/// take longer than some of the readers.
pub type Reader = fn(&[u8]) -> u64;

/// Client and what it connected to.
type Pair = Option<(SocketAddr, SocketAddr)>;

#[inline(always)]
fn sum(pair: Pair) -> u64 {
    let one = |address: SocketAddr| {
        let ip = match address.ip() {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => {
                let bits = ip.to_bits();
                (bits >> 64) as u64 ^ bits as u64
            }
        };
        ip ^ u64::from(address.port()) << 48
    };
    pair.map_or(0, |(source, destination)| one(source).wrapping_add(one(destination)))
}

/// One line of the table.
pub struct Row {
    /// What is measured.
    pub name: &'static str,
    /// One whole header without payload.
    pub wire: Vec<u8>,
    /// Crates that can read it, by name, this one first.
    pub readers: Vec<(&'static str, Reader)>,
}

/// The table, top to bottom.
pub fn rows() -> Vec<Row> {
    let v4 = ("192.0.2.10:40000".parse().unwrap(), "198.51.100.20:443".parse().unwrap());
    let v6 = ("[2001:db8::1:2:3]:40000".parse().unwrap(), "[2001:db8:5:6::9]:443".parse().unwrap());
    let v1 = || {
        vec![
            OURS,
            ("ppp", |wire| sum(ppp_v1(wire))),
            PROXY_HEADER,
            PROXY_PROTOCOL,
            ("proxy-protocol-codec", |wire| sum(codec_v1(wire))),
        ]
    };
    let v2 = || {
        vec![
            OURS,
            ("ppp", |wire| sum(ppp_v2(wire))),
            PROXY_HEADER,
            PROXY_PROTOCOL,
            ("proxy-protocol-codec", |wire| sum(codec_v2(wire))),
        ]
    };
    let mut bad_family = plain_v2(v4);
    bad_family[13] = 0x41;
    vec![
        Row { name: "v1_tcp4", wire: encode::v1(v4.0, v4.1).unwrap().to_vec(), readers: v1() },
        Row { name: "v1_tcp6", wire: encode::v1(v6.0, v6.1).unwrap().to_vec(), readers: v1() },
        Row { name: "v2_inet", wire: plain_v2(v4), readers: v2() },
        Row { name: "v2_inet6_ssl_crc", wire: full_v2(v6), readers: [v2(), checked()].concat() },
        Row {
            name: "spp",
            wire: encode::spp(v4.0, v4.1).unwrap().to_vec(),
            readers: vec![("mmproxy-codec", |wire| sum(ours_datagram(wire)))],
        },
        Row {
            name: "v1_rejected",
            wire: b"PROXY TCP4 192.0.2.10 198.51.100.20 40000 65536\r\n".to_vec(),
            readers: v1(),
        },
        Row { name: "v2_rejected", wire: bad_family, readers: v2() },
    ]
}

fn checked() -> Vec<(&'static str, Reader)> {
    vec![
        ("ppp + checks", |wire| sum(ppp_v2_checked(wire))),
        ("proxy-header + checks", |wire| sum(proxy_header_checked(wire))),
    ]
}

fn plain_v2((source, destination): (SocketAddr, SocketAddr)) -> Vec<u8> {
    let mut buf = [0; 64];
    encode::v2(&mut buf, Transport::Stream, Addresses::between(source, destination))
        .unwrap()
        .finish()
        .to_vec()
}

/// What HAProxy sends with `send-proxy-v2-ssl-cn` and `proxy-v2-options crc32c,ssl,authority,unique-id`.
fn full_v2((source, destination): (SocketAddr, SocketAddr)) -> Vec<u8> {
    let mut buf = [0; 512];
    encode::v2(&mut buf, Transport::Stream, Addresses::between(source, destination))
        .and_then(|header| header.tlv(TlvType::AUTHORITY, b"www.example.test"))
        .and_then(|header| header.tlv(TlvType::UNIQUE_ID, b"0123456789abcdef"))
        .and_then(|header| {
            let vectors: [(TlvType, &[u8]); 3] = [
                (TlvType::SSL_VERSION, b"TLSv1.3"),
                (TlvType::SSL_CN, b"client.example.test"),
                (TlvType::SSL_CIPHER, b"TLS_AES_128_GCM_SHA256"),
            ];
            header.ssl(SslClient::SSL.and(SslClient::CERT_CONN), 0, &vectors)
        })
        .and_then(encode::V2Encoder::finish_with_crc)
        .unwrap()
        .to_vec()
}

const OURS: (&str, Reader) = ("mmproxy-codec", |wire| sum(ours(wire)));

/// Checks all there is to check: TLVs, checksum and the length of the unique id included.
#[inline(always)]
fn ours(wire: &[u8]) -> Pair {
    let (header, _) = mmproxy_codec::decode(wire).ok()?.complete()?;
    Some((header.source()?, header.destination()?))
}

#[inline(always)]
fn ours_datagram(wire: &[u8]) -> Pair {
    let (header, _) = mmproxy_codec::decode_datagram(wire).ok()?;
    Some((header.source()?, header.destination()?))
}

#[inline(always)]
fn ppp_v1(wire: &[u8]) -> Pair {
    use ppp::v1::{Addresses, Header};
    match Header::try_from(wire).ok()?.addresses {
        Addresses::Tcp4(a) => {
            Some(pair(a.source_address, a.source_port, a.destination_address, a.destination_port))
        }
        Addresses::Tcp6(a) => {
            Some(pair(a.source_address, a.source_port, a.destination_address, a.destination_port))
        }
        Addresses::Unknown => None,
    }
}

/// Neither looks at TLVs nor at checksums.
#[inline(always)]
fn ppp_v2(wire: &[u8]) -> Pair {
    use ppp::v2::{Addresses, Header};
    match Header::try_from(wire).ok()?.addresses {
        Addresses::IPv4(a) => {
            Some(pair(a.source_address, a.source_port, a.destination_address, a.destination_port))
        }
        Addresses::IPv6(a) => {
            Some(pair(a.source_address, a.source_port, a.destination_address, a.destination_port))
        }
        Addresses::Unspecified | Addresses::Unix(_) => None,
    }
}

#[inline(always)]
fn ppp_v2_checked(wire: &[u8]) -> Pair {
    let header = ppp::v2::Header::try_from(wire).ok()?;
    let mut at = 16 + 36;
    let mut sound = true;
    for tlv in header.tlvs() {
        let tlv = tlv.ok()?;
        sound &= verdict(wire, tlv.kind, &tlv.value, at + 3);
        at += 3 + tlv.value.len();
    }
    if sound { ppp_v2(wire) } else { None }
}

#[inline(always)]
fn proxy_header_checked(wire: &[u8]) -> Pair {
    let (header, _) = proxy_header::ProxyHeader::parse(wire, proxy_header::ParseConfig::default()).ok()?;
    let mut sound = true;
    let mut at = 16 + 36;
    while let Some([kind, high, low]) = wire.get(at..at + 3) {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        sound &= verdict(wire, *kind, wire.get(at + 3..at + 3 + len)?, at + 3);
        at += 3 + len;
    }
    let address = header.proxied_address().filter(|_| sound)?;
    Some((address.source, address.destination))
}

/// What makes a header unsound by a value in it: the rules of sections 2.2.3 and 2.2.5.
#[inline(always)]
fn verdict(wire: &[u8], kind: u8, value: &[u8], at: usize) -> bool {
    match (kind, value) {
        (3, [a, b, c, d]) => {
            let crc = crc32c::crc32c(&wire[..at]);
            let crc = crc32c::crc32c_append(crc, &[0; 4]);
            crc32c::crc32c_append(crc, &wire[at + 4..]) == u32::from_be_bytes([*a, *b, *c, *d])
        }
        (3, _) => false,
        (5, id) => id.len() <= 128,
        _ => true,
    }
}

const PROXY_HEADER: (&str, Reader) = ("proxy-header", |wire| sum(proxy_header(wire)));

/// Neither looks at TLVs nor at checksums.
#[inline(always)]
fn proxy_header(wire: &[u8]) -> Pair {
    let (header, _) = proxy_header::ProxyHeader::parse(wire, proxy_header::ParseConfig::default()).ok()?;
    let address = header.proxied_address()?;
    Some((address.source, address.destination))
}

const PROXY_PROTOCOL: (&str, Reader) = ("proxy-protocol", |wire| sum(proxy_protocol(wire)));

/// Knows no checksums; skips what it does not know.
#[inline(always)]
fn proxy_protocol(mut wire: &[u8]) -> Pair {
    use proxy_protocol::ProxyHeader::{Version1, Version2};
    use proxy_protocol::{version1, version2};
    match proxy_protocol::parse(&mut wire).ok()? {
        Version1 { addresses: version1::ProxyAddresses::Ipv4 { source, destination } }
        | Version2 { addresses: version2::ProxyAddresses::Ipv4 { source, destination }, .. } => {
            Some((source.into(), destination.into()))
        }
        Version1 { addresses: version1::ProxyAddresses::Ipv6 { source, destination } }
        | Version2 { addresses: version2::ProxyAddresses::Ipv6 { source, destination }, .. } => {
            Some((source.into(), destination.into()))
        }
        _ => None,
    }
}

#[inline(always)]
fn codec_v1(wire: &[u8]) -> Pair {
    use proxy_protocol_codec::v1::{AddressPair, Decoded, Header};
    let Decoded::Some(header) = Header::decode(wire).ok()? else { return None };
    match header.address_pair() {
        AddressPair::Inet { src_ip, dst_ip, src_port, dst_port } => {
            Some(pair(src_ip, src_port, dst_ip, dst_port))
        }
        AddressPair::Inet6 { src_ip, dst_ip, src_port, dst_port } => {
            Some(pair(src_ip, src_port, dst_ip, dst_port))
        }
        AddressPair::Unspecified => None,
    }
}

/// With the feature for it, checksums are verified when the extensions are collected, which allocates.
#[inline(always)]
fn codec_v2(wire: &[u8]) -> Pair {
    use proxy_protocol_codec::v2::{AddressPair, Decoded, Header};
    let Decoded::Some(decoded) = Header::decode(wire).ok()? else { return None };
    match decoded.header.address_pair() {
        AddressPair::Inet { src_ip, dst_ip, src_port, dst_port } => {
            Some(pair(*src_ip, *src_port, *dst_ip, *dst_port))
        }
        AddressPair::Inet6 { src_ip, dst_ip, src_port, dst_port } => {
            Some(pair(*src_ip, *src_port, *dst_ip, *dst_port))
        }
        _ => None,
    }
}

#[inline(always)]
fn pair(
    source: impl Into<IpAddr>,
    source_port: u16,
    to: impl Into<IpAddr>,
    to_port: u16,
) -> (SocketAddr, SocketAddr) {
    (SocketAddr::new(source.into(), source_port), SocketAddr::new(to.into(), to_port))
}

/// One measured call: the compiler knows neither the input nor what the result is for.
#[inline]
pub fn call(reader: Reader, wire: &[u8]) -> u64 {
    black_box(reader(black_box(wire)))
}
