//! Headers at the start of a datagram: each is parsed on its own, and nothing can follow (§2).

use core::num::NonZeroUsize;

use crate::detect::{self, Detected};
use crate::error::HeaderError;
use crate::header::{Header, Version};
use crate::options::DecodeOptions;
use crate::outcome::Outcome;
use crate::{spp, v2};

/// The v2 or SPP header at the start of `datagram`, with default options, and its length in bytes.
///
/// What follows is payload; it may be empty.
///
/// # Errors
///
/// As [`decode`](crate::decode); what would be incomplete on a stream is [`HeaderError::Truncated`] here, a part
/// of a signature [`HeaderError::NotProxy`], and a v1 line [`HeaderError::V1OnDatagram`]. The datagram must be
/// dropped then.
#[inline]
pub fn decode_datagram(datagram: &[u8]) -> Result<(Header<'_>, usize), HeaderError> {
    decode_datagram_with(datagram, const { &DecodeOptions::new() })
}

/// [`decode_datagram`] with options.
///
/// A listener that knows which format its proxies send should exclude the other with
/// [`DecodeOptions::formats`].
///
/// # Errors
///
/// As [`decode_datagram`].
#[inline]
pub fn decode_datagram_with<'a>(
    datagram: &'a [u8],
    options: &DecodeOptions,
) -> Result<(Header<'a>, usize), HeaderError> {
    match detect::datagram(datagram) {
        Detected::V2 => {
            options.demand(Version::V2)?;
            match v2::decode(datagram, options)? {
                Outcome::Complete { header, consumed } => Ok((header, consumed)),
                Outcome::NeedMore(missing) => Err(truncated(datagram, missing)),
            }
        }
        Detected::Spp => {
            options.demand(Version::Spp)?;
            Ok((spp::decode(datagram)?, spp::SPP_LEN))
        }
        Detected::V1 => Err(HeaderError::V1OnDatagram),
        Detected::V1Prefix | Detected::V2Prefix | Detected::Empty | Detected::Other => {
            Err(HeaderError::NotProxy)
        }
    }
}

fn truncated(datagram: &[u8], missing: NonZeroUsize) -> HeaderError {
    HeaderError::Truncated { need: datagram.len() + missing.get(), got: datagram.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;
    use crate::options::Formats;

    #[test]
    fn a_listener_can_exclude_either_format() {
        let spp = encode::spp("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap()).unwrap();
        let mut buf = [0; 16];
        let v2 = encode::v2_local(&mut buf).unwrap().finish();
        let only = |formats| DecodeOptions::new().formats(formats);
        assert_eq!(decode_datagram_with(&spp, &only(Formats::SPP)).map(|(_, len)| len), Ok(38));
        assert_eq!(decode_datagram_with(v2, &only(Formats::V2)).map(|(_, len)| len), Ok(16));
        assert_eq!(
            decode_datagram_with(&spp, &only(Formats::V2)),
            Err(HeaderError::VersionNotAccepted(Version::Spp)),
        );
        assert_eq!(
            decode_datagram_with(v2, &only(Formats::SPP)),
            Err(HeaderError::VersionNotAccepted(Version::V2)),
        );
    }

    #[test]
    fn truncation_says_how_much_there_should_have_been() {
        let mut buf = [0; 64];
        let pair = crate::Addresses::between("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
        let v2 = encode::v2(&mut buf, crate::Transport::Datagram, pair).unwrap().finish();
        assert_eq!(decode_datagram(&v2[..14]), Err(HeaderError::Truncated { need: 16, got: 14 }));
        assert_eq!(decode_datagram(&v2[..20]), Err(HeaderError::Truncated { need: 28, got: 20 }));
        assert_eq!(decode_datagram(&[0x56, 0xEC, 0]), Err(HeaderError::Truncated { need: 38, got: 3 }));
    }
}
