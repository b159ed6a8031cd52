//! PROXY protocol version 1 and 2 and Cloudflare's Simple Proxy Protocol: bytes to values and back.
//!
//! A proxy that speaks one of these puts a header in front of each connection, or each datagram, that says who the
//! client is. [`decode`] reads that header from the start of a stream buffer, [`decode_datagram`] from a datagram,
//! and [`encode`] writes it. Nothing here does I/O, reads a clock or allocates; the crate is `no_std`.
//!
//! # Reading a header from a stream
//!
//! The header arrives in as many pieces as the network likes, with payload right behind it. The decoder is asked
//! again whenever there are more bytes, and says how many of them were the header.
//!
//! ```
//! use std::io::{self, Read};
//! use std::net::SocketAddr;
//!
//! use mmproxy_codec::{Outcome, decode};
//!
//! /// The client behind the proxy, or `None` for a connection of the proxy's own; what was read of the payload
//! /// stays in `buf`.
//! fn read_header(stream: &mut impl Read, buf: &mut Vec<u8>) -> io::Result<Option<SocketAddr>> {
//!     loop {
//!         // An error means that no further byte can help: close the connection, do not answer.
//!         let missing = match decode(buf)? {
//!             Outcome::Complete { header, consumed } => {
//!                 let client = header.source();
//!                 buf.drain(..consumed);
//!                 return Ok(client);
//!             }
//!             Outcome::NeedMore(missing) => missing.get(),
//!         };
//!         let have = buf.len();
//!         buf.resize(have + missing, 0);
//!         let got = stream.read(&mut buf[have..])?;
//!         buf.truncate(have + got);
//!         if got == 0 {
//!             return Err(io::ErrorKind::UnexpectedEof.into());
//!         }
//!     }
//! }
//!
//! let mut stream = &b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\nGET / HTTP/1.1\r\n"[..];
//! let client = read_header(&mut stream, &mut Vec::new())?;
//! assert_eq!(client, Some("192.0.2.7:4711".parse().unwrap()));
//! # Ok::<_, io::Error>(())
//! ```
//!
//! A real server puts a deadline around this (§2: at least three seconds), and accepts headers only from proxies it
//! knows: whoever may send a header may claim any address. It never guesses whether there is a header; a listener
//! expects one or it does not.
//!
//! # What it decides, and what it leaves to you
//!
//! The decoder is as strict as the specification wherever a lenient reading has been exploited (numbers, separators,
//! line ends, lengths, checksums) and as tolerant wherever it asks for tolerance (LOCAL, `UNKNOWN`, UNSPEC, unknown
//! TLVs). A header's *meaning* is policy: whether a source port of 0, a multicast source, UDP announced on a TCP
//! connection or an IPv4-mapped address is fine is for the caller to say.
//!
//! Section numbers in this documentation (§2.1, §2.2, …) are those of HAProxy's `proxy-protocol.txt`, revision
//! 2026/04/27.
//!
//! # Features
//!
//! - `std` (default): conversions of the errors into [`std::io::Error`], and checksums by the processor's own
//!   instruction where it has one. Results are the same without.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "std"))]
extern crate std;

mod datagram;
mod detect;
pub mod encode;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod header;
mod options;
mod outcome;
mod spp;
mod v1;
mod v2;

use detect::Detected;

pub use datagram::{decode_datagram, decode_datagram_with};
pub use error::{Endpoint, HeaderError};
pub use header::{Addresses, Command, Family, Header, Transport, UnixAddr, UnixName, Version};
pub use options::{DEFAULT_MAX_V2_LEN, DecodeOptions, Formats, LimitError, MAX_V2_LEN, MIN_MAX_V2_LEN};
pub use outcome::Outcome;
pub use spp::SPP_LEN;
pub use v1::MAX_V1_LEN;
pub use v2::address::UNIX_ADDR_LEN;
pub use v2::ssl::{Ssl, SslClient};
pub use v2::tlv::{MAX_UNIQUE_ID_LEN, Tlv, TlvError, TlvType, TlvValue, Tlvs};
pub use v2::vendor::Alibaba;

/// The v1 or v2 header at the start of a stream, with default options.
///
/// `input` is everything that has been received so far, from the first byte on. Bytes behind the header are not
/// looked at: they are the application's.
///
/// # Errors
///
/// [`HeaderError`] if these bytes cannot be the start of a header, however many follow: the connection must be
/// aborted. That more bytes are needed is an [`Outcome`], not an error.
#[inline]
pub fn decode(input: &[u8]) -> Result<Outcome<Header<'_>>, HeaderError> {
    decode_with(input, const { &DecodeOptions::new() })
}

/// [`decode`] with options.
///
/// # Errors
///
/// As [`decode`].
#[inline]
pub fn decode_with<'a>(input: &'a [u8], options: &DecodeOptions) -> Result<Outcome<Header<'a>>, HeaderError> {
    match detect::stream(input) {
        Detected::V2 => {
            options.demand(Version::V2)?;
            v2::decode(input, options)
        }
        Detected::V1 => {
            options.demand(Version::V1)?;
            v1::decode(input, options)
        }
        Detected::V2Prefix => Ok(Outcome::need_more(input.len(), v2::MIN_LEN)),
        // The shortest header of all is a v1 line.
        Detected::V1Prefix | Detected::Empty => Ok(Outcome::need_more(input.len(), v1::MIN_LEN)),
        Detected::Spp | Detected::Other => Err(HeaderError::NotProxy),
    }
}
