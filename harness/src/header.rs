//! PROXY headers as a balancer writes them, right or wrong.
//!
//! Written from the protocol's text alone (proxy-protocol.txt), not with the gateway's codec: one mistake must not
//! hide on both sides of a test.

use std::net::{IpAddr, SocketAddr};

/// The two versions of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text (§2.1).
    V1,
    /// Binary (§2.2).
    V2,
}

impl Version {
    /// Both, in order.
    pub const BOTH: [Self; 2] = [Self::V1, Self::V2];

    /// A header that announces a TCP connection from `source` to `destination`.
    ///
    /// # Panics
    ///
    /// If the two are of different families: no header can say that.
    #[track_caller]
    pub fn header(self, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
        match self {
            Self::V1 => v1(source, destination),
            Self::V2 => V2::proxy(source, destination).to_bytes(),
        }
    }

    /// A header for a connection of the balancer's own: UNKNOWN in version 1, LOCAL in version 2.
    pub fn local(self) -> Vec<u8> {
        match self {
            Self::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
            Self::V2 => V2::local().to_bytes(),
        }
    }
}

/// A version 1 line (§2.1).
///
/// # Panics
///
/// If the two addresses are of different families.
#[track_caller]
pub fn v1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let token = match (source.ip(), destination.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
        (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
        mixed => panic!("no header announces {mixed:?}"),
    };
    let line = format!(
        "PROXY {token} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    );
    line.into_bytes()
}

/// A version 2 header (§2.2), field by field, so that a test can make one of them wrong.
#[derive(Clone, Debug)]
pub struct V2 {
    /// High nibble of byte 12; 2 is right.
    pub version: u8,
    /// Low nibble of byte 12: 0 LOCAL, 1 PROXY.
    pub command: u8,
    /// High nibble of byte 13: 0 unspecified, 1 IPv4, 2 IPv6, 3 UNIX.
    pub family: u8,
    /// Low nibble of byte 13: 0 unspecified, 1 stream, 2 datagram.
    pub transport: u8,
    /// What stands in the length field; by default the truth.
    pub length: Option<u16>,
    /// The address block.
    pub addresses: Vec<u8>,
    /// What follows the address block.
    pub tlvs: Vec<u8>,
}

impl V2 {
    /// A PROXY header for a TCP connection.
    ///
    /// # Panics
    ///
    /// If the two addresses are of different families.
    #[track_caller]
    pub fn proxy(source: SocketAddr, destination: SocketAddr) -> Self {
        let mut addresses = Vec::new();
        let family = match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                addresses.extend(source.octets());
                addresses.extend(destination.octets());
                1
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                addresses.extend(source.octets());
                addresses.extend(destination.octets());
                2
            }
            mixed => panic!("no header announces {mixed:?}"),
        };
        addresses.extend(source.port().to_be_bytes());
        addresses.extend(destination.port().to_be_bytes());
        Self { version: 2, command: 1, family, transport: 1, length: None, addresses, tlvs: Vec::new() }
    }

    /// The same for a UDP datagram.
    ///
    /// # Panics
    ///
    /// If the two addresses are of different families.
    #[track_caller]
    pub fn datagram(source: SocketAddr, destination: SocketAddr) -> Self {
        Self { transport: 2, ..Self::proxy(source, destination) }
    }

    /// A LOCAL header without addresses, as HAProxy's health checks have.
    pub fn local() -> Self {
        Self {
            version: 2,
            command: 0,
            family: 0,
            transport: 0,
            length: None,
            addresses: Vec::new(),
            tlvs: Vec::new(),
        }
    }

    /// Adds a TLV (§2.2.7).
    ///
    /// # Panics
    ///
    /// If the value is longer than its length field can say.
    #[track_caller]
    #[must_use]
    pub fn tlv(mut self, kind: u8, value: &[u8]) -> Self {
        let length = u16::try_from(value.len()).expect("a TLV's length has 16 bits");
        self.tlvs.push(kind);
        self.tlvs.extend(length.to_be_bytes());
        self.tlvs.extend(value);
        self
    }

    /// Adds the checksum of all that is there so far (§2.2.3).
    #[must_use]
    pub fn checksum(self) -> Self {
        let zero = self.clone().tlv(CRC32C, &[0; 4]).to_bytes();
        self.tlv(CRC32C, &crc32c(&zero).to_be_bytes())
    }

    /// The header on the wire.
    ///
    /// # Panics
    ///
    /// If what follows the fixed part is longer than the length field can say and [`length`](Self::length) is unset.
    #[track_caller]
    pub fn to_bytes(&self) -> Vec<u8> {
        let rest = [self.addresses.as_slice(), &self.tlvs].concat();
        let length =
            self.length.unwrap_or_else(|| u16::try_from(rest.len()).expect("the length field has 16 bits"));
        let mut bytes = SIGNATURE.to_vec();
        bytes.push(self.version << 4 | self.command);
        bytes.push(self.family << 4 | self.transport);
        bytes.extend(length.to_be_bytes());
        bytes.extend(rest);
        bytes
    }
}

