//! Contents of which no piece can be lost, doubled or swapped unnoticed.

use std::sync::LazyLock;

/// What one side says: the same bytes whenever the same offset is asked for, others than any other voice's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Voice(pub(crate) u64);

impl Voice {
    /// The bytes from `offset` on, `wanted` of them or as many as there are in one piece.
    pub(crate) fn at(self, offset: u64, wanted: usize) -> &'static [u8] {
        let start = (self.0.wrapping_mul(7919).wrapping_add(offset) % LENGTH as u64) as usize;
        &NOISE[start..start + wanted.min(LONGEST)]
    }

    /// Whether `bytes` are what was said at `offset`.
    pub(crate) fn said(self, offset: u64, bytes: &[u8]) -> bool {
        let mut offset = offset;
        bytes.chunks(LONGEST).all(|chunk| {
            let same = chunk == self.at(offset, chunk.len());
            offset += chunk.len() as u64;
            same
        })
    }
}

/// A prime: no buffer's or pipe's size is a period of the noise.
const LENGTH: usize = 1_048_583;

const LONGEST: usize = 64 * 1024;

static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = super::schedule::Random(0x5eed);
    let mut noise: Vec<u8> =
        std::iter::repeat_with(|| random.next().to_le_bytes()).flatten().take(LENGTH).collect();
    noise.extend_from_within(..LONGEST);
    noise
});
