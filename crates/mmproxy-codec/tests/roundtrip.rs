//! Encoder and decoder undo each other.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use mmproxy_codec::encode::{self, EncodeError};
use mmproxy_codec::{
    Addresses, Command, DecodeOptions, Family, Header, MAX_V1_LEN, MAX_V2_LEN, Outcome, SPP_LEN, TlvType,
    Transport, UNIX_ADDR_LEN, UnixAddr, Version,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use support::Vector;

proptest! {
    #![proptest_config(support::properties())]

    #[test]
    fn v1_lines_come_back_as_they_went(source in address(), destination in address()) {
        let line = encode::v1(source, destination).unwrap();
        let (header, consumed) = whole(&line)?;
        prop_assert_eq!(consumed, line.len());
        prop_assert!(consumed <= MAX_V1_LEN);
        prop_assert_eq!((header.version(), header.command()), (Version::V1, Command::Proxy));
        prop_assert_eq!(header.transport(), Transport::Stream);
        prop_assert_eq!(header.addresses(), Addresses::between(source, destination));
        prop_assert_eq!(header.family(), header.addresses().family());
        prop_assert_eq!(header.tlvs().count(), 0);
    }

    #[test]
    fn v1_lines_in_canonical_form_are_written_as_they_were_read(pair in one_family()) {
        let (source, destination) = pair;
        let protocol = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let line = format!(
            "PROXY {protocol} {} {} {} {}\r\n",
            source.ip(), destination.ip(), source.port(), destination.port(),
        );
        let (header, _) = whole(line.as_bytes())?;
        let again = encode::v1(header.source().unwrap(), header.destination().unwrap()).unwrap();
        prop_assert_eq!(again.as_str(), line);
    }

    #[test]
    fn v2_headers_come_back_as_they_went(said in said(), tlvs in tlvs(), crc: bool) {
        let mut buf = vec![0; MAX_V2_LEN];
        let wire = said.encode(&mut buf, &tlvs, crc).unwrap().to_vec();
        let (header, consumed) = whole(&wire)?;
        prop_assert_eq!(consumed, wire.len());
        prop_assert_eq!((header.version(), header.command()), (Version::V2, Command::Proxy));
        prop_assert_eq!(header.transport(), said.transport);
        prop_assert_eq!(header.addresses(), said.pair.addresses());
        prop_assert_eq!(header.family(), said.pair.addresses().family());
        let mut read: Vec<(TlvType, Vec<u8>)> =
            header.tlvs().map(|tlv| (tlv.kind(), tlv.value().to_vec())).collect();
        if crc {
            let (kind, value) = read.pop().unwrap();
            prop_assert_eq!((kind, value.len()), (TlvType::CRC32C, 4));
        }
        prop_assert_eq!(read, tlvs);
    }

    #[test]
    fn v2_headers_are_written_as_they_were_read(said in said(), tlvs in tlvs()) {
        let wire = said.by_hand(&tlvs);
        let (header, _) = whole(&wire)?;
        let mut buf = vec![0; MAX_V2_LEN];
        prop_assert_eq!(rewrite(&header, &mut buf).unwrap(), wire.as_slice());
    }

    #[test]
    fn spp_headers_come_back_as_they_went(
        client in address(),
        proxy in address(),
        payload in vec(any::<u8>(), 0..64),
    ) {
        let wire = encode::spp(client, proxy).unwrap();
        let datagram = [wire.as_slice(), &payload].concat();
        let (header, consumed) = mmproxy_codec::decode_datagram(&datagram).unwrap();
        prop_assert_eq!(consumed, SPP_LEN);
        prop_assert_eq!(header.version(), Version::Spp);
        prop_assert_eq!(header.transport(), Transport::Datagram);
        // IPv4 travels as IPv4-mapped, so a mapped pair and an IPv4 pair are the same header.
        let expected = match (unmapped(client), unmapped(proxy)) {
            (client @ SocketAddr::V4(_), proxy @ SocketAddr::V4(_)) => Addresses::between(client, proxy),
            (_, _) => Addresses::between(mapped(client), mapped(proxy)),
        };
        prop_assert_eq!(header.addresses(), expected);
        prop_assert_eq!(encode::spp_reply(&header), Some(wire));
    }

    #[test]
    fn spp_headers_are_written_as_they_were_read(bytes in vec(any::<u8>(), SPP_LEN - 2)) {
        let wire = [&[0x56, 0xEC], bytes.as_slice()].concat();
        let (header, _) = mmproxy_codec::decode_datagram(&wire).unwrap();
        prop_assert_eq!(encode::spp_reply(&header).unwrap().to_vec(), wire.clone());
        let again = encode::spp(header.source().unwrap(), header.destination().unwrap()).unwrap();
        prop_assert_eq!(again.to_vec(), wire);
    }
}

#[test]
fn every_vector_that_the_encoder_can_write_is_written_byte_for_byte() {
    let mut written = 0;
    for vector in support::all() {
        let (Some(wire), Ok(Outcome::Complete { header, .. })) = (vector.header(), vector.decode()) else {
            continue;
        };
        if canonical(&vector, &header) {
            let mut buf = vec![0; MAX_V2_LEN];
            assert_eq!(rewrite(&header, &mut buf).unwrap(), wire, "{}", vector.name);
            written += 1;
        }
    }
    // 120 vectors are ok; the rest of them holds text, blocks or checksums that the encoder would not choose.
    assert_eq!(written, 96);
}

#[test]
fn the_longest_header_of_all_survives() {
    let mut buf = vec![0; MAX_V2_LEN];
    let value = vec![0xA5; MAX_V2_LEN - 16 - 12 - 3];
    let pair =
        Addresses::between(SocketAddr::from(([192, 0, 2, 1], 1)), SocketAddr::from(([192, 0, 2, 2], 2)));
    let encoder = encode::v2(&mut buf, Transport::Stream, pair).unwrap().tlv(TlvType::NOOP, &value).unwrap();
    let wire = encoder.finish();
    assert_eq!(wire.len(), MAX_V2_LEN);
    let options = DecodeOptions::new().max_v2_len(MAX_V2_LEN).unwrap();
    let (header, consumed) = mmproxy_codec::decode_with(wire, &options).unwrap().complete().unwrap();
    assert_eq!(consumed, MAX_V2_LEN);
    assert_eq!(header.tlvs().next().unwrap().value(), value);
}

#[test]
fn one_byte_more_than_the_longest_header_is_refused_by_the_encoder() {
    let mut buf = vec![0; MAX_V2_LEN + 1];
    let value = vec![0; MAX_V2_LEN - 16 - 12 - 3 + 1];
    let pair =
        Addresses::between(SocketAddr::from(([192, 0, 2, 1], 1)), SocketAddr::from(([192, 0, 2, 2], 2)));
    let encoder = encode::v2(&mut buf, Transport::Stream, pair).unwrap();
    assert_eq!(encoder.tlv(TlvType::NOOP, &value).unwrap_err(), EncodeError::TooLong(MAX_V2_LEN + 1));
}

/// What a v2 PROXY header says about the connection.
#[derive(Clone, Debug)]
struct Said {
    transport: Transport,
    pair: Pair,
}

#[derive(Clone, Debug)]
enum Pair {
    Internet(SocketAddr, SocketAddr),
    Unix(Box<([u8; UNIX_ADDR_LEN], [u8; UNIX_ADDR_LEN])>),
}

impl Pair {
    fn addresses(&self) -> Addresses<'_> {
        match self {
            Self::Internet(source, destination) => Addresses::between(*source, *destination),
            Self::Unix(names) => {
                Addresses::Unix { source: UnixAddr::new(&names.0), destination: UnixAddr::new(&names.1) }
            }
        }
    }
}