/// A header of Cloudflare's Simple Proxy Protocol, for a datagram from `client` to `proxy`.
pub fn spp(client: SocketAddr, proxy: SocketAddr) -> Vec<u8> {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let mut bytes = vec![0x56, 0xEC];
    bytes.extend(octets(client.ip()));
    bytes.extend(octets(proxy.ip()));
    bytes.extend(client.port().to_be_bytes());
    bytes.extend(proxy.port().to_be_bytes());
    bytes
}

/// The Castagnoli checksum, bit by bit (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 })
    })
}

/// Type of the TLV that has the checksum.
const CRC32C: u8 = 3;

/// §2.2: the 12 bytes that no other protocol begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::addr;

    /// Bytes from text; what follows a `#` explains them.
    fn hex(annotated: &str) -> Vec<u8> {
        let digits: String = annotated
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default())
            .flat_map(str::chars)
            .filter(|char| !char.is_whitespace())
            .collect();
        let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
        pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal digits")).collect()
    }

    #[test]
    fn version_1_is_the_line_of_the_text() {
        // §2.1, the example of TCP over IPv4.
        let line = v1(addr("192.168.0.1:56324"), addr("192.168.0.11:443"));
        assert_eq!(line, b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
        let line = v1(addr("[2001:db8::7]:4711"), addr("[fd00::1]:22"));
        assert_eq!(line, b"PROXY TCP6 2001:db8::7 fd00::1 4711 22\r\n");
        assert_eq!(Version::V1.local(), b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_over_ipv4_has_a_block_of_12_bytes() {
        let bytes = V2::proxy(addr("192.0.2.1:56492"), addr("198.51.100.1:443")).to_bytes();
        let annotated = "
            0d0a0d0a 000d0a51 5549540a  # signature
            21                          # version 2, PROXY
            11                          # AF_INET, STREAM
            000c                        # 12 bytes follow
            c0000201 c6336401           # 192.0.2.1 -> 198.51.100.1
            dcac 01bb                   # 56492 -> 443";
        assert_eq!(bytes, hex(annotated));
    }

    #[test]
    fn version_2_over_ipv6_has_a_block_of_36_bytes_and_then_its_tlvs() {
        let header = V2::proxy(addr("[2001:db8::7]:4711"), addr("[fd00::1]:22")).tlv(0x02, b"example.com");
        let annotated = "
            0d0a0d0a 000d0a51 5549540a         # signature
            21                                 # version 2, PROXY
            21                                 # AF_INET6, STREAM
            0032                               # 36 + 14 bytes follow
            20010db8 00000000 00000000 00000007  # 2001:db8::7
            fd000000 00000000 00000000 00000001  # fd00::1
            1267 0016                          # 4711 -> 22
            02 000b                            # PP2_TYPE_AUTHORITY, 11 bytes
            6578616d706c652e636f6d             # example.com";
        assert_eq!(header.to_bytes(), hex(annotated));
    }

    #[test]
    fn version_2_local_is_the_fixed_part_alone() {
        assert_eq!(Version::V2.local(), hex("0d0a0d0a 000d0a51 5549540a 20 00 0000"));
    }

    #[test]
    fn a_datagram_differs_in_its_transport() {
        let bytes = V2::datagram(addr("192.0.2.1:1"), addr("198.51.100.1:2")).to_bytes();
        assert_eq!(bytes[12..14], [0x21, 0x12]);
    }

    #[test]
    fn the_simple_protocol_is_38_bytes_with_ipv4_mapped() {
        let annotated = "
            56ec                                    # magic
            00000000 00000000 0000ffff c0000201     # 192.0.2.1
            20010db8 00000000 00000000 00000053     # 2001:db8::53
            1267 0035                               # 4711 -> 53";
        assert_eq!(spp(addr("192.0.2.1:4711"), addr("[2001:db8::53]:53")), hex(annotated));
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        // The check value of the catalogue of CRC algorithms for CRC-32/ISCSI.
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        let header = V2::local().checksum();
        assert_eq!(header.tlvs[..3], [3, 0, 4]);
    }

    #[test]
    fn a_length_that_lies_is_written_as_asked() {
        let header = V2 { length: Some(0x0102), ..V2::local() };
        assert_eq!(header.to_bytes()[14..], [1, 2]);
    }

    #[test]
    #[should_panic(expected = "no header announces")]
    fn mixed_families_are_the_tests_own_mistake() {
        v1(addr("192.0.2.7:1"), addr("[::1]:2"));
    }
}
