//! The readings: what this codec does where the specification leaves room, or where implementations disagree.
//!
//! They are numbered as in `docs/conformance.md`, which says why each was taken and who reads it differently.

use mmproxy_codec::{
    Addresses, Command, DEFAULT_MAX_V2_LEN, DecodeOptions, Family, Header, HeaderError, LimitError,
    MAX_V2_LEN, MIN_MAX_V2_LEN, Outcome, TlvError, Transport, decode, decode_datagram, decode_with, encode,
};

#[test]
fn reading_01_unknown_with_text_is_accepted() {
    let header = complete(b"PROXY UNKNOWN anything \xFF at all\r\n");
    assert_eq!(header.addresses(), Addresses::Unspecified);
    assert_eq!((header.family(), header.transport()), (Family::Unspec, Transport::Unspec));
}

#[test]
fn reading_02_a_bare_cr_or_lf_in_unknown_is_an_error() {
    assert_eq!(keyword(b"PROXY UNKNOWN a\nb\r\n"), "v1_bare_lf");
    assert_eq!(keyword(b"PROXY UNKNOWN a\rb\r\n"), "v1_bare_cr");
}

#[test]
fn reading_03_proxy_without_a_space_is_an_error_of_v1() {
    assert_eq!(keyword(b"PROXYTCP4 192.0.2.1 192.0.2.2 1 2\r\n"), "v1_bad_syntax");
    assert_eq!(keyword(b"PROXY\tTCP4 192.0.2.1 192.0.2.2 1 2\r\n"), "v1_bad_syntax");
}

#[test]
fn reading_04_a_dotted_tail_of_an_ipv6_address_is_accepted() {
    let header = complete(b"PROXY TCP6 2001:db8::7 ::ffff:127.0.0.1 51000 29034\r\n");
    assert_eq!(header.destination(), Some("[::ffff:127.0.0.1]:29034".parse().unwrap()));
    assert_eq!(header.family(), Family::Inet6);
    assert_eq!(keyword(b"PROXY TCP6 2001:db8::7 ::ffff:127.0.0.01 1 2\r\n"), "v1_bad_address");
}

#[test]
fn reading_05_port_zero_is_for_the_gateway_to_judge() {
    let header = complete(b"PROXY TCP4 192.0.2.1 192.0.2.2 0 0\r\n");
    assert_eq!(header.source(), Some("192.0.2.1:0".parse().unwrap()));
}

#[test]
fn reading_06_the_content_of_local_is_never_inspected() {
    // Families, lengths and blocks that would be refused in PROXY.
    for rest in [&[0xFF, 0, 0][..], &[0x11, 0, 0], &[0x11, 0, 3, 1, 2, 3], &[0x21, 0, 4, 5, 0xFF, 0xFF, 0]] {
        let header = v2(0x20, rest);
        let header = complete(&header);
        assert_eq!(header.command(), Command::Local);
        assert_eq!((header.family(), header.transport()), (Family::Unspec, Transport::Unspec));
        assert_eq!((header.source(), header.destination()), (None, None));
    }
}

#[test]
fn reading_07_a_wrong_checksum_inside_local_is_ignored_unless_asked_for() {
    let wire = v2(0x20, &[0x00, 0, 7, 3, 0, 4, 0, 0, 0, 0]);
    assert_eq!(complete(&wire).command(), Command::Local);
    let strict = DecodeOptions::new().crc_in_local(true);
    assert_eq!(decode_with(&wire, &strict).unwrap_err().keyword(), "v2_bad_crc32c");
    // The right checksum, and content that is no TLVs at all, pass both.
    let mut buf = [0; 32];
    let right = encode::v2_local(&mut buf).unwrap().finish_with_crc().unwrap();
    for fine in [right, &v2(0x20, &[0x00, 0, 1, 0xFF])] {
        assert_eq!(decode_with(fine, &strict), decode(fine));
        assert_eq!(complete(fine).command(), Command::Local);
    }
}

#[test]
fn reading_08_proxy_with_unspec_means_the_real_endpoints() {
    let wire = v2(0x21, &[0x00, 0, 12, 127, 0, 0, 1, 127, 0, 0, 1, 0, 80, 1, 187]);
    let header = complete(&wire);
    assert_eq!((header.command(), header.addresses()), (Command::Proxy, Addresses::Unspecified));
    assert_eq!((header.source(), header.destination()), (None, None));
}

