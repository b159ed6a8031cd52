//! CRC32C, against a second implementation: what it protects, and what happens with several.

mod support;

use mmproxy_codec::{Addresses, Header, Outcome, TlvType, Transport, decode, encode};
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn the_second_implementation_is_right() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
}

proptest! {
    #![proptest_config(support::properties())]

    #[test]
    fn the_encoder_s_checksum_is_that_of_the_second_implementation(value in vec(any::<u8>(), 0..300)) {
        let mut wire = with_checksum(&value);
        let at = wire.len() - 4;
        let stored = wire[at..].to_vec();
        wire[at..].fill(0);
        prop_assert_eq!(stored, crc32c(&wire).to_be_bytes());
    }

    /// Unnoticed, a flipped bit can hide the checksum or turn the header into one whose addresses are not used; it
    /// cannot make another address of one.
    #[test]
    fn no_flipped_bit_changes_an_address(value in vec(any::<u8>(), 0..40)) {
        let sound = with_checksum(&value);
        let addresses = complete(&sound).expect("a sound header").addresses();
        for bit in 0..sound.len() * 8 {
            let mut wire = sound.clone();
            wire[bit / 8] ^= 1 << (bit % 8);
            match decode(&wire) {
                // The length field announces more; it is waited for.
                Ok(Outcome::NeedMore(_)) => prop_assert!((112..128).contains(&bit)),
                Ok(Outcome::Complete { header, .. }) => {
                    let found = header.addresses();
                    prop_assert!(found == Addresses::Unspecified || found == addresses, "bit {}: {:?}", bit, found);
                }
                Err(_) => {}
            }
        }
    }
}

#[test]
fn of_two_checksums_each_must_match_with_its_own_bytes_as_zero() {
    let (wire, first, second) = two_checksums();
    let header = complete(&wire).expect("both match");
    let stored = u32::from_be_bytes(wire[first..first + 4].try_into().unwrap());
    assert_eq!(header.tlvs().crc32c(), Some(stored));
    assert_eq!(header.tlvs().filter(|tlv| tlv.kind() == TlvType::CRC32C).count(), 2);
    for at in [first, second] {
        let mut wrong = wire.clone();
        wrong[at] ^= 1;
        assert_eq!(decode(&wrong).unwrap_err().keyword(), "v2_bad_crc32c");
    }
    // One of them matches, whichever that is: not enough.
    for (matching, other) in [(first, second), (second, first)] {
        let mut half = wire.clone();
        half[other] ^= 1;
        half[matching..matching + 4].fill(0);
        let crc = crc32c(&half);
        half[matching..matching + 4].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(decode(&half).unwrap_err().keyword(), "v2_bad_crc32c");
    }
}

#[test]
fn a_broken_list_is_reported_before_its_checksum() {
    let mut wire = with_checksum(b"");
    wire.extend([TlvType::NOOP.0, 0]);
    wire[15] += 2;
    assert_eq!(decode(&wire).unwrap_err().keyword(), "v2_bad_tlv");
}

/// A header with a NOOP of this value and a checksum at its end.
fn with_checksum(value: &[u8]) -> Vec<u8> {
    let mut buf = [0; 512];
    let (source, destination) = ([192, 0, 2, 1], [198, 51, 100, 1]);
    let addresses = Addresses::between((source, 4711).into(), (destination, 443).into());
    let encoder = encode::v2(&mut buf, Transport::Stream, addresses).expect("room");
    encoder.tlv(TlvType::NOOP, value).expect("room").finish_with_crc().expect("room").to_vec()
}

/// A header with two checksums that match, and where their values are.
///
/// Each covers the other. A checksum is an affine function of the bytes it covers, so that is a system of 32 linear
/// equations over single bits.
fn two_checksums() -> (Vec<u8>, usize, usize) {
    let mut wire = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x1A\xC0\0\x02\x01\xC0\0\x02\x02\0\x01\0\x02".to_vec();
    wire.extend([3, 0, 4, 0, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0]);
    let (first, second) = (wire.len() - 11, wire.len() - 4);
    let fixed_by = |value: u32| {
        // What the first checksum would have to be, if it were `value` when the second is computed.
        let mut trial = wire.clone();
        trial[first..first + 4].copy_from_slice(&value.to_be_bytes());
        let behind = crc32c(&trial);
        trial[first..first + 4].fill(0);
        trial[second..second + 4].copy_from_slice(&behind.to_be_bytes());
        (crc32c(&trial), behind)
    };
    // Row by row: value ^ fixed_by(value) is to be zero, and its constant part is that of zero.
    let constant = fixed_by(0).0;
    let mut rows: Vec<(u32, u32)> =
        (0..32).map(|bit| 1 << bit).map(|unit| (unit ^ fixed_by(unit).0 ^ constant, unit)).collect();
    let mut value = 0;
    let mut left = constant;
    for bit in (0..32).map(|bit| 1 << bit) {
        let Some(at) = rows.iter().position(|(image, _)| image & bit != 0) else { continue };
        let (image, unit) = rows.remove(at);
        for row in rows.iter_mut().filter(|(other, _)| other & bit != 0) {
            *row = (row.0 ^ image, row.1 ^ unit);
        }
        if left & bit != 0 {
            left ^= image;
            value ^= unit;
        }
    }
    assert_eq!(left, 0, "these two checksums cannot match at once");
    let behind = fixed_by(value).1;
    wire[second..second + 4].copy_from_slice(&behind.to_be_bytes());
    wire[first..first + 4].copy_from_slice(&value.to_be_bytes());
    (wire, first, second)
}

fn complete(wire: &[u8]) -> Option<Header<'_>> {
    decode(wire).ok().and_then(Outcome::complete).map(|(header, _)| header)
}

/// Castagnoli's, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 })
    })
}
