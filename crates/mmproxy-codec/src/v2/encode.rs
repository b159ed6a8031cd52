//! Writes v2 headers (§2.2).

use crate::detect::V2_SIGNATURE;
use crate::encode::{EncodeError, plain};
use crate::header::{Addresses, Family, Transport};
use crate::{MAX_V2_LEN, UNIX_ADDR_LEN};

use super::crc;
use super::field;
use super::ssl::SslClient;
use super::tlv::{MAX_UNIQUE_ID_LEN, PREFIX_LEN, TlvType};

/// Starts a PROXY header in `buf`, for a connection with these addresses.
///
/// [`Addresses::between`] makes them from two socket addresses. [`Addresses::Unspecified`] goes with
/// [`Transport::Unspec`] and tells the receiver to use the real endpoints, if it accepts that at all.
///
/// # Errors
///
/// [`EncodeError::Combination`], [`EncodeError::Scope`] and [`EncodeError::Buffer`].
pub fn v2<'b>(
    buf: &'b mut [u8],
    transport: Transport,
    addresses: Addresses<'_>,
) -> Result<V2Encoder<'b>, EncodeError> {
    let family = addresses.family();
    if (family == Family::Unspec) != (transport == Transport::Unspec) {
        return Err(EncodeError::Combination { family, transport });
    }
    let encoder = V2Encoder::new(buf, PROXY, family_transport(family, transport))?;
    match addresses {
        Addresses::Unspecified => Ok(encoder),
        Addresses::Inet { source, destination } => encoder
            .put(&source.ip().octets())?
            .put(&destination.ip().octets())?
            .put(&source.port().to_be_bytes())?
            .put(&destination.port().to_be_bytes()),
        Addresses::Inet6 { source, destination } => encoder
            .put(&plain(source)?.ip().octets())?
            .put(&plain(destination)?.ip().octets())?
            .put(&source.port().to_be_bytes())?
            .put(&destination.port().to_be_bytes()),
        Addresses::Unix { source, destination } => encoder.put(source.raw())?.put(destination.raw()),
    }
}

/// Starts a LOCAL header in `buf`: a connection of the proxy's own, such as a health check.
///
/// Finish it without TLVs unless the receiver is known to want them; some take its content for an error.
///
/// # Errors
///
/// [`EncodeError::Buffer`] below 16 bytes.
pub fn v2_local(buf: &mut [u8]) -> Result<V2Encoder<'_>, EncodeError> {
    V2Encoder::new(buf, LOCAL, family_transport(Family::Unspec, Transport::Unspec))
}

/// The 108 bytes for a UNIX socket of this name, for [`UnixAddr::new`](crate::UnixAddr::new).
///
/// Empty for an unnamed socket; an abstract name begins with NUL.
///
/// # Errors
///
/// [`EncodeError::UnixNameLen`] above 108 bytes. [`EncodeError::UnixNameNul`] if the receiver would read a shorter
/// name: a path with a NUL in it, or an abstract name that ends with one.
pub fn unix_addr(name: &[u8]) -> Result<[u8; UNIX_ADDR_LEN], EncodeError> {
    let mut raw = [0; UNIX_ADDR_LEN];
    raw.get_mut(..name.len()).ok_or(EncodeError::UnixNameLen(name.len()))?.copy_from_slice(name);
    match name {
        [0, .., last] | [last @ 0] if *last == 0 => Err(EncodeError::UnixNameNul),
        [first, ..] if *first != 0 && name.contains(&0) => Err(EncodeError::UnixNameNul),
        _ => Ok(raw),
    }
}

/// A v2 header being written; the TLVs come in the order they are added.
#[derive(Debug)]
#[must_use = "nothing is sent until the header is finished"]
pub struct V2Encoder<'b> {
    buf: &'b mut [u8],
    /// Bytes written. Invariant: `field::REST <= len <= MAX_V2_LEN` and `len <= buf.len()`.
    len: usize,
}

impl<'b> V2Encoder<'b> {
    fn new(buf: &'b mut [u8], version_command: u8, family_transport: u8) -> Result<Self, EncodeError> {
        Self { buf, len: 0 }.put(&V2_SIGNATURE)?.put(&[version_command, family_transport])?.put(&[0, 0])
    }

