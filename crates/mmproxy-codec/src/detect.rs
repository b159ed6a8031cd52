//! Which format the first bytes announce (§2.2: "identifying the protocol version is easy").

/// First five bytes of a v1 line (§2.1).
pub(crate) const V1_SIGNATURE: [u8; 5] = *b"PROXY";
/// First twelve bytes of a v2 header (§2.2).
pub(crate) const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// First two bytes of an SPP datagram.
pub(crate) const SPP_MAGIC: [u8; 2] = [0x56, 0xEC];

/// What the start of a buffer says about its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detected {
    /// The whole v1 signature: later trouble is an error, never "not PROXY".
    V1,
    /// The whole v2 signature.
    V2,
    /// SPP's magic.
    Spp,
    /// All there is of the buffer is the start of the v1 signature.
    V1Prefix,
    /// All there is of the buffer is the start of the v2 signature.
    V2Prefix,
    /// Nothing to go by.
    Empty,
    /// Something else; no further byte can change that.
    Other,
}

/// The format at the start of a stream. Never [`Detected::Spp`]: that exists on datagrams only.
#[inline]
pub(crate) fn stream(input: &[u8]) -> Detected {
    // The two signatures differ in their first byte, so one look picks the only candidate.
    match input.first() {
        Some(b'\r') if input.starts_with(&V2_SIGNATURE) => Detected::V2,
        Some(b'P') if input.starts_with(&V1_SIGNATURE) => Detected::V1,
        Some(b'\r') if V2_SIGNATURE.starts_with(input) => Detected::V2Prefix,
        Some(b'P') if V1_SIGNATURE.starts_with(input) => Detected::V1Prefix,
        Some(_) => Detected::Other,
        None => Detected::Empty,
    }
}

/// The format of a whole datagram. Part of a signature is not one: nothing can follow.
#[inline]
pub(crate) fn datagram(input: &[u8]) -> Detected {
    if input.starts_with(&SPP_MAGIC) {
        return Detected::Spp;
    }
    match stream(input) {
        whole @ (Detected::V1 | Detected::V2) => whole,
        Detected::Spp | Detected::V1Prefix | Detected::V2Prefix | Detected::Empty | Detected::Other => {
            Detected::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_a_signature_is_one_and_the_first_other_byte_decides() {
        for (signature, whole, prefix) in [
            (V1_SIGNATURE.as_slice(), Detected::V1, Detected::V1Prefix),
            (V2_SIGNATURE.as_slice(), Detected::V2, Detected::V2Prefix),
        ] {
            for cut in 1..signature.len() {
                assert_eq!(stream(&signature[..cut]), prefix);
                assert_eq!(datagram(&signature[..cut]), Detected::Other);
                let mut wrong = signature[..=cut].to_vec();
                wrong[cut] ^= 0x20;
                assert_eq!(stream(&wrong), Detected::Other);
            }
            assert_eq!(stream(signature), whole);
            assert_eq!(datagram(signature), whole);
        }
        assert_eq!(stream(b""), Detected::Empty);
    }

    #[test]
    fn spp_is_seen_on_datagrams_only() {
        assert_eq!(datagram(&SPP_MAGIC), Detected::Spp);
        assert_eq!(stream(&SPP_MAGIC), Detected::Other);
        assert_eq!(datagram(&SPP_MAGIC[..1]), Detected::Other);
    }
}
