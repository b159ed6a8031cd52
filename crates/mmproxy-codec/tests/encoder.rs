//! What the encoder refuses: nothing is truncated, and nothing is written that a receiver would have to refuse.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use mmproxy_codec::encode::{self, EncodeError};
use mmproxy_codec::{
    Addresses, Family, MAX_UNIQUE_ID_LEN, MAX_V2_LEN, Outcome, SslClient, TlvType, Transport, UNIX_ADDR_LEN,
    UnixAddr, UnixName, decode,
};

#[test]
fn an_ipv6_address_with_scope_or_flow_has_no_place_in_any_format() {
    let plain = address("[2001:db8::1]:1");
    let scoped = SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 0, 7));
    let flowing = SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 7, 0));
    for odd in [scoped, flowing] {
        for (source, destination) in [(odd, plain), (plain, odd), (odd, address("192.0.2.1:1"))] {
            assert_eq!(encode::v1(source, destination).unwrap_err(), EncodeError::Scope);
            assert_eq!(encode::spp(source, destination).unwrap_err(), EncodeError::Scope);
            let mut buf = [0; 64];
            let refused = encode::v2(&mut buf, Transport::Stream, Addresses::between(source, destination));
            assert_eq!(refused.unwrap_err(), EncodeError::Scope);
        }
    }
}