    /// Adds a vector. What its value means is the caller's affair.
    ///
    /// # Errors
    ///
    /// [`EncodeError::Buffer`] and [`EncodeError::TooLong`]; [`EncodeError::UniqueIdLen`] and
    /// [`EncodeError::Crc32c`], for which receivers would refuse the header.
    pub fn tlv(self, kind: TlvType, value: &[u8]) -> Result<Self, EncodeError> {
        match kind {
            TlvType::CRC32C => Err(EncodeError::Crc32c),
            TlvType::UNIQUE_ID if value.len() > MAX_UNIQUE_ID_LEN => {
                Err(EncodeError::UniqueIdLen(value.len()))
            }
            _ => self.prefix(kind, value.len())?.put(value),
        }
    }

    /// Adds an SSL vector (§2.2.6) with `vectors` inside it.
    ///
    /// `verify` is the result of verifying the client's certificate, 0 for success.
    ///
    /// # Errors
    ///
    /// [`EncodeError::Buffer`] and [`EncodeError::TooLong`].
    pub fn ssl(
        self,
        client: SslClient,
        verify: u32,
        vectors: &[(TlvType, &[u8])],
    ) -> Result<Self, EncodeError> {
        let fixed = size_of::<u8>() + size_of::<u32>();
        let inside: usize = vectors.iter().map(|(_, value)| PREFIX_LEN + value.len()).sum();
        let start =
            self.prefix(TlvType::SSL, fixed + inside)?.put(&[client.0])?.put(&verify.to_be_bytes())?;
        vectors
            .iter()
            .try_fold(start, |encoder, (kind, value)| encoder.prefix(*kind, value.len())?.put(value))
    }

    /// The finished header.
    pub fn finish(self) -> &'b [u8] {
        let Self { buf, len } = self;
        let length = u16::try_from(len - field::REST).expect("no more than MAX_V2_LEN was written");
        buf[field::LENGTH].copy_from_slice(&length.to_be_bytes());
        &buf[..len]
    }

    /// The finished header, with a CRC32C of it as its last vector (§2.2.3).
    ///
    /// # Errors
    ///
    /// [`EncodeError::Buffer`] and [`EncodeError::TooLong`].
    pub fn finish_with_crc(self) -> Result<&'b [u8], EncodeError> {
        let Self { buf, len } = self.prefix(TlvType::CRC32C, crc::LEN)?.put(&[0; crc::LEN])?;
        let length = u16::try_from(len - field::REST).expect("no more than MAX_V2_LEN was written");
        buf[field::LENGTH].copy_from_slice(&length.to_be_bytes());
        let value = len - crc::LEN;
        let checksum = crc::of(&buf[..len], value);
        buf[value..len].copy_from_slice(&checksum.to_be_bytes());
        Ok(&buf[..len])
    }

    /// Type and length of a vector.
    fn prefix(self, kind: TlvType, len: usize) -> Result<Self, EncodeError> {
        let size = u16::try_from(len).map_err(|_| EncodeError::TooLong(self.len + PREFIX_LEN + len))?;
        self.put(&[kind.0])?.put(&size.to_be_bytes())
    }

    fn put(mut self, bytes: &[u8]) -> Result<Self, EncodeError> {
        let end = self.len + bytes.len();
        if end > MAX_V2_LEN {
            return Err(EncodeError::TooLong(end));
        }
        let got = self.buf.len();
        self.buf.get_mut(self.len..end).ok_or(EncodeError::Buffer { need: end, got })?.copy_from_slice(bytes);
        self.len = end;
        Ok(self)
    }
}

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

const fn family_transport(family: Family, transport: Transport) -> u8 {
    let family = match family {
        Family::Unspec => 0x00,
        Family::Inet => 0x10,
        Family::Inet6 => 0x20,
        Family::Unix => 0x30,
    };
    let transport = match transport {
        Transport::Unspec => 0,
        Transport::Stream => 1,
        Transport::Datagram => 2,
    };
    family | transport
}
