//! Version 2: binary (§2.2).

pub(crate) mod address;
pub(crate) mod crc;
pub(crate) mod encode;
pub(crate) mod ssl;
pub(crate) mod tlv;
pub(crate) mod vendor;

use crate::error::HeaderError;
use crate::header::{Addresses, Command, Family, Header, Transport, Version};
use crate::options::DecodeOptions;
use crate::outcome::Outcome;

/// The header at the start of `input`, which begins with the v2 signature.
///
/// The checks come in the order of the bytes, each as soon as its byte is there: version, command, family,
/// transport, length; then the whole header is waited for, and its TLVs and checksum are looked at.
#[inline]
pub(crate) fn decode<'a>(
    input: &'a [u8],
    options: &DecodeOptions,
) -> Result<Outcome<Header<'a>>, HeaderError> {
    let Some(fixed) = input.first_chunk::<{ field::REST }>() else {
        return partial(input);
    };
    let command = command(fixed[field::VERSION_COMMAND])?;
    let kind = match command {
        Command::Proxy => Some(family_transport(fixed[field::FAMILY_TRANSPORT])?),
        // §2.2: LOCAL must "discard the protocol block including the family which is ignored", even an unassigned one.
        Command::Local => None,
    };
    let len = u16::from_be_bytes([fixed[field::LENGTH.start], fixed[field::LENGTH.start + 1]]);
    if let Some((family, transport)) = kind {
        let need = address::block_len(family, transport);
        if len < need {
            return Err(HeaderError::V2ShortAddress { family, need, got: len });
        }
    }
    let end = field::REST + usize::from(len);
    if end > options.v2_limit() {
        return Err(HeaderError::V2TooLarge { size: end, limit: options.v2_limit() });
    }
    let Some(header) = input.get(..end) else {
        return Ok(Outcome::need_more(input.len(), end));
    };
    let header = match kind {
        Some((family, transport)) => proxy(header, family, transport)?,
        None => local(header, options)?,
    };
    Ok(Outcome::Complete { header, consumed: end })
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

/// A whole PROXY header whose length field leaves room for its addresses.
#[inline]
fn proxy(header: &[u8], family: Family, transport: Transport) -> Result<Header<'_>, HeaderError> {
    // UNSPEC in either nibble: §2.2 lets the receiver accept, and asks it to ignore what is in the block.
    let (addresses, tlvs) = match address::read(&header[field::REST..], family, transport) {
        Some((addresses, tlvs)) => (addresses, tlv::checked(header, tlvs)?),
        None => (Addresses::Unspecified, [].as_slice()),
    };
    Ok(Header { version: Version::V2, command: Command::Proxy, family, transport, addresses, tlvs })
}

/// A whole LOCAL header, whatever is in it.
fn local<'a>(header: &[u8], options: &DecodeOptions) -> Result<Header<'a>, HeaderError> {
    if options.checks_local() {
        let block = &header[field::REST..];
        let tlvs = match family_transport(header[field::FAMILY_TRANSPORT]) {
            Ok((family, transport)) => {
                address::read(block, family, transport).map_or(block, |(_, tlvs)| tlvs)
            }
            Err(_) => block,
        };
        // No other rule counts here: what is not a list of TLVs after all is discarded unseen.
        if let Err(error @ (HeaderError::V2Crc32c { .. } | HeaderError::V2Crc32cLen(_))) =
            tlv::checked(header, tlvs)
        {
            return Err(error);
        }
    }
    Ok(LOCAL)
}

/// What a LOCAL header says: the real endpoints apply.
const LOCAL: Header<'static> = Header {
    version: Version::V2,
    command: Command::Local,
    family: Family::Unspec,
    transport: Transport::Unspec,
    addresses: Addresses::Unspecified,
    tlvs: &[],
};

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