#[test]
fn addresses_and_transport_are_both_unspecified_or_neither() {
    let mut buf = [0; 64];
    for transport in [Transport::Stream, Transport::Datagram] {
        let refused = encode::v2(&mut buf, transport, Addresses::Unspecified).unwrap_err();
        assert_eq!(refused, EncodeError::Combination { family: Family::Unspec, transport });
    }
    let refused = encode::v2(&mut buf, Transport::Unspec, inet()).unwrap_err();
    assert_eq!(refused, EncodeError::Combination { family: Family::Inet, transport: Transport::Unspec });
    let unspec = encode::v2(&mut buf, Transport::Unspec, Addresses::Unspecified).unwrap().finish();
    assert_eq!(unspec, b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0");
}

#[test]
fn a_header_never_leaves_its_buffer() {
    let len = 16 + 12 + 3 + 5 + 3 + 4;
    for room in 0..len {
        let mut buf = vec![0xEE; len + 1];
        let got = encode::v2(&mut buf[..room], Transport::Stream, inet())
            .and_then(|encoder| encoder.tlv(TlvType::AUTHORITY, b"a.bcd"))
            .and_then(encode::V2Encoder::finish_with_crc)
            .unwrap_err();
        let EncodeError::Buffer { need, got } = got else { panic!("{got:?} with room for {room}") };
        assert!(got == room && room < need && need <= len, "{got} {need} with room for {room}");
        assert!(buf[room..].iter().all(|byte| *byte == 0xEE));
    }
    let mut buf = vec![0; len];
    let encoder = encode::v2(&mut buf, Transport::Stream, inet()).unwrap();
    let wire = encoder.tlv(TlvType::AUTHORITY, b"a.bcd").unwrap().finish_with_crc().unwrap();
    assert_eq!(wire.len(), len);
    assert!(matches!(decode(wire), Ok(Outcome::Complete { .. })));
}

#[test]
fn a_local_header_needs_16_bytes() {
    assert_eq!(encode::v2_local(&mut [0; 15]).unwrap_err(), EncodeError::Buffer { need: 16, got: 15 });
    assert_eq!(encode::v2_local(&mut [0; 16]).unwrap().finish(), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
}

#[test]
fn what_receivers_refuse_is_not_written() {
    let mut buf = [0; 512];
    let encoder = encode::v2(&mut buf, Transport::Stream, inet()).unwrap();
    let longest = [0; MAX_UNIQUE_ID_LEN];
    let encoder = encoder.tlv(TlvType::UNIQUE_ID, &longest).unwrap();
    let refused = encoder.tlv(TlvType::UNIQUE_ID, &[0; MAX_UNIQUE_ID_LEN + 1]).unwrap_err();
    assert_eq!(refused, EncodeError::UniqueIdLen(MAX_UNIQUE_ID_LEN + 1));
    let encoder = encode::v2(&mut buf, Transport::Stream, inet()).unwrap();
    assert_eq!(encoder.tlv(TlvType::CRC32C, &[0; 4]).unwrap_err(), EncodeError::Crc32c);
}

#[test]
fn a_header_that_the_length_field_cannot_express_is_refused() {
    let mut buf = vec![0; MAX_V2_LEN + 64];
    let value = vec![0; usize::from(u16::MAX)];
    let encoder = encode::v2_local(&mut buf).unwrap();
    assert!(
        matches!(encoder.tlv(TlvType::NOOP, &value), Err(EncodeError::TooLong(size)) if size == 16 + 3 + 65_535)
    );
    let encoder = encode::v2_local(&mut buf).unwrap();
    let sixty_four_kib = vec![0; usize::from(u16::MAX) + 1];
    assert!(
        matches!(encoder.tlv(TlvType::NOOP, &sixty_four_kib), Err(EncodeError::TooLong(size)) if size == 16 + 3 + 65_536)
    );
    let encoder = encode::v2_local(&mut buf).unwrap();
    let inside = [(TlvType::SSL_CLIENT_CERT, value.as_slice())];
    assert!(matches!(encoder.ssl(SslClient::SSL, 0, &inside), Err(EncodeError::TooLong(_))));
    // The checksum's seven bytes are the ones too many.
    let encoder = encode::v2_local(&mut buf).unwrap().tlv(TlvType::NOOP, &value[..65_535 - 3]).unwrap();
    assert!(matches!(encoder.finish_with_crc(), Err(EncodeError::TooLong(size)) if size > MAX_V2_LEN));
}

#[test]
fn unix_names_that_would_be_read_differently_are_refused() {
    let longest = [b'x'; UNIX_ADDR_LEN];
    for (name, read) in [
        (b"".as_slice(), UnixName::Unnamed),
        (b"/run/x.sock", UnixName::Path(b"/run/x.sock")),
        (b"\0abstract", UnixName::Abstract(b"abstract")),
        (b"\0a\0b", UnixName::Abstract(b"a\0b")),
        (&longest, UnixName::Path(&longest)),
    ] {
        assert_eq!(UnixAddr::new(&encode::unix_addr(name).unwrap()).name(), read);
    }
    let too_long = [b'x'; UNIX_ADDR_LEN + 1];
    assert_eq!(encode::unix_addr(&too_long), Err(EncodeError::UnixNameLen(UNIX_ADDR_LEN + 1)));
    for name in [b"/run\0/x".as_slice(), b"/run/x\0", b"\0", b"\0abstract\0"] {
        assert_eq!(encode::unix_addr(name), Err(EncodeError::UnixNameNul), "{}", name.escape_ascii());
    }
}

#[test]
fn v1_lines_of_mixed_families_are_mapped_as_haproxy_maps_them() {
    let line = encode::v1(address("[2001:db8::7]:51000"), address("127.0.0.1:29034")).unwrap();
    assert_eq!(line.as_str(), "PROXY TCP6 2001:db8::7 ::ffff:127.0.0.1 51000 29034\r\n");
    assert_eq!(encode::v1_unknown().as_str(), "PROXY UNKNOWN\r\n");
}

#[test]
fn refusals_say_what_was_refused() {
    let said: Vec<String> = [
        EncodeError::Buffer { need: 28, got: 16 },
        EncodeError::TooLong(70_000),
        EncodeError::UniqueIdLen(129),
        EncodeError::UnixNameLen(109),
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    for (said, numbers) in
        said.iter().zip([&["28", "16"][..], &["70000", "65551"], &["129", "128"], &["109", "108"]])
    {
        assert!(numbers.iter().all(|number| said.contains(number)), "{said}");
    }
}

fn inet() -> Addresses<'static> {
    Addresses::between(address("192.0.2.1:1"), address("192.0.2.2:2"))
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}