#[test]
fn reading_09_one_unspec_nibble_is_enough() {
    for (byte, family, transport) in [
        (0x01, Family::Unspec, Transport::Stream),
        (0x02, Family::Unspec, Transport::Datagram),
        (0x10, Family::Inet, Transport::Unspec),
        (0x20, Family::Inet6, Transport::Unspec),
        (0x30, Family::Unix, Transport::Unspec),
    ] {
        // One byte of content: too short for addresses, which are not read.
        let wire = v2(0x21, &[byte, 0, 1, 0xFF]);
        let header = complete(&wire);
        assert_eq!((header.family(), header.transport()), (family, transport));
        assert_eq!(header.addresses(), Addresses::Unspecified);
        assert_eq!(header.tlvs().count(), 0);
    }
}

#[test]
fn reading_10_broken_tlvs_spoil_the_header() {
    assert_eq!(keyword(&with_tlvs(&[4])), "v2_bad_tlv");
    assert_eq!(keyword(&with_tlvs(&[4, 0])), "v2_bad_tlv");
    assert_eq!(keyword(&with_tlvs(&[4, 0, 1])), "v2_bad_tlv");
}

#[test]
fn reading_11_a_unique_id_has_at_most_128_bytes() {
    let tlv = |len: u8| [&[5, 0, len], vec![0x55; len.into()].as_slice()].concat();
    let longest = with_tlvs(&tlv(128));
    assert_eq!(complete(&longest).tlvs().unique_id(), Some(&[0x55; 128][..]));
    assert_eq!(decode(&with_tlvs(&tlv(129))), Err(HeaderError::V2UniqueIdLen(129)));
}

#[test]
fn reading_12_an_authority_may_be_longer_than_255_bytes() {
    let name = "a".repeat(256);
    let wire = with_tlvs(&[&[2, 1, 0], name.as_bytes()].concat());
    assert_eq!(complete(&wire).tlvs().authority(), Some(Ok(name.as_str())));
}

#[test]
fn reading_13_a_broken_ssl_value_leaves_the_header_sound() {
    let wire = with_tlvs(&[0x20, 0, 4, 1, 0, 0, 0]);
    assert_eq!(complete(&wire).tlvs().ssl(), Some(Err(TlvError::Length)));
    let wire = with_tlvs(&[0x20, 0, 8, 1, 0, 0, 0, 0, 0x21, 0, 9]);
    assert_eq!(complete(&wire).tlvs().ssl(), Some(Err(TlvError::Nested)));
}

#[test]
fn reading_14_a_v2_header_over_the_limit_is_refused_at_its_length_field() {
    // The 16 fixed bytes are enough to know, so that nobody has to buffer the rest.
    let announcing = |size: usize| {
        let [high, low] = u16::try_from(size - 16).unwrap().to_be_bytes();
        v2(0x21, &[0x11, high, low])
    };
    let default = |size| decode(&announcing(size)).map(|outcome| outcome.map(drop));
    assert!(matches!(default(DEFAULT_MAX_V2_LEN), Ok(Outcome::NeedMore(_))));
    let (size, limit) = (DEFAULT_MAX_V2_LEN + 1, DEFAULT_MAX_V2_LEN);
    assert_eq!(default(size), Err(HeaderError::V2TooLarge { size, limit }));
    // No limit can be set below what sound senders send; 4096 bytes always pass.
    assert_eq!(MIN_MAX_V2_LEN, 4096);
    assert_eq!(DecodeOptions::new().max_v2_len(MIN_MAX_V2_LEN - 1), Err(LimitError(MIN_MAX_V2_LEN - 1)));
    let least = DecodeOptions::new().max_v2_len(MIN_MAX_V2_LEN).unwrap();
    assert!(matches!(decode_with(&announcing(MIN_MAX_V2_LEN), &least), Ok(Outcome::NeedMore(_))));
    assert_eq!(decode_with(&announcing(MIN_MAX_V2_LEN + 1), &least).unwrap_err().keyword(), "v2_too_large");
    let most = DecodeOptions::new().max_v2_len(MAX_V2_LEN).unwrap();
    assert!(matches!(decode_with(&announcing(MAX_V2_LEN), &most), Ok(Outcome::NeedMore(_))));
}

#[test]
fn reading_15_v1_in_a_datagram_is_an_error() {
    assert_eq!(decode_datagram(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), Err(HeaderError::V1OnDatagram));
    assert_eq!(decode_datagram(b"PROXY UNKNOWN\r\n"), Err(HeaderError::V1OnDatagram));
}

