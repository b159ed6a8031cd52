//! What a decoder accepts beyond doubt-free headers: limits and tolerances, as a value.

use crate::error::HeaderError;
use crate::header::Version;

/// Default of [`DecodeOptions::max_v2_len`] in bytes: HAProxy's own default, the size of its buffer.
///
/// The specification has headers of 536 bytes in mind; client certificates, which HAProxy sends since 2026, take
/// kilobytes.
pub const DEFAULT_MAX_V2_LEN: usize = 16 * 1024;
/// Largest v2 header the length field can announce, in bytes: 16 fixed ones and 65535.
pub const MAX_V2_LEN: usize = 16 + u16::MAX as usize;
/// Lower bound of [`DecodeOptions::max_v2_len`] in bytes: what nginx and go-proxyproto take.
pub const MIN_MAX_V2_LEN: usize = 4096;

/// How strict to be. The default is safe for a listener that faces proxies only.
///
/// ```
/// use mmproxy_codec::DecodeOptions;
///
/// // nginx can write `PROXY TCP4 192.0.2.1 ::1 …`; large client certificates are expected.
/// let options = DecodeOptions::new().v1_mixed_families(true).max_v2_len(32 * 1024)?;
/// # Ok::<_, mmproxy_codec::LimitError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Invariant: `MIN_MAX_V2_LEN <= max_v2_len <= MAX_V2_LEN`.
    max_v2_len: usize,
    formats: Formats,
    v1_mixed_families: bool,
    crc_in_local: bool,
}

impl DecodeOptions {
    /// The defaults, as [`decode`](crate::decode) uses them.
    pub const fn new() -> Self {
        Self {
            max_v2_len: DEFAULT_MAX_V2_LEN,
            formats: Formats::ALL,
            v1_mixed_families: false,
            crc_in_local: false,
        }
    }

    /// Largest v2 header accepted, in bytes, its 16 fixed ones included. Default [`DEFAULT_MAX_V2_LEN`].
    ///
    /// A larger one is refused as soon as its length field is known, so this bounds what a peer can make the reader
    /// buffer.
    ///
    /// # Errors
    ///
    /// [`LimitError`] below [`MIN_MAX_V2_LEN`], where headers of sound senders would be lost, and above
    /// [`MAX_V2_LEN`], which no header can reach.
    pub const fn max_v2_len(mut self, bytes: usize) -> Result<Self, LimitError> {
        if bytes < MIN_MAX_V2_LEN || bytes > MAX_V2_LEN {
            return Err(LimitError(bytes));
        }
        self.max_v2_len = bytes;
        Ok(self)
    }

    /// The formats accepted; others are refused with
    /// [`VersionNotAccepted`](crate::HeaderError::VersionNotAccepted). Default: all.
    ///
    /// SPP has no checksum, length or version: a datagram listener that expects v2 should exclude it, and the
    /// other way round.
    pub const fn formats(mut self, formats: Formats) -> Self {
        self.formats = formats;
        self
    }

    /// Whether a v1 line may carry one IPv4 and one IPv6 address. Default: no, §2.1 asks for one family.
    ///
    /// nginx writes such lines when its realip module has replaced the client's address. They are reported as
    /// IPv6, the IPv4 side mapped.
    pub const fn v1_mixed_families(mut self, accept: bool) -> Self {
        self.v1_mixed_families = accept;
        self
    }

    /// Whether a CRC32C inside a LOCAL header must match. Default: no, the content of LOCAL is to be discarded.
    ///
    /// Two rules of the specification disagree here: §2.2 says that LOCAL must be accepted, §2.2.3 that a wrong
    /// checksum makes the connection invalid. With `true`, content that reads as addresses of the announced family
    /// and TLVs is checked; content that does not is still discarded unseen.
    pub const fn crc_in_local(mut self, verify: bool) -> Self {
        self.crc_in_local = verify;
        self
    }

    /// The limit in force, in bytes.
    #[inline]
    pub(crate) const fn v2_limit(&self) -> usize {
        self.max_v2_len
    }

    /// An error unless headers of this version are wanted.
    #[inline]
    pub(crate) const fn demand(&self, version: Version) -> Result<(), HeaderError> {
        if self.formats.contains(version) { Ok(()) } else { Err(HeaderError::VersionNotAccepted(version)) }
    }

    /// Whether mixed v1 lines are wanted.
    pub(crate) const fn mixed_families(&self) -> bool {
        self.v1_mixed_families
    }

    /// Whether LOCAL headers are checksummed.
    pub(crate) const fn checks_local(&self) -> bool {
        self.crc_in_local
    }
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// A set of header formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Formats(u8);

impl Formats {
    /// Every format; each decoder takes those that exist on its transport.
    pub const ALL: Self = Self::V1.and(Self::V2).and(Self::SPP);
    /// Version 1 only.
    pub const V1: Self = Self::of(Version::V1);
    /// Version 2 only.
    pub const V2: Self = Self::of(Version::V2);
    /// SPP only.
    pub const SPP: Self = Self::of(Version::Spp);

    /// The union of both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `version` is in the set.
    #[inline]
    pub const fn contains(self, version: Version) -> bool {
        self.0 & Self::of(version).0 != 0
    }

    const fn of(version: Version) -> Self {
        Self(match version {
            Version::V1 => 1,
            Version::V2 => 2,
            Version::Spp => 4,
        })
    }
}

/// The limit asked of [`DecodeOptions::max_v2_len`] is outside what it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limit of {0} bytes for v2 headers is outside {MIN_MAX_V2_LEN} to {MAX_V2_LEN}")]
pub struct LimitError(pub usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_bounds() {
        assert_eq!(DecodeOptions::new().max_v2_len(4095), Err(LimitError(4095)));
        assert_eq!(DecodeOptions::new().max_v2_len(65552), Err(LimitError(65552)));
        for fine in [4096, 65551] {
            assert_eq!(DecodeOptions::new().max_v2_len(fine).map(|o| o.v2_limit()), Ok(fine));
        }
        assert_eq!(DecodeOptions::default().v2_limit(), 16384);
    }

    #[test]
    fn formats_are_a_set() {
        for version in [Version::V1, Version::V2, Version::Spp] {
            assert!(Formats::ALL.contains(version));
        }
        let set = Formats::V1.and(Formats::SPP);
        assert!(set.contains(Version::V1) && set.contains(Version::Spp) && !set.contains(Version::V2));
        // What is in both is in the union.
        assert_eq!(set.and(Formats::V1), set);
    }
}
