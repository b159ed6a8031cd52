//! Values to bytes, without allocation: v1 lines, v2 headers into a buffer of the caller's, SPP.
//!
//! Nothing is truncated and nothing is guessed: what a format cannot say is an [`EncodeError`]. A header must be
//! sent in one write, before anything else on the connection (§2).
//!
//! ```
//! use mmproxy_codec::encode;
//! use mmproxy_codec::{Addresses, TlvType, Transport};
//!
//! let (client, server) = ("192.0.2.7:4711".parse().unwrap(), "198.51.100.1:443".parse().unwrap());
//! assert_eq!(&*encode::v1(client, server)?, b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n");
//!
//! let mut buf = [0; 128];
//! let header = encode::v2(&mut buf, Transport::Stream, Addresses::between(client, server))?
//!     .tlv(TlvType::AUTHORITY, b"example.test")?
//!     .finish_with_crc()?;
//! assert_eq!(header.len(), 16 + 12 + 3 + 12 + 3 + 4);
//! # Ok::<_, encode::EncodeError>(())
//! ```

use core::net::{SocketAddr, SocketAddrV6};

use crate::header::{Family, Transport};
use crate::v2::tlv::MAX_UNIQUE_ID_LEN;
use crate::{MAX_V2_LEN, UNIX_ADDR_LEN};

pub use crate::spp::{spp, spp_reply};
pub use crate::v1::encode::{V1Line, v1, v1_unknown};
pub use crate::v2::encode::{V2Encoder, unix_addr, v2, v2_local};

/// Why a value cannot be written in a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The caller's buffer is full.
    #[error("header needs at least {need} bytes, the buffer has {got}")]
    Buffer {
        /// Bytes needed so far.
        need: usize,
        /// Bytes there are.
        got: usize,
    },
    /// The length field has 16 bits (§2.2).
    #[error("header of {0} bytes is longer than the {MAX_V2_LEN} a v2 header can have")]
    TooLong(usize),
    /// No format has a place for the scope or flow information of an IPv6 address. If they mean nothing to the
    /// receiver, take them off first.
    #[error("IPv6 address with scope or flow information")]
    Scope,
    /// A pair that receivers need not understand or would ignore: addresses with an UNSPEC transport, or the other
    /// way round. §2.2 lists the pairs to expect.
    #[error("{family} addresses cannot be sent with {transport} transport")]
    Combination {
        /// Family of the addresses.
        family: Family,
        /// Transport asked for.
        transport: Transport,
    },
    /// A UNIX name is too long; an abstract one counts its leading NUL.
    #[error("UNIX name of {0} bytes is longer than {UNIX_ADDR_LEN}")]
    UnixNameLen(usize),
    /// A NUL that the receiver would take for the end of a UNIX name, or for padding.
    #[error("UNIX name ends early, at a NUL")]
    UnixNameNul,
    /// §2.2.5: a unique id has up to 128 bytes; receivers refuse headers with longer ones.
    #[error("UNIQUE_ID of {0} bytes is longer than {MAX_UNIQUE_ID_LEN}")]
    UniqueIdLen(usize),
    /// A checksum by hand: it covers the whole header and is filled in at the end, by
    /// [`finish_with_crc`](V2Encoder::finish_with_crc).
    #[error("CRC32C is filled in by the encoder")]
    Crc32c,
}

/// `InvalidInput` with the error inside.
#[cfg(feature = "std")]
impl From<EncodeError> for std::io::Error {
    fn from(error: EncodeError) -> Self {
        Self::new(std::io::ErrorKind::InvalidInput, error)
    }
}

/// The address, if it has nothing that the formats cannot carry.
pub(crate) fn plain(address: SocketAddrV6) -> Result<SocketAddrV6, EncodeError> {
    if address.scope_id() == 0 && address.flowinfo() == 0 { Ok(address) } else { Err(EncodeError::Scope) }
}

/// [`plain`], if the address is IPv6.
pub(crate) fn check(address: SocketAddr) -> Result<(), EncodeError> {
    match address {
        SocketAddr::V4(_) => Ok(()),
        SocketAddr::V6(v6) => plain(v6).map(drop),
    }
}