#[test]
fn reading_16_the_announced_transport_need_not_be_that_of_the_connection() {
    let block = [0, 12, 192, 0, 2, 1, 192, 0, 2, 2, 0, 1, 0, 2];
    let udp = v2(0x21, &[&[0x12], block.as_slice()].concat());
    assert_eq!(complete(&udp).transport(), Transport::Datagram);
    let tcp = v2(0x21, &[&[0x11], block.as_slice()].concat());
    let (header, _) = decode_datagram(&tcp).unwrap();
    assert_eq!(header.transport(), Transport::Stream);
    assert_eq!(header.source(), Some("192.0.2.1:1".parse().unwrap()));
}

#[test]
fn reading_17_every_datagram_carries_its_own_header() {
    let mut buf = [0; 64];
    let (client, server) = ("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
    let first =
        encode::v2(&mut buf, Transport::Datagram, Addresses::between(client, server)).unwrap().finish();
    assert!(decode_datagram(first).is_ok());
    // The decoder keeps nothing from one datagram to the next.
    assert_eq!(decode_datagram(b"the second one"), Err(HeaderError::NotProxy));
    assert_eq!(decode_datagram(b""), Err(HeaderError::NotProxy));
}

#[test]
fn reading_18_an_spp_pair_with_one_mapped_address_is_ipv6() {
    let (v4, v6) = ("192.0.2.1:1".parse().unwrap(), "[2001:db8::2]:2".parse().unwrap());
    let wire = encode::spp(v4, v6).unwrap();
    let (header, _) = decode_datagram(&wire).unwrap();
    assert_eq!(header.family(), Family::Inet6);
    assert_eq!(header.source(), Some("[::ffff:192.0.2.1]:1".parse().unwrap()));
    assert_eq!(header.destination(), Some(v6));
}

#[test]
fn reading_19_a_wrong_version_behind_the_signature_is_an_error_of_v2() {
    for version in (0..16).filter(|version| *version != 2) {
        assert_eq!(decode(&v2(version << 4 | 1, &[])), Err(HeaderError::V2Version(version)));
    }
}

#[test]
fn reading_20_families_mixed_in_v1_are_an_error_unless_asked_for() {
    let tolerant = DecodeOptions::new().v1_mixed_families(true);
    for (line, source, destination) in [
        ("PROXY TCP4 203.0.113.7 ::1 51000 29034\r\n", "[::ffff:203.0.113.7]:51000", "[::1]:29034"),
        (
            "PROXY TCP6 2001:db8::7 127.0.0.1 51000 29034\r\n",
            "[2001:db8::7]:51000",
            "[::ffff:127.0.0.1]:29034",
        ),
    ] {
        assert_eq!(keyword(line.as_bytes()), "v1_bad_address");
        let (header, consumed) = decode_with(line.as_bytes(), &tolerant).unwrap().complete().unwrap();
        assert_eq!(consumed, line.len());
        assert_eq!(header.source(), Some(source.parse().unwrap()));
        assert_eq!(header.destination(), Some(destination.parse().unwrap()));
    }
    // Tolerance ends where neither address is of the announced family.
    for line in ["PROXY TCP4 ::1 ::2 1 2\r\n", "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n"] {
        assert_eq!(decode_with(line.as_bytes(), &tolerant).unwrap_err().keyword(), "v1_bad_address");
    }
}

/// The header in `wire`, all of which it takes.
fn complete(wire: &[u8]) -> Header<'_> {
    let (header, consumed) = decode(wire).expect("a sound header").complete().expect("a whole header");
    assert_eq!(consumed, wire.len());
    header
}

fn keyword(wire: &[u8]) -> &'static str {
    decode(wire).expect_err("a header to be refused").keyword()
}

/// A v2 header: its thirteenth byte and what follows it.
fn v2(version_command: u8, rest: &[u8]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[version_command], rest].concat()
}

/// A v2 header with IPv4 addresses and these bytes behind them.
fn with_tlvs(tlvs: &[u8]) -> Vec<u8> {
    let length = u16::try_from(12 + tlvs.len()).expect("short TLVs").to_be_bytes();
    v2(0x21, &[&[0x11], length.as_slice(), &[192, 0, 2, 1, 192, 0, 2, 2, 0, 1, 0, 2], tlvs].concat())
}
