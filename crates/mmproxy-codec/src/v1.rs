//! Version 1: one line of text (§2.1).
//!
//! A line is read twice at most. [`decode`] first reads its fields straight through, which needs no search for the
//! line's end: digits, dots, colons and spaces cannot contain one. Whatever is not a whole, plain TCP4 or TCP6 line
//! goes to [`decode_in_order`], which follows the specification's order (find the CRLF, then decode) and names the
//! rule that was broken. No address is reported before its CRLF was seen, by either.

mod address;
pub(crate) mod encode;

use core::net::{IpAddr, SocketAddr};

use crate::detect::V1_SIGNATURE;
use crate::error::{Endpoint, HeaderError};
use crate::header::{self, Addresses, Command, Family, Header, Transport, Version};
use crate::options::DecodeOptions;
use crate::outcome::Outcome;

/// Longest v1 line in bytes, CRLF included (§2.1). The limit is on the line: payload may follow in the same buffer.
pub const MAX_V1_LEN: usize = 107;

/// The header at the start of `input`, which begins with `PROXY`.
#[inline]
pub(crate) fn decode<'a>(
    input: &'a [u8],
    options: &DecodeOptions,
) -> Result<Outcome<Header<'a>>, HeaderError> {
    match plain_line(input) {
        Some((addresses, consumed)) => Ok(Outcome::Complete { header: tcp(addresses), consumed }),
        None => decode_in_order(input, options),
    }
}

/// The least number of bytes a v1 header can have: `PROXY UNKNOWN` and CRLF.
pub(crate) const MIN_LEN: usize = 15;

/// A complete `TCP4` or `TCP6` line without any peculiarity; `None` sends it to the other decoder.
#[inline]
fn plain_line(input: &[u8]) -> Option<(Addresses<'static>, usize)> {
    let (start, fields) = input.split_first_chunk::<11>()?;
    let (addresses, rest) = match start {
        b"PROXY TCP4 " => {
            let (source, rest) = address::ipv4(fields)?;
            let (destination, rest) = address::ipv4(space(rest)?)?;
            let (source_port, rest) = address::port(space(rest)?)?;
            let (destination_port, rest) = address::port(space(rest)?)?;
            (header::inet((source, source_port), (destination, destination_port)), rest)
        }
        b"PROXY TCP6 " => {
            let (source, rest) = address::ipv6(fields)?;
            let (destination, rest) = address::ipv6(space(rest)?)?;
            let (source_port, rest) = address::port(space(rest)?)?;
            let (destination_port, rest) = address::port(space(rest)?)?;
            (header::inet6((source, source_port), (destination, destination_port)), rest)
        }
        _ => return None,
    };
    let consumed = input.len() - rest.strip_prefix(b"\r\n")?.len();
    (consumed <= MAX_V1_LEN).then_some((addresses, consumed))
}

/// What follows exactly one space.
#[inline]
fn space(input: &[u8]) -> Option<&[u8]> {
    input.strip_prefix(b" ")
}

/// The same decision in the specification's order; also right for every line [`plain_line`] takes.
#[cold]
pub(crate) fn decode_in_order<'a>(
    input: &'a [u8],
    options: &DecodeOptions,
) -> Result<Outcome<Header<'a>>, HeaderError> {
    let window = &input[..input.len().min(MAX_V1_LEN)];
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if window.len() < MAX_V1_LEN {
            Ok(Outcome::need_more(input.len(), MIN_LEN.max(input.len() + 2)))
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
        Some(b'\n') => Ok(Outcome::Complete { header: line(&window[..end], options)?, consumed: end + 2 }),
        Some(_) => Err(HeaderError::V1BareCr),
    }
}

/// The header in a line that starts with `PROXY`, without its CRLF.
fn line<'a>(line: &[u8], options: &DecodeOptions) -> Result<Header<'a>, HeaderError> {
    let text = &line[V1_SIGNATURE.len()..];
    let Some(text) = space(text) else {
        return Err(if text.is_empty() { HeaderError::V1MissingField } else { HeaderError::V1Separator });
    };
    let mut fields = text.split(|byte| *byte == b' ');
    let announced = match fields.next().unwrap_or_default() {
        b"TCP4" => Family::Inet,
        b"TCP6" => Family::Inet6,
        // §2.1: "the receiver must ignore anything presented before the CRLF is found".
        b"UNKNOWN" => return Ok(UNKNOWN),
        b"" if !text.is_empty() => return Err(HeaderError::V1Separator),
        _ => return Err(HeaderError::V1Protocol),
    };
    // The shape of the line comes first: a tab between two fields is a wrong separator, not a wrong address.
    let mut field = || fields.next().ok_or(HeaderError::V1MissingField);
    let [source, destination, source_port, destination_port] = [field()?, field()?, field()?, field()?];
    if fields.next().is_some() {
        let doubled = text.windows(2).any(|pair| pair == b"  ");
        return Err(if doubled { HeaderError::V1Separator } else { HeaderError::V1ExtraField });
    }
    let source = ip(source).ok_or(HeaderError::V1Address(Endpoint::Source))?;
    let destination = ip(destination).ok_or(HeaderError::V1Address(Endpoint::Destination))?;
    let fits = |address: IpAddr| address.is_ipv6() == (announced == Family::Inet6);
    match (fits(source), fits(destination)) {
        (true, true) => {}
        (true, false) | (false, true) if options.mixed_families() => {}
        (true, false) => return Err(HeaderError::V1Address(Endpoint::Destination)),
        (false, _) => return Err(HeaderError::V1Address(Endpoint::Source)),
    }
    let source_port = whole(address::port(source_port)).ok_or(HeaderError::V1Port(Endpoint::Source))?;
    let destination_port =
        whole(address::port(destination_port)).ok_or(HeaderError::V1Port(Endpoint::Destination))?;
    Ok(tcp(Addresses::between(
        SocketAddr::new(source, source_port),
        SocketAddr::new(destination, destination_port),
    )))
}

/// An address of either family and nothing behind it.
fn ip(field: &[u8]) -> Option<IpAddr> {
    let v4 = || whole(address::ipv4(field)).map(IpAddr::V4);
    let v6 = || whole(address::ipv6(field)).map(IpAddr::V6);
    v4().or_else(v6)
}

/// A value that took its whole field.
fn whole<T>(parsed: Option<(T, &[u8])>) -> Option<T> {
    parsed.and_then(|(value, rest)| rest.is_empty().then_some(value))
}

/// What a `TCP4` or `TCP6` line with these addresses says. Version 1 has no command: it always speaks for a client.
#[inline]
const fn tcp(addresses: Addresses<'_>) -> Header<'_> {
    Header {
        version: Version::V1,
        command: Command::Proxy,
        family: addresses.family(),
        transport: Transport::Stream,
        addresses,
        tlvs: &[],
    }
}

/// What an `UNKNOWN` line says: the real endpoints apply.
const UNKNOWN: Header<'static> = Header {
    version: Version::V1,
    command: Command::Proxy,
    family: Family::Unspec,
    transport: Transport::Unspec,
    addresses: Addresses::Unspecified,
    tlvs: &[],
};

#[cfg(test)]
mod tests;
