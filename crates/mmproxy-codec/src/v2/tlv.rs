//! Type-length-value vectors behind the addresses (§2.2).

use core::fmt;
use core::str;

use nom::IResult;
use nom::Parser;
use nom::combinator::map;
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16};
use nom::sequence::pair;

use super::crc;
use super::ssl::Ssl;
use super::vendor::{self, Alibaba};
use crate::error::HeaderError;

/// One vector: a type and its value, whose meaning is looked at only when asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tlv<'a> {
    kind: TlvType,
    value: &'a [u8],
}

impl<'a> Tlv<'a> {
    /// What the value is about.
    pub const fn kind(&self) -> TlvType {
        self.kind
    }

    /// The value as it was sent, 0 to 65535 bytes.
    pub const fn value(&self) -> &'a [u8] {
        self.value
    }

    /// The value as what its type says.
    ///
    /// A type in the custom range is named after the vendor that is known to use it only if the value has that
    /// vendor's form, since anybody may use the range; otherwise it is [`TlvValue::Custom`].
    ///
    /// # Errors
    ///
    /// [`TlvError`] if a registered type has a value of another form. The header is sound nonetheless.
    pub fn parse(&self) -> Result<TlvValue<'a>, TlvError> {
        let (kind, value) = (self.kind, self.value);
        Ok(match kind {
            TlvType::ALPN => TlvValue::Alpn(value),
            TlvType::AUTHORITY => TlvValue::Authority(utf8(value)?),
            TlvType::CRC32C => TlvValue::Crc32c(checksum(value).ok_or(TlvError::Length)?),
            TlvType::NOOP => TlvValue::Noop,
            TlvType::UNIQUE_ID => TlvValue::UniqueId(value),
            TlvType::SSL => TlvValue::Ssl(Ssl::parse(value)?),
            TlvType::NETNS => TlvValue::Netns(ascii(value)?),
            TlvType(0xE0..=0xEF) => vendor::parse(kind, value).unwrap_or(TlvValue::Custom(kind, value)),
            TlvType(0xF0..=0xF7) => TlvValue::Experimental(kind, value),
            TlvType(0xF8..=0xFF) => TlvValue::Future(kind, value),
            TlvType(_) => TlvValue::Unknown(kind, value),
        })
    }
}

impl fmt::Debug for Tlv<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=\"{}\"", self.kind, self.value.escape_ascii())
    }
}

