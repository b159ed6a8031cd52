//! Version 1: one line of text (§2.1).
//!
//! A whole TCP4 or TCP6 line is read straight through, which needs no search for its end: digits, dots, colons and
//! spaces cannot contain one. Where that fails, [`in_order`] follows the specification's order (find the CRLF, then
//! look at the fields) to say whether bytes are missing or which rule was broken. No address is reported before its
//! CRLF was seen.

mod address;
pub(crate) mod encode;

use core::net::IpAddr;

use crate::detect::V1_SIGNATURE;
use crate::error::{Endpoint, HeaderError};
use crate::header::{Command, Family, Header, Transport, Version};
use crate::options::DecodeOptions;
use crate::outcome::Outcome;

/// Longest v1 line in bytes, CRLF included (§2.1). The limit is on the line: payload may follow in the same buffer.
pub const MAX_V1_LEN: usize = 107;

/// The least number of bytes a v1 header can have: `PROXY UNKNOWN` and CRLF.
pub(crate) const MIN_LEN: usize = 15;

/// The header at the start of `input`, which begins with `PROXY`.
#[inline]
pub(crate) fn decode<'a>(
    input: &'a [u8],
    options: &DecodeOptions,
) -> Result<Outcome<Header<'a>>, HeaderError> {
    match tcp_line(input) {
        Ok((header, consumed)) if consumed <= MAX_V1_LEN => Ok(Outcome::Complete { header, consumed }),
        Ok(_) => Err(HeaderError::V1TooLong),
        Err(wrong) => in_order(input, options, wrong),
    }
}

/// A complete `TCP4` or `TCP6` line, and its length, which may be over the limit.
///
/// The error is the first field that is not as it should be. That is a mere suspicion: the line may be incomplete or
/// have another shape, which is to be said first.
#[inline]
fn tcp_line(input: &[u8]) -> Result<(Header<'static>, usize), Field> {
    let (start, mut rest) = input.split_first_chunk::<11>().ok_or(Field::SourceAddress)?;
    let header = match start {
        b"PROXY TCP4 " => {
            let source = take(&mut rest, address::ipv4, b" ").ok_or(Field::SourceAddress)?;
            let destination = take(&mut rest, address::ipv4, b" ").ok_or(Field::DestinationAddress)?;
            TCP.inet(source, destination, ports(&mut rest)?)
        }
        b"PROXY TCP6 " => {
            let source = take(&mut rest, address::ipv6, b" ").ok_or(Field::SourceAddress)?;
            let destination = take(&mut rest, address::ipv6, b" ").ok_or(Field::DestinationAddress)?;
            TCP.inet6(source, destination, ports(&mut rest)?)
        }
        _ => return Err(Field::SourceAddress),
    };
    Ok((header, input.len() - rest.len()))
}

/// The last two fields and the end of the line.
#[inline(always)]
fn ports(rest: &mut &[u8]) -> Result<(u16, u16), Field> {
    let source = take(rest, address::port, b" ").ok_or(Field::SourcePort)?;
    let destination = take(rest, address::port, CRLF).ok_or(Field::DestinationPort)?;
    Ok((source, destination))
}

/// Takes one field and what must follow it off `rest`.
#[inline(always)]
fn take<T>(rest: &mut &[u8], read: impl FnOnce(&mut &[u8]) -> Option<T>, end: &[u8]) -> Option<T> {
    let value = read(rest)?;
    *rest = rest.strip_prefix(end)?;
    Some(value)
}

/// A field of a TCP line; smaller than the error it becomes, which the hot path would have to carry about.
#[derive(Clone, Copy)]
enum Field {
    SourceAddress,
    DestinationAddress,
    SourcePort,
    DestinationPort,
}

impl From<Field> for HeaderError {
    fn from(field: Field) -> Self {
        match field {
            Field::SourceAddress => Self::V1Address(Endpoint::Source),
            Field::DestinationAddress => Self::V1Address(Endpoint::Destination),
            Field::SourcePort => Self::V1Port(Endpoint::Source),
            Field::DestinationPort => Self::V1Port(Endpoint::Destination),
        }
    }
}