impl Said {
    fn encode<'b>(
        &self,
        buf: &'b mut [u8],
        tlvs: &[(TlvType, Vec<u8>)],
        crc: bool,
    ) -> Result<&'b [u8], EncodeError> {
        let mut encoder = encode::v2(buf, self.transport, self.pair.addresses())?;
        for (kind, value) in tlvs {
            encoder = encoder.tlv(*kind, value)?;
        }
        if crc { encoder.finish_with_crc() } else { Ok(encoder.finish()) }
    }

    /// The same header, written without the encoder.
    fn by_hand(&self, tlvs: &[(TlvType, Vec<u8>)]) -> Vec<u8> {
        let (family, block) = match &self.pair {
            Pair::Internet(SocketAddr::V4(source), SocketAddr::V4(destination)) => {
                let ips = [source.ip().octets(), destination.ip().octets()].concat();
                (0x10, [ips, ports(source.port(), destination.port())].concat())
            }
            Pair::Internet(source, destination) => {
                let (SocketAddr::V6(source), SocketAddr::V6(destination)) =
                    (mapped(*source), mapped(*destination))
                else {
                    unreachable!("mapped addresses are IPv6");
                };
                let ips = [source.ip().octets(), destination.ip().octets()].concat();
                (0x20, [ips, ports(source.port(), destination.port())].concat())
            }
            Pair::Unix(names) => (0x30, [names.0, names.1].concat()),
        };
        let transport = match self.transport {
            Transport::Stream => 1,
            Transport::Datagram => 2,
            Transport::Unspec => 0,
        };
        let region = region(tlvs);
        let length = u16::try_from(block.len() + region.len()).expect("short TLVs").to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x21, family | transport], &length, &block, &region].concat()
    }
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

/// TLVs on the wire, written without the encoder.
fn region(tlvs: &[(TlvType, Vec<u8>)]) -> Vec<u8> {
    let wire = |(kind, value): &(TlvType, Vec<u8>)| {
        let len = u16::try_from(value.len()).expect("short TLVs").to_be_bytes();
        [&[kind.0], len.as_slice(), value].concat()
    };
    tlvs.iter().flat_map(wire).collect()
}