/// What a [`Tlv`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlvValue<'a> {
    /// The protocol negotiated by the client's TLS, for example `h2` (§2.2.1).
    Alpn(&'a [u8]),
    /// The host name the client asked for, from TLS its SNI (§2.2.2).
    Authority(&'a str),
    /// The header's checksum, which was verified when the header was decoded (§2.2.3).
    Crc32c(u32),
    /// Padding (§2.2.4).
    Noop,
    /// What identifies the connection across proxies, up to 128 bytes (§2.2.5).
    UniqueId(&'a [u8]),
    /// The client's TLS (§2.2.6).
    Ssl(Ssl<'a>),
    /// Name of the network namespace the proxy took the connection in (§2.2.7).
    Netns(&'a str),
    /// AWS: id of the VPC endpoint the connection came through, for example `vpce-08d2bf15fac5001c9`.
    AwsVpcEndpointId(&'a str),
    /// Azure: link id of the private endpoint.
    AzurePrivateEndpointLinkId(u32),
    /// Google Cloud: connection id of Private Service Connect.
    GcpPscConnectionId(u64),
    /// Alibaba Cloud: where a PrivateLink connection came from.
    Alibaba(Alibaba<'a>),
    /// 0xE0 to 0xEF: an application's own (§2.2.8).
    Custom(TlvType, &'a [u8]),
    /// 0xF0 to 0xF7: an experiment (§2.2.8).
    Experimental(TlvType, &'a [u8]),
    /// 0xF8 to 0xFF: reserved for an extension of the protocol (§2.2.8).
    Future(TlvType, &'a [u8]),
    /// Not registered when this was written; to be ignored (§2.2).
    Unknown(TlvType, &'a [u8]),
}

/// Why the value of a TLV is not what its type says. The header it is in stays valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TlvError {
    /// Text that is not UTF-8.
    #[error("TLV value is not UTF-8")]
    NotUtf8,
    /// Text that is not US-ASCII.
    #[error("TLV value is not US-ASCII")]
    NotAscii,
    /// Shorter or longer than its type allows.
    #[error("TLV value has the wrong length")]
    Length,
    /// A vector inside the value is cut off.
    #[error("TLV inside a TLV runs past its end")]
    Nested,
}

/// The vectors of a header, in wire order, duplicates and padding included.
///
/// An iterator, and an index: the methods named after a type find the *first* vector of that type among those not
/// yet taken.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tlvs<'a> {
    /// Invariant: a sequence of whole TLVs.
    rest: &'a [u8],
}

impl<'a> Tlvs<'a> {
    /// `rest` must be a sequence of whole TLVs.
    pub(crate) const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// The first vector of this type.
    pub fn first(&self, kind: TlvType) -> Option<Tlv<'a>> {
        self.clone().find(|tlv| tlv.kind == kind)
    }

    /// [`TlvValue::Alpn`].
    pub fn alpn(&self) -> Option<&'a [u8]> {
        self.first(TlvType::ALPN).map(|tlv| tlv.value)
    }

    /// [`TlvValue::Authority`].
    ///
    /// # Errors
    ///
    /// [`TlvError::NotUtf8`].
    pub fn authority(&self) -> Option<Result<&'a str, TlvError>> {
        self.first(TlvType::AUTHORITY).map(|tlv| utf8(tlv.value))
    }

    /// [`TlvValue::Crc32c`].
    pub fn crc32c(&self) -> Option<u32> {
        self.first(TlvType::CRC32C).and_then(|tlv| checksum(tlv.value))
    }

    /// [`TlvValue::UniqueId`].
    pub fn unique_id(&self) -> Option<&'a [u8]> {
        self.first(TlvType::UNIQUE_ID).map(|tlv| tlv.value)
    }

    /// [`TlvValue::Ssl`].
    ///
    /// # Errors
    ///
    /// [`TlvError::Length`] and [`TlvError::Nested`].
    pub fn ssl(&self) -> Option<Result<Ssl<'a>, TlvError>> {
        self.first(TlvType::SSL).map(|tlv| Ssl::parse(tlv.value))
    }

    /// [`TlvValue::Netns`].
    ///
    /// # Errors
    ///
    /// [`TlvError::NotAscii`].
    pub fn netns(&self) -> Option<Result<&'a str, TlvError>> {
        self.first(TlvType::NETNS).map(|tlv| ascii(tlv.value))
    }

    /// [`TlvValue::AwsVpcEndpointId`].
    pub fn aws_vpc_endpoint_id(&self) -> Option<&'a str> {
        self.vendor(TlvType::AWS, vendor::aws_vpc_endpoint_id)
    }

    /// [`TlvValue::AzurePrivateEndpointLinkId`].
    pub fn azure_private_endpoint_link_id(&self) -> Option<u32> {
        self.vendor(TlvType::AZURE, vendor::azure_private_endpoint_link_id)
    }

    /// [`TlvValue::GcpPscConnectionId`].
    pub fn gcp_psc_connection_id(&self) -> Option<u64> {
        self.vendor(TlvType::GCP, vendor::gcp_psc_connection_id)
    }

    /// [`TlvValue::Alibaba`], each in a vector of its own.
    pub fn alibaba(&self) -> impl Iterator<Item = Alibaba<'a>> + use<'a> {
        self.clone().filter(|tlv| tlv.kind == TlvType::ALIBABA).filter_map(|tlv| vendor::alibaba(tlv.value))
    }

    /// The first vector of this type that has the vendor's form.
    fn vendor<T>(&self, kind: TlvType, read: impl Fn(&'a [u8]) -> Option<T>) -> Option<T> {
        self.clone().filter(|tlv| tlv.kind == kind).find_map(|tlv| read(tlv.value))
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        let (rest, tlv) = tlv(self.rest).ok()?;
        self.rest = rest;
        Some(tlv)
    }
}

impl core::iter::FusedIterator for Tlvs<'_> {}

impl fmt::Debug for Tlvs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// Whether `tlvs`, the end of `header`, are whole and keep the rules whose breach spoils the header.
///
/// A second CRC32C is undefined by §2.2.3; each must match with only its own four bytes taken as zero.
#[inline]
pub(super) fn check(header: &[u8], tlvs: &[u8]) -> Result<(), HeaderError> {
    if tlvs.is_empty() { Ok(()) } else { walk(header, tlvs) }
}

fn walk(header: &[u8], tlvs: &[u8]) -> Result<(), HeaderError> {
    let mut rest = tlvs;
    let mut checksums = 0;
    let mut checksum_at = 0;
    while !rest.is_empty() {
        let offset = header.len() - rest.len();
        let Ok((behind, found)) = tlv(rest) else {
            return Err(HeaderError::V2Tlv { offset });
        };
        match found.kind {
            TlvType::CRC32C if found.value.len() != crc::LEN => {
                return Err(HeaderError::V2Crc32cLen(found.value.len()));
            }
            TlvType::CRC32C => {
                checksums += 1;
                checksum_at = offset + PREFIX_LEN;
            }
            TlvType::UNIQUE_ID if found.value.len() > MAX_UNIQUE_ID_LEN => {
                return Err(HeaderError::V2UniqueIdLen(found.value.len()));
            }
            _ => {}
        }
        rest = behind;
    }
    // Only now: that a list is broken is said before that its checksum is wrong.
    match checksums {
        0 => Ok(()),
        1 => crc::verify(header, checksum_at),
        _ => verify_all(header, tlvs),
    }
}

/// Verifies each of several checksums in `tlvs`, the end of `header`.
#[cold]
fn verify_all(header: &[u8], tlvs: &[u8]) -> Result<(), HeaderError> {
    let mut vectors = Tlvs::new(tlvs);
    while let Some(tlv) = vectors.next() {
        if tlv.kind == TlvType::CRC32C {
            crc::verify(header, header.len() - vectors.rest.len() - crc::LEN)?;
        }
    }
    Ok(())
}

/// One vector.
#[inline]
fn tlv(input: &[u8]) -> IResult<&[u8], Tlv<'_>> {
    map(pair(be_u8, length_data(be_u16)), |(kind, value)| Tlv { kind: TlvType(kind), value }).parse(input)
}

/// Whether `input` is a sequence of whole vectors.
pub(super) fn whole(input: &[u8]) -> bool {
    let mut tlvs = Tlvs::new(input);
    tlvs.by_ref().for_each(drop);
    tlvs.rest.is_empty()
}

/// The number in a CRC32C value, stored in network byte order.
fn checksum(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

pub(super) fn utf8(value: &[u8]) -> Result<&str, TlvError> {
    str::from_utf8(value).map_err(|_| TlvError::NotUtf8)
}

pub(super) fn ascii(value: &[u8]) -> Result<&str, TlvError> {
    if value.is_ascii() { utf8(value) } else { Err(TlvError::NotAscii) }
}

/// Type and length of a vector, in bytes.
pub(super) const PREFIX_LEN: usize = 3;

/// Longest UNIQUE_ID in bytes (§2.2.5).
pub const MAX_UNIQUE_ID_LEN: usize = 128;

/// The type of a [`Tlv`]. Types without a constant are carried all the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlvType(pub u8);

impl TlvType {
    /// §2.2.1.
    pub const ALPN: Self = Self(0x01);
    /// §2.2.2.
    pub const AUTHORITY: Self = Self(0x02);
    /// §2.2.3.
    pub const CRC32C: Self = Self(0x03);
    /// §2.2.4.
    pub const NOOP: Self = Self(0x04);
    /// §2.2.5.
    pub const UNIQUE_ID: Self = Self(0x05);
    /// §2.2.6.
    pub const SSL: Self = Self(0x20);
    /// Inside [`SSL`](Self::SSL): version of TLS, US-ASCII.
    pub const SSL_VERSION: Self = Self(0x21);
    /// Inside [`SSL`](Self::SSL): common name of the client's certificate, UTF-8.
    pub const SSL_CN: Self = Self(0x22);
    /// Inside [`SSL`](Self::SSL): name of the cipher, US-ASCII.
    pub const SSL_CIPHER: Self = Self(0x23);
    /// Inside [`SSL`](Self::SSL): algorithm that signed the proxy's certificate, US-ASCII.
    pub const SSL_SIG_ALG: Self = Self(0x24);
    /// Inside [`SSL`](Self::SSL): algorithm of the key in the proxy's certificate, US-ASCII.
    pub const SSL_KEY_ALG: Self = Self(0x25);
    /// Inside [`SSL`](Self::SSL): key exchange group, US-ASCII.
    pub const SSL_GROUP: Self = Self(0x26);
    /// Inside [`SSL`](Self::SSL): signature scheme of the handshake, US-ASCII.
    pub const SSL_SIG_SCHEME: Self = Self(0x27);
    /// Inside [`SSL`](Self::SSL): the client's certificate, DER.
    pub const SSL_CLIENT_CERT: Self = Self(0x28);
    /// §2.2.7.
    pub const NETNS: Self = Self(0x30);
    /// Google Cloud's use of the custom range.
    pub const GCP: Self = Self(0xE0);
    /// Alibaba Cloud's use of the custom range.
    pub const ALIBABA: Self = Self(0xE1);
    /// Amazon's use of the custom range.
    pub const AWS: Self = Self(0xEA);
    /// Azure's use of the custom range.
    pub const AZURE: Self = Self(0xEE);

    /// The registered name, without prefix: `ALPN`, `SSL_CN`, …
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::ALPN => "ALPN",
            Self::AUTHORITY => "AUTHORITY",
            Self::CRC32C => "CRC32C",
            Self::NOOP => "NOOP",
            Self::UNIQUE_ID => "UNIQUE_ID",
            Self::SSL => "SSL",
            Self::SSL_VERSION => "SSL_VERSION",
            Self::SSL_CN => "SSL_CN",
            Self::SSL_CIPHER => "SSL_CIPHER",
            Self::SSL_SIG_ALG => "SSL_SIG_ALG",
            Self::SSL_KEY_ALG => "SSL_KEY_ALG",
            Self::SSL_GROUP => "SSL_GROUP",
            Self::SSL_SIG_SCHEME => "SSL_SIG_SCHEME",
            Self::SSL_CLIENT_CERT => "SSL_CLIENT_CERT",
            Self::NETNS => "NETNS",
            _ => return None,
        })
    }
}

impl fmt::Display for TlvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#04x}", self.0),
        }
    }
}

impl fmt::Debug for TlvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