/// The decision in the specification's order, for what is not a TCP line as it should be.
///
/// `wrong` is the field that is, provided that the line is complete and has six of them.
#[inline(never)]
fn in_order<'a>(
    input: &[u8],
    options: &DecodeOptions,
    wrong: Field,
) -> Result<Outcome<Header<'a>>, HeaderError> {
    let window = &input[..input.len().min(MAX_V1_LEN)];
    let Some(end) = memchr::memchr2(b'\r', b'\n', window) else {
        return if window.len() < MAX_V1_LEN {
            Ok(Outcome::need_more(input.len(), MIN_LEN.max(input.len() + CRLF.len())))
        } else {
            Err(HeaderError::V1TooLong)
        };
    };
    if window[end] == b'\n' {
        // §2.1: "must not tolerate a single CR or LF". It can never become valid, so the decision is made now.
        return Err(HeaderError::V1BareLf);
    }
    if end + 1 == MAX_V1_LEN {
        // The LF would be byte 108.
        return Err(HeaderError::V1TooLong);
    }
    match input.get(end + 1) {
        None => Ok(Outcome::need_more(input.len(), MIN_LEN.max(input.len() + 1))),
        Some(b'\n') => {
            let consumed = end + CRLF.len();
            Ok(Outcome::Complete { header: line(&input[..consumed], options, wrong)?, consumed })
        }
        Some(_) => Err(HeaderError::V1BareCr),
    }
}

/// The header in a line that starts with `PROXY` and ends in CRLF, but is no TCP line as it should be.
fn line(line: &[u8], options: &DecodeOptions, wrong: Field) -> Result<Header<'static>, HeaderError> {
    let text = &line[V1_SIGNATURE.len()..line.len() - CRLF.len()];
    let Some(text) = text.strip_prefix(b" ") else {
        return Err(if text.is_empty() { HeaderError::V1MissingField } else { HeaderError::V1Separator });
    };
    let token = memchr::memchr(b' ', text).unwrap_or(text.len());
    match &text[..token] {
        b"TCP4" | b"TCP6" => {}
        // §2.1: "the receiver must ignore anything presented before the CRLF is found".
        b"UNKNOWN" => return Ok(UNKNOWN),
        b"" if !text.is_empty() => return Err(HeaderError::V1Separator),
        _ => return Err(HeaderError::V1Protocol),
    }
    // The shape of the line comes first: a tab between two fields is a wrong separator, not a wrong address.
    let fields = &text[token..];
    match fields.iter().filter(|byte| **byte == b' ').count() {
        0..=3 => Err(HeaderError::V1MissingField),
        4 if options.mixed_families() => mixed(&line[line.len() - CRLF.len() - fields.len() + 1..], wrong),
        4 => Err(wrong.into()),
        _ if fields.windows(2).any(|pair| pair == b"  ") => Err(HeaderError::V1Separator),
        _ => Err(HeaderError::V1ExtraField),
    }
}

/// The header in the last four fields of a line, if one address is IPv4 and the other IPv6.
fn mixed(fields: &[u8], wrong: Field) -> Result<Header<'static>, HeaderError> {
    let mut rest = fields;
    let source = take(&mut rest, ip, b" ").ok_or(wrong)?;
    let destination = take(&mut rest, ip, b" ").ok_or(wrong)?;
    if source.is_ipv4() == destination.is_ipv4() {
        return Err(wrong.into());
    }
    let [source, destination] = [source, destination].map(|ip| match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    });
    Ok(TCP.inet6(source, destination, ports(&mut rest)?))
}

/// An address of either family.
fn ip(text: &mut &[u8]) -> Option<IpAddr> {
    let mut behind = *text;
    match address::ipv4(&mut behind) {
        Some(v4) => {
            *text = behind;
            Some(IpAddr::from(v4))
        }
        None => address::ipv6(text).map(IpAddr::from),
    }
}

/// The end of a line.
const CRLF: &[u8] = b"\r\n";

/// A `TCP4` or `TCP6` line without its addresses. Version 1 has no command: it always speaks for a client.
const TCP: Header<'static> = Header::bare(Version::V1, Command::Proxy, Family::Unspec, Transport::Stream);

/// What an `UNKNOWN` line says: the real endpoints apply.
const UNKNOWN: Header<'static> = Header::bare(Version::V1, Command::Proxy, Family::Unspec, Transport::Unspec);

#[cfg(test)]
mod tests;
