//! The bytes of a bulk stream: cheap to make, cheap to check, and different at every position and in every session.
//!
//! A stream is a row of blocks. A block begins with a stamp that depends on the session and on the block's number; the
//! rest is the same filler in all blocks. So a byte that is lost, doubled or moved displaces the next stamp, and bytes
//! of another session have other stamps. Every sixteenth block is compared byte by byte, which finds bytes that were
//! changed in place. Making and checking costs a few percent of what copying the bytes costs.

/// What the sender writes.
#[derive(Debug)]
pub(crate) struct Writer {
    buffer: Vec<u8>,
}

impl Writer {
    /// A writer whose pieces have at most `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        let blocks = size / BLOCK + 1;
        Self { buffer: (0..blocks).flat_map(|_| 0..BLOCK).map(filler).collect() }
    }

    /// The stream's next bytes at `offset`. At least one block less than the buffer is long.
    pub(crate) fn at(&mut self, seed: u64, offset: u64) -> &[u8] {
        let (first, within) = split(offset);
        for (number, block) in self.buffer.chunks_exact_mut(BLOCK).enumerate() {
            block[..STAMP].copy_from_slice(&stamp(seed, first + number as u64));
        }
        let end = self.buffer.len() - BLOCK + within;
        &self.buffer[within..end]
    }
}

/// Checks what the receiver reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader {
    seed: u64,
    offset: u64,
}

impl Reader {
    /// For a stream from its beginning.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, offset: 0 }
    }

    /// Whether `bytes` are what follows what was read so far.
    pub(crate) fn accept(&mut self, mut bytes: &[u8]) -> bool {
        let mut right = true;
        while !bytes.is_empty() {
            let (block, within) = split(self.offset);
            let (part, rest) = bytes.split_at(bytes.len().min(BLOCK - within));
            if within < STAMP {
                let stamped = part.len().min(STAMP - within);
                right &= part[..stamped] == stamp(self.seed, block)[within..within + stamped];
            }
            if block.is_multiple_of(THOROUGH) {
                let from = within.max(STAMP);
                right &=
                    part.get(from - within..).is_none_or(|part| part == &FILLER[from..from + part.len()]);
            }
            self.offset += part.len() as u64;
            bytes = rest;
        }
        right
    }
}

/// The block of a position, and the position in it.
fn split(offset: u64) -> (u64, usize) {
    #[expect(clippy::cast_possible_truncation, reason = "smaller than a block")]
    (offset / BLOCK as u64, (offset % BLOCK as u64) as usize)
}

/// Different for each block of each session: the finalizer of SplitMix64 is a bijection.
fn stamp(seed: u64, block: u64) -> [u8; STAMP] {
    mix(seed ^ block.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes()
}

/// A number that looks random: SplitMix64's finalizer.
pub(crate) const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[expect(clippy::cast_possible_truncation, reason = "the low byte is what is wanted")]
const fn filler(position: usize) -> u8 {
    (position * 31 + 7) as u8
}

const FILLER: [u8; BLOCK] = {
    let mut bytes = [0; BLOCK];
    let mut position = 0;
    while position < BLOCK {
        bytes[position] = filler(position);
        position += 1;
    }
    bytes
};

const BLOCK: usize = 4096;
const STAMP: usize = 8;
/// One block in how many is compared byte by byte.
const THOROUGH: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream's first `len` bytes, written in pieces of at most `piece`.
    fn stream(seed: u64, len: usize, piece: usize) -> Vec<u8> {
        let mut writer = Writer::new(3 * BLOCK);
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let next = writer.at(seed, bytes.len() as u64);
            bytes.extend(&next[..next.len().min(piece).min(len - bytes.len())]);
        }
        bytes
    }

    fn accepted(seed: u64, bytes: &[u8], piece: usize) -> bool {
        let mut reader = Reader::new(seed);
        bytes.chunks(piece).all(|chunk| reader.accept(chunk))
    }

    #[test]
    fn what_is_written_is_accepted_however_it_is_cut() {
        let whole = stream(7, 20 * BLOCK, usize::MAX);
        for piece in [1, 5, 4095, 4096, 4097, 10_000] {
            assert_eq!(stream(7, 20 * BLOCK, piece), whole);
            assert!(accepted(7, &whole, piece));
        }
    }

    #[test]
    fn a_byte_lost_or_doubled_anywhere_is_noticed_by_the_next_stamp() {
        let whole = stream(7, 4 * BLOCK, usize::MAX);
        for position in (0..3 * BLOCK).step_by(97) {
            let mut less = whole.clone();
            less.remove(position);
            assert!(!accepted(7, &less, 1000), "byte {position} lost");
            let mut more = whole.clone();
            more.insert(position, whole[position]);
            assert!(!accepted(7, &more, 1000), "byte {position} doubled");
        }
    }

    #[test]
    fn a_byte_changed_in_a_block_that_is_compared_is_noticed() {
        let whole = stream(7, BLOCK, usize::MAX);
        for position in 0..BLOCK {
            let mut changed = whole.clone();
            changed[position] ^= 1;
            assert!(!accepted(7, &changed, 1000));
        }
    }

    #[test]
    fn another_sessions_bytes_are_noticed() {
        assert!(!accepted(8, &stream(7, BLOCK, usize::MAX), 1000));
    }
}
