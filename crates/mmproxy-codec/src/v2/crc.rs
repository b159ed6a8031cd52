//! CRC32C (Castagnoli) of a header (§2.2.3).

use crate::error::HeaderError;

/// Bytes of a checksum value: a 32-bit number in network byte order.
pub(super) const LEN: usize = 4;

/// The checksum of `header` with the four bytes at `value` taken as zero.
///
/// `value + 4` must lie within the header.
pub(super) fn of(header: &[u8], value: usize) -> u32 {
    if let Some(copy) = Aligned([0; SMALL]).0.get_mut(..header.len()) {
        copy.copy_from_slice(header);
        copy[value..value + LEN].fill(0);
        return append(0, copy);
    }
    let crc = append(0, &header[..value]);
    let crc = append(crc, &[0; LEN]);
    append(crc, &header[value + LEN..])
}

/// Longest header in bytes that is checked in one piece, on a copy. Nearly all are shorter.
///
/// Every piece costs up to seven steps of one byte at either end, and steps depend on each other.
const SMALL: usize = 256;

/// Where the checksum's instruction finds whole words from the start.
#[repr(align(8))]
struct Aligned([u8; SMALL]);

/// Compares the checksum at `value` with that of `header`; bounds as [`of`].
pub(super) fn verify(header: &[u8], value: usize) -> Result<(), HeaderError> {
    let mut stored = [0; LEN];
    stored.copy_from_slice(&header[value..value + LEN]);
    let (stored, computed) = (u32::from_be_bytes(stored), of(header, value));
    if stored == computed { Ok(()) } else { Err(HeaderError::V2Crc32c { stored, computed }) }
}

/// With `std`, the `crc32c` crate, which finds out once whether the processor has an instruction for it.
#[cfg(feature = "std")]
fn append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

/// Without `std` nobody can ask the processor, and the `crc32c` crate does not build: a table does it.
#[cfg(not(feature = "std"))]
fn append(crc: u32, bytes: &[u8]) -> u32 {
    table::append(crc, bytes)
}

/// One byte at a time, by table.
#[cfg(any(test, not(feature = "std")))]
mod table {
    /// Continues the checksum `crc` over `bytes`.
    pub(super) fn append(crc: u32, bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!crc, |crc, byte| {
            let [low, ..] = crc.to_le_bytes();
            (crc >> 8) ^ TABLE[usize::from(low ^ byte)]
        })
    }

    static TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < table.len() {
            let mut crc = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };

    /// Castagnoli's, bits reflected.
    const POLYNOMIAL: u32 = 0x82F6_3B78;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_check_value_of_the_algorithm_comes_out() {
        assert_eq!(append(0, b"123456789"), 0xE306_9283);
        assert_eq!(table::append(0, b"123456789"), 0xE306_9283);
    }

    proptest! {
        #[test]
        fn table_and_instruction_agree(bytes: std::vec::Vec<u8>, start: u32) {
            prop_assert_eq!(table::append(start, &bytes), append(start, &bytes));
        }

        #[test]
        fn the_value_itself_does_not_count(mut header in proptest::collection::vec(any::<u8>(), 4..64), other: [u8; 4]) {
            let at = header.len() - 4;
            let before = of(&header, at);
            header[at..].copy_from_slice(&other);
            prop_assert_eq!(of(&header, at), before);
            header[at..].fill(0);
            prop_assert_eq!(append(0, &header), before);
        }
    }
}
