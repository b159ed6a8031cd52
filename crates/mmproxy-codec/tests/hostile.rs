//! No bytes whatsoever make the decoder panic, consume what it was not given, or change its mind.

mod support;

use mmproxy_codec::{DecodeOptions, Header, HeaderError, Outcome, TlvType};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

proptest! {
    #![proptest_config(support::properties())]

    #[test]
    fn any_bytes_in_place_of_tlvs_are_walked_to_the_end_or_refused(region in vec(any::<u8>(), 0..400)) {
        tlv_region(&region)?;
    }

    #[test]
    fn any_stack_of_tlvs_is_walked_in_wire_order(
        stack in vec((any::<u8>(), vec(any::<u8>(), 0..200)), 0..20),
        cut in any::<Index>(),
    ) {
        let wire = |(kind, value): &(u8, Vec<u8>)| {
            [&[*kind], u16::try_from(value.len()).unwrap().to_be_bytes().as_slice(), value].concat()
        };
        let region: Vec<u8> = stack.iter().flat_map(wire).collect();
        tlv_region(&region)?;
        tlv_region(&region[..cut.index(region.len() + 1)])?;
    }

    #[test]
    fn mutated_vectors_keep_every_promise(
        vector in select(support::all()),
        mutations in vec(mutation(), 1..6),
    ) {
        let mut bytes = vector.bytes;
        for mutation in &mutations {
            mutation.apply(&mut bytes);
        }
        promises(&bytes)?;
    }

    #[test]
    fn arbitrary_bytes_keep_every_promise(start in select(STARTS), bytes in vec(any::<u8>(), 0..300)) {
        promises(&[start, &bytes].concat())?;
    }

    #[test]
    fn arbitrary_v1_fields_keep_every_promise(fields in "[TCPUDNKOW46]{0,8}[ \t]{0,2}[0-9a-fx.:+ ]{0,60}[\r\n]{0,3}") {
        promises(format!("PROXY {fields}").as_bytes())?;
    }
}

/// What holds for every input: no panic, nothing consumed that was not given, and an answer that stands.
fn promises(bytes: &[u8]) -> Result<(), TestCaseError> {
    for options in [DecodeOptions::new(), DecodeOptions::new().v1_mixed_families(true).crc_in_local(true)] {
        let answer = mmproxy_codec::decode_with(bytes, &options);
        let longer = [bytes, b"\r\n PROXY".as_slice()].concat();
        match answer {
            Ok(Outcome::Complete { header, consumed }) => {
                prop_assert!(consumed <= bytes.len());
                prop_assert_eq!(mmproxy_codec::decode_with(&bytes[..consumed], &options), answer);
                prop_assert_eq!(mmproxy_codec::decode_with(&longer, &options), answer);
                let one_less = mmproxy_codec::decode_with(&bytes[..consumed - 1], &options);
                prop_assert!(matches!(one_less, Ok(Outcome::NeedMore(_))), "{:?}", one_less);
                readable(&header);
            }
            // That at least one byte is asked for is in the type.
            Ok(Outcome::NeedMore(_)) => {}
            Err(error) => {
                prop_assert_eq!(mmproxy_codec::decode_with(&longer, &options), Err(error));
                prop_assert!(!error.to_string().is_empty() && !error.keyword().is_empty());
            }
        }
        match mmproxy_codec::decode_datagram_with(bytes, &options) {
            Ok((header, consumed)) => {
                prop_assert!(consumed <= bytes.len());
                readable(&header);
            }
            Err(HeaderError::Truncated { need, got }) => prop_assert!(got == bytes.len() && got < need),
            Err(error) => prop_assert!(!error.keyword().is_empty()),
        }
    }
    Ok(())
}

/// Every view of a header can be asked for.
fn readable(header: &Header<'_>) {
    let tlvs = header.tlvs();
    assert_eq!(
        tlvs.clone().count(),
        tlvs.clone().filter(|tlv| !format!("{:?}", tlv.parse()).is_empty()).count()
    );
    let views = (tlvs.alpn(), tlvs.authority(), tlvs.crc32c(), tlvs.unique_id(), tlvs.ssl(), tlvs.netns());
    let vendors =
        (tlvs.aws_vpc_endpoint_id(), tlvs.azure_private_endpoint_link_id(), tlvs.gcp_psc_connection_id());
    assert!(!format!("{header:?} {views:?} {vendors:?} {:?}", tlvs.alibaba().count()).is_empty());
}

/// A header whose bytes behind the addresses are `region`: the answer must be that of a walk written for this test.
fn tlv_region(region: &[u8]) -> Result<(), TestCaseError> {
    let fixed = support::bytes("0d0a0d0a000d0a515549540a 21 11");
    let length = u16::try_from(12 + region.len()).expect("a short region").to_be_bytes();
    let addresses = support::bytes("c0000201 c0000202 0001 0002");
    let wire = [fixed.as_slice(), &length, &addresses, region].concat();
    let mut listed = Vec::new();
    let mut rest = region;
    let refused = loop {
        match *rest {
            [] => break None,
            [kind, high, low, ref behind @ ..] => {
                let len = usize::from(high) << 8 | usize::from(low);
                if behind.len() < len {
                    break Some("v2_bad_tlv");
                }
                match kind {
                    0x03 if len != 4 => break Some("v2_bad_crc32c"),
                    0x05 if len > 128 => break Some("v2_bad_unique_id"),
                    _ => listed.push((TlvType(kind), &behind[..len])),
                }
                rest = &behind[len..];
            }
            _ => break Some("v2_bad_tlv"),
        }
    };
    match (mmproxy_codec::decode(&wire), refused) {
        (Ok(Outcome::Complete { header, consumed }), None) => {
            prop_assert_eq!(consumed, wire.len());
            let read: Vec<_> = header.tlvs().map(|tlv| (tlv.kind(), tlv.value())).collect();
            prop_assert_eq!(read, listed);
        }
        (Err(error), Some(keyword)) => prop_assert_eq!(error.keyword(), keyword),
        // A checksum of random bytes is right once in four billion times.
        (Err(HeaderError::V2Crc32c { .. }), None) => {
            prop_assert!(listed.iter().any(|(kind, _)| *kind == TlvType::CRC32C));
        }
        (answer, refused) => prop_assert!(false, "{:?}, but the walk says {:?}", answer, refused),
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum Mutation {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index),
    Truncate(Index),
    Repeat,
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        match self {
            Self::Insert(at, more) => {
                let at = at.index(len + 1);
                drop(bytes.splice(at..at, more.iter().copied()));
            }
            Self::Repeat => bytes.extend_from_within(..),
            Self::Truncate(at) => bytes.truncate(at.index(len + 1)),
            _ if len == 0 => {}
            Self::Set(at, value) => bytes[at.index(len)] = *value,
            Self::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Self::Remove(at) => drop(bytes.remove(at.index(len))),
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, value)| Mutation::Set(at, value)),
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (any::<Index>(), vec(any::<u8>(), 1..5)).prop_map(|(at, more)| Mutation::Insert(at, more)),
        any::<Index>().prop_map(Mutation::Remove),
        any::<Index>().prop_map(Mutation::Truncate),
        Just(Mutation::Repeat),
    ]
}

const STARTS: &[&[u8]] = &[
    b"",
    b"PROXY ",
    b"PROXY TCP4 ",
    b"PROXY UNKNOWN",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\r\n\r\n\0\r\nQUIT\n\x20",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x22\x00",
    b"\x56\xEC",
];