/// The header again, from what was read of it, in the format it was in.
fn rewrite<'b>(header: &Header<'_>, buf: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
    let mut put = |wire: &[u8]| {
        buf[..wire.len()].copy_from_slice(wire);
        wire.len()
    };
    let len = match (header.version(), header.command()) {
        (Version::V1, _) => match (header.source(), header.destination()) {
            (Some(source), Some(destination)) => put(&encode::v1(source, destination)?),
            (_, _) => put(&encode::v1_unknown()),
        },
        (Version::Spp, _) => put(&encode::spp_reply(header).expect("an SPP header has addresses")),
        (Version::V2, Command::Local) => encode::v2_local(buf)?.finish().len(),
        (Version::V2, Command::Proxy) => {
            let mut encoder = encode::v2(buf, header.transport(), header.addresses())?;
            let mut crc = false;
            for tlv in header.tlvs() {
                crc = tlv.kind() == TlvType::CRC32C;
                if !crc {
                    encoder = encoder.tlv(tlv.kind(), tlv.value())?;
                }
            }
            if crc { encoder.finish_with_crc()?.len() } else { encoder.finish().len() }
        }
    };
    Ok(&buf[..len])
}

/// Whether the vector is what the encoder would have written.
fn canonical(vector: &Vector, header: &Header<'_>) -> bool {
    let wire = vector.header().expect("only vectors that are ok are asked about");
    let kinds: Vec<TlvType> = header.tlvs().map(|tlv| tlv.kind()).collect();
    let crc_last =
        kinds.iter().position(|kind| *kind == TlvType::CRC32C).is_none_or(|at| at + 1 == kinds.len());
    match (header.version(), header.command(), header.family()) {
        (Version::Spp, ..) => true,
        // Of the texts for one address only the one that RFC 5952 recommends is written.
        (Version::V1, _, Family::Unspec) => wire.len() == 15,
        (Version::V1, ..) => {
            header.source().zip(header.destination()).is_some_and(|(source, destination)| {
                let digit = if source.is_ipv4() { 4 } else { 6 };
                wire.starts_with(format!("PROXY TCP{digit} {} {} ", source.ip(), destination.ip()).as_bytes())
            })
        }
        (Version::V2, Command::Local, _) => wire[13..] == [0, 0, 0],
        (Version::V2, Command::Proxy, Family::Unspec) => wire[13..] == [0, 0, 0],
        (Version::V2, Command::Proxy, _) => header.transport() != Transport::Unspec && crc_last,
    }
}

/// The header in `wire`, which must be complete.
fn whole(wire: &[u8]) -> Result<(Header<'_>, usize), TestCaseError> {
    let options = DecodeOptions::new().max_v2_len(MAX_V2_LEN).expect("the largest limit there is");
    match mmproxy_codec::decode_with(wire, &options) {
        Ok(Outcome::Complete { header, consumed }) => Ok((header, consumed)),
        other => Err(TestCaseError::fail(format!("{other:?}"))),
    }
}

fn said() -> impl Strategy<Value = Said> {
    let pair = prop_oneof![
        3 => (address(), address()).prop_map(|(source, destination)| Pair::Internet(source, destination)),
        1 => (unix(), unix()).prop_map(|names| Pair::Unix(Box::new(names))),
    ];
    (select(&[Transport::Stream, Transport::Datagram][..]), pair)
        .prop_map(|(transport, pair)| Said { transport, pair })
}

fn unix() -> impl Strategy<Value = [u8; UNIX_ADDR_LEN]> {
    vec(any::<u8>(), UNIX_ADDR_LEN).prop_map(|raw| raw.try_into().expect("that many bytes"))
}

/// Any but checksums, which are the encoder's own, and unique ids that are too long.
fn tlvs() -> impl Strategy<Value = Vec<(TlvType, Vec<u8>)>> {
    let tlv = (any::<u8>(), prop_oneof![9 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 0..3000)]);
    vec(tlv.prop_map(|(kind, value)| (TlvType(kind), value)), 0..12).prop_map(|mut tlvs| {
        tlvs.retain(|(kind, _)| *kind != TlvType::CRC32C);
        for (kind, value) in &mut tlvs {
            if *kind == TlvType::UNIQUE_ID {
                value.truncate(128);
            }
        }
        tlvs
    })
}

fn one_family() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    prop_oneof![
        (any::<SocketAddrV4>(), any::<SocketAddrV4>()).prop_map(|(a, b)| (a.into(), b.into())),
        (v6(), v6()).prop_map(|(a, b)| (a, b)),
    ]
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![any::<SocketAddrV4>().prop_map(SocketAddr::V4), v6()]
}

/// Sparse addresses are likely: that is where text forms differ. No scope: no format carries one.
fn v6() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<Ipv6Addr>(),
        any::<[u8; 8]>().prop_map(|bits| Ipv6Addr::from(bits.map(|byte| u16::from(byte & 1)))),
        any::<Ipv4Addr>().prop_map(|ip| ip.to_ipv6_mapped()),
    ];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddrV6::new(ip, port, 0, 0).into())
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
