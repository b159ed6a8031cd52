//! Version 2: binary (§2.2).

pub(crate) mod address;
pub(crate) mod crc;
pub(crate) mod encode;
pub(crate) mod ssl;
pub(crate) mod tlv;
pub(crate) mod vendor;

use crate::error::HeaderError;
use crate::header::{Command, Family, Header, Transport, Version};
use crate::options::DecodeOptions;
use crate::outcome::Outcome;

/// The header at the start of `input`, which begins with the v2 signature.
///
/// The checks come in the order of the bytes, each as soon as its byte is there: version, command, family,
/// transport, length; then the whole header is waited for, and its TLVs and checksum are looked at.
#[inline(always)]
pub(crate) fn decode<'a>(
    input: &'a [u8],
    options: &DecodeOptions,
) -> Result<Outcome<Header<'a>>, HeaderError> {
    let Some(fixed) = input.first_chunk::<{ field::REST }>() else {
        return partial(input);
    };
    let [.., version_command, kind, high, low] = *fixed;
    // UNIX addresses and what is unassigned need not be compared with four kinds of header first.
    if kind < 0x30
        && let Some((header, consumed)) = plain(input, fixed)
    {
        return Ok(Outcome::Complete { header, consumed });
    }
    let len = u16::from_be_bytes([high, low]);
    match command(version_command)? {
        Command::Local => local(input, len, options),
        Command::Proxy => {
            let (family, transport) = family_transport(kind)?;
            proxy(input, family, transport, len, options)
        }
    }
}

/// What nearly every header is, and its length: PROXY, internet addresses and nothing else.
///
/// [`proxy`] says the same of these headers, only later; a test says so.
#[inline(always)]
fn plain<'a>(input: &'a [u8], fixed: &[u8; field::REST]) -> Option<(Header<'a>, usize)> {
    let [.., version_command, kind, high, low] = *fixed;
    let transport = if kind & 0x0F == 1 { Transport::Stream } else { Transport::Datagram };
    // One comparison for all four bytes: version 2 and PROXY, family and transport, the length of the addresses.
    let (family, end) = match u32::from_be_bytes([version_command, kind, high, low]) {
        0x2111_000C | 0x2112_000C => (Family::Inet, field::REST + 12),
        0x2121_0024 | 0x2122_0024 => (Family::Inet6, field::REST + 36),
        _ => return None,
    };
    let bare = Header::bare(Version::V2, Command::Proxy, family, transport);
    let (header, _) = address::read(bare, input.get(field::REST..end)?, family, transport)?;
    Some((header, end))
}

/// A PROXY header of a known family and transport, `len` bytes behind its fixed part.
#[inline(never)]
fn proxy<'a>(
    input: &'a [u8],
    family: Family,
    transport: Transport,
    len: u16,
    options: &DecodeOptions,
) -> Result<Outcome<Header<'a>>, HeaderError> {
    let need = address::block_len(family, transport);
    if len < need {
        return Err(HeaderError::V2ShortAddress { family, need, got: len });
    }
    let Some(wire) = whole(input, len, options)? else {
        return Ok(Outcome::need_more(input.len(), field::REST + usize::from(len)));
    };
    let bare = Header::bare(Version::V2, Command::Proxy, family, transport);
    let header = match address::read(bare, &wire[field::REST..], family, transport) {
        Some((header, tlvs)) => {
            tlv::check(wire, tlvs)?;
            header
        }
        // UNSPEC in either nibble: §2.2 lets the receiver accept, and asks it to ignore what is in the block.
        None => bare,
    };
    Ok(Outcome::Complete { header, consumed: wire.len() })
}

/// A LOCAL header, `len` bytes behind its fixed part, whatever they are.
///
/// §2.2: LOCAL must "discard the protocol block including the family which is ignored", even an unassigned one.
#[inline(never)]
fn local<'a>(input: &'a [u8], len: u16, options: &DecodeOptions) -> Result<Outcome<Header<'a>>, HeaderError> {
    let Some(wire) = whole(input, len, options)? else {
        return Ok(Outcome::need_more(input.len(), field::REST + usize::from(len)));
    };
    let header = Header::bare(Version::V2, Command::Local, Family::Unspec, Transport::Unspec);
    if options.checks_local() {
        let block = &wire[field::REST..];
        let read = family_transport(wire[field::FAMILY_TRANSPORT])
            .ok()
            .and_then(|(family, transport)| address::read(header, block, family, transport));
        let tlvs = read.map_or(block, |(_, tlvs)| tlvs);
        // No other rule counts here: what is not a list of TLVs after all is discarded unseen.
        if let Err(error @ (HeaderError::V2Crc32c { .. } | HeaderError::V2Crc32cLen(_))) =
            tlv::check(wire, tlvs)
        {
            return Err(error);
        }
    }
    Ok(Outcome::Complete { header, consumed: wire.len() })
}

/// All bytes of the header, or `None` if some are missing.
fn whole<'a>(input: &'a [u8], len: u16, options: &DecodeOptions) -> Result<Option<&'a [u8]>, HeaderError> {
    let size = field::REST + usize::from(len);
    let limit = options.v2_limit();
    if size > limit { Err(HeaderError::V2TooLarge { size, limit }) } else { Ok(input.get(..size)) }
}

/// Less than the fixed part: what is there can be hopeless already.
#[cold]
fn partial(input: &[u8]) -> Result<Outcome<Header<'_>>, HeaderError> {
    if let Some(byte) = input.get(field::VERSION_COMMAND)
        && command(*byte)? == Command::Proxy
        && let Some(byte) = input.get(field::FAMILY_TRANSPORT)
    {
        family_transport(*byte)?;
    }
    Ok(Outcome::need_more(input.len(), field::REST))
}

/// The thirteenth byte: version and command.
#[inline]
const fn command(byte: u8) -> Result<Command, HeaderError> {
    match byte {
        0x20 => Ok(Command::Local),
        0x21 => Ok(Command::Proxy),
        _ if byte >> 4 != 2 => Err(HeaderError::V2Version(byte >> 4)),
        _ => Err(HeaderError::V2Command(byte & 0x0F)),
    }
}

/// The fourteenth byte: family and transport.
#[inline]
const fn family_transport(byte: u8) -> Result<(Family, Transport), HeaderError> {
    let family = match byte >> 4 {
        0 => Family::Unspec,
        1 => Family::Inet,
        2 => Family::Inet6,
        3 => Family::Unix,
        other => return Err(HeaderError::V2Family(other)),
    };
    let transport = match byte & 0x0F {
        0 => Transport::Unspec,
        1 => Transport::Stream,
        2 => Transport::Datagram,
        other => return Err(HeaderError::V2Transport(other)),
    };
    Ok((family, transport))
}

/// The least number of bytes a v2 header can have: its fixed part.
pub(crate) const MIN_LEN: usize = field::REST;

/// Byte positions in a v2 header (§2.2).
mod field {
    use core::ops::Range;

    pub(super) const VERSION_COMMAND: usize = 12;
    pub(super) const FAMILY_TRANSPORT: usize = 13;
    pub(super) const LENGTH: Range<usize> = 14..16;
    /// End of the fixed part; `LENGTH` counts from here.
    pub(super) const REST: usize = LENGTH.end;
}

#[cfg(test)]
mod tests;
