//! Why bytes can never become a header, one variant per rule.

use crate::MAX_V1_LEN;
use crate::header::{Family, Version};

/// Which end of the proxied connection a field of a v1 line describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// The client.
    Source,
    /// The address the client connected to.
    Destination,
}

impl core::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Destination => "destination",
        })
    }
}

/// Why the input is refused, however many bytes may follow.
///
/// Sections are those of the PROXY protocol specification; a receiver that gets one of these must abort the
/// connection (§2.1: "any sequence which does not exactly match the protocol must be discarded") or drop the
/// datagram, without an answer. [`keyword`](Self::keyword) is the stable machine name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The first bytes are no PROXY protocol (§2.2, end). Decided at the first byte that differs.
    #[error("no PROXY protocol signature")]
    NotProxy,
    /// The header is of a format that the [options](crate::DecodeOptions::formats) exclude.
    #[error("{0} header where this version is not accepted")]
    VersionNotAccepted(Version),

    /// §2.1: no CRLF within the first 107 bytes.
    #[error("v1 line has no CRLF in its first {MAX_V1_LEN} bytes")]
    V1TooLong,
    /// §2.1: a CR that no LF follows, also in the ignored part of an UNKNOWN line.
    #[error("v1 line holds a CR without LF")]
    V1BareCr,
    /// §2.1: a LF that no CR precedes, also in the ignored part of an UNKNOWN line.
    #[error("v1 line holds a LF without CR")]
    V1BareLf,
    /// §2.1: fields are separated by exactly one space (0x20).
    #[error("v1 fields are not separated by exactly one space")]
    V1Separator,
    /// §2.1: fewer than six fields after TCP4 or TCP6, or nothing behind `PROXY`.
    #[error("v1 line ends before its sixth field")]
    V1MissingField,
    /// §2.1: more than six fields after TCP4 or TCP6, or a space at the end.
    #[error("v1 line goes on after its sixth field")]
    V1ExtraField,
    /// §2.1: only `TCP4`, `TCP6` and `UNKNOWN` exist, in this case.
    #[error("v1 protocol is none of TCP4, TCP6, UNKNOWN")]
    V1Protocol,
    /// §2.1: not an address of the announced family in its canonical text form.
    #[error("v1 {0} address is not one of the announced family")]
    V1Address(Endpoint),
    /// §2.1: not a decimal number from 0 to 65535 without leading zeros.
    #[error("v1 {0} port is not a decimal number from 0 to 65535")]
    V1Port(Endpoint),
    /// Version 1 describes TCP connections only; a datagram cannot carry it (§2.1).
    #[error("v1 header in a datagram")]
    V1OnDatagram,

    /// §2.2: the version nibble "must always be sent as 2 and the receiver must only accept this value".
    #[error("v2 signature with version {0}")]
    V2Version(u8),
    /// §2.2: commands other than LOCAL (0) and PROXY (1) are unassigned.
    #[error("v2 command {0:#x} is unassigned")]
    V2Command(u8),
    /// §2.2: families above AF_UNIX (3) "must be rejected as invalid by receivers".
    #[error("v2 address family {0:#x} is unassigned")]
    V2Family(u8),
    /// §2.2: transports above DGRAM (2) "must be rejected as invalid by receivers".
    #[error("v2 transport {0:#x} is unassigned")]
    V2Transport(u8),
    /// §2.2: the length field leaves no room for the addresses of the family.
    #[error("v2 length field is {got}, {family} addresses need {need} bytes")]
    V2ShortAddress {
        /// The announced family.
        family: Family,
        /// Bytes its address block takes.
        need: u16,
        /// Value of the length field.
        got: u16,
    },
    /// The announced size is above [`DecodeOptions::max_v2_len`](crate::DecodeOptions::max_v2_len).
    #[error("v2 header of {size} bytes is over the limit of {limit}")]
    V2TooLarge {
        /// Announced size in bytes, the 16 fixed ones included.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// §2.2: a TLV is cut off: fewer than three bytes are left, or its value runs past the end of the header.
    #[error("v2 TLV at byte {offset} runs past the end of the header")]
    V2Tlv {
        /// Where the TLV starts, counted from the start of the header.
        offset: usize,
    },
    /// §2.2.3: a CRC32C value is a 32-bit number.
    #[error("v2 CRC32C value has {0} bytes instead of 4")]
    V2Crc32cLen(usize),
    /// §2.2.3: the checksum "MUST" match, or the connection is invalid.
    #[error("v2 CRC32C is {stored:#010x}, the header's is {computed:#010x}")]
    V2Crc32c {
        /// What the header says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// §2.2.5: a unique id has up to 128 bytes.
    #[error("v2 UNIQUE_ID has {0} bytes, more than 128")]
    V2UniqueIdLen(usize),

    /// A datagram ends inside its header; nothing can follow it.
    #[error("datagram of {got} bytes ends inside its header of at least {need} bytes")]
    Truncated {
        /// Bytes the header needs at least; [`SPP_LEN`](crate::SPP_LEN) for SPP.
        need: usize,
        /// Length of the datagram.
        got: usize,
    },
}

impl HeaderError {
    /// The machine name, for logs, metrics and scripts. Never changes for a given rule.
    ///
    /// Rules that a sender breaks in the same way share a name: the three about v1 fields are `v1_bad_syntax`.
    pub const fn keyword(&self) -> &'static str {
        match self {
            Self::NotProxy => "not_proxy",
            Self::VersionNotAccepted(_) => "version_not_accepted",
            Self::V1TooLong => "v1_too_long",
            Self::V1BareCr => "v1_bare_cr",
            Self::V1BareLf => "v1_bare_lf",
            Self::V1Separator | Self::V1MissingField | Self::V1ExtraField => "v1_bad_syntax",
            Self::V1Protocol => "v1_bad_protocol",
            Self::V1Address(_) => "v1_bad_address",
            Self::V1Port(_) => "v1_bad_port",
            Self::V1OnDatagram => "v1_on_datagram",
            Self::V2Version(_) => "v2_bad_version",
            Self::V2Command(_) => "v2_bad_command",
            Self::V2Family(_) => "v2_bad_family",
            Self::V2Transport(_) => "v2_bad_transport",
            Self::V2ShortAddress { .. } => "v2_short_address",
            Self::V2TooLarge { .. } => "v2_too_large",
            Self::V2Tlv { .. } => "v2_bad_tlv",
            Self::V2Crc32cLen(_) | Self::V2Crc32c { .. } => "v2_bad_crc32c",
            Self::V2UniqueIdLen(_) => "v2_bad_unique_id",
            Self::Truncated { .. } => "truncated",
        }
    }
}

/// `InvalidData` with the error inside, so that readers can use `?` in functions that return [`std::io::Result`].
#[cfg(feature = "std")]
impl From<HeaderError> for std::io::Error {
    fn from(error: HeaderError) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}
