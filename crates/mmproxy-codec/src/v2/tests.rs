use proptest::prelude::*;

use super::*;

proptest! {
    /// The short way and the long way round give the same answer, wherever the short way gives one.
    #[test]
    fn both_readers_agree_on_plain_headers(
        kind in prop::sample::select(&[0x11_u8, 0x12, 0x21, 0x22, 0x31, 0x10, 0x01, 0x13][..]),
        len in prop::sample::select(&[0_u16, 11, 12, 15, 36, 39, 12 + 256, 36 + 256][..]),
        block in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut wire = crate::detect::V2_SIGNATURE.to_vec();
        wire.extend([0x21, kind]);
        wire.extend(len.to_be_bytes());
        wire.extend(&block);
        let Ok(assigned) = family_transport(kind) else { return Ok(()) };
        let (family, transport) = assigned;
        let whole = block.len() >= usize::from(len);
        match plain(&wire, wire.first_chunk().unwrap()) {
            Some((header, consumed)) => {
                let by_the_long_way = proxy(&wire, family, transport, len, &DecodeOptions::new());
                prop_assert_eq!(by_the_long_way, Ok(Outcome::Complete { header, consumed }));
            }
            None => prop_assert!(!whole || !matches!((kind, len), (0x11 | 0x12, 12) | (0x21 | 0x22, 36))),
        }
    }
}

#[test]
fn plain_headers_of_either_family_take_the_short_way() {
    for (kind, len) in [(0x11, 12), (0x12, 12), (0x21, 36), (0x22, 36)] {
        let mut wire = crate::detect::V2_SIGNATURE.to_vec();
        wire.extend([0x21, kind, 0, len]);
        wire.resize(wire.len() + usize::from(len), 7);
        let consumed = plain(&wire, wire.first_chunk().unwrap()).map(|(_, consumed)| consumed);
        assert_eq!(consumed, Some(wire.len()), "{kind:#x}");
        assert_eq!(plain(&wire[..wire.len() - 1], wire.first_chunk().unwrap()), None, "{kind:#x}");
    }
}

#[test]
fn an_unassigned_nibble_is_refused_by_its_value() {
    for high in 0..=0xF {
        for low in 0..=0xF {
            let byte = high << 4 | low;
            let expected = match (high, low) {
                (2, 0) => Ok(Command::Local),
                (2, 1) => Ok(Command::Proxy),
                (2, _) => Err(HeaderError::V2Command(low)),
                _ => Err(HeaderError::V2Version(high)),
            };
            assert_eq!(command(byte), expected, "{byte:#x}");
            let refused = match (high, low) {
                (4.., _) => Some(HeaderError::V2Family(high)),
                (_, 3..) => Some(HeaderError::V2Transport(low)),
                _ => None,
            };
            assert_eq!(family_transport(byte).err(), refused, "{byte:#x}");
        }
    }
}
