//! The address block (§2.2), and UNIX socket addresses.

use core::fmt;

use crate::header::{Family, Header, Transport};

/// Bytes the addresses take; 0 where either nibble is UNSPEC and none are read.
#[inline]
pub(super) const fn block_len(family: Family, transport: Transport) -> u16 {
    match (family, transport) {
        (Family::Unspec, _) | (_, Transport::Unspec) => 0,
        (Family::Inet, _) => INET,
        (Family::Inet6, _) => INET6,
        (Family::Unix, _) => UNIX,
    }
}

/// `header` with the addresses at the start of `block`, and the TLVs behind them.
///
/// `None` where no addresses are to be read, or `block` is too short for them.
#[inline]
pub(super) fn read<'a>(
    header: Header<'a>,
    block: &'a [u8],
    family: Family,
    transport: Transport,
) -> Option<(Header<'a>, &'a [u8])> {
    match (family, transport) {
        (Family::Unspec, _) | (_, Transport::Unspec) => None,
        (Family::Inet, _) => {
            let (source, rest) = block.split_first_chunk::<4>()?;
            let (destination, rest) = rest.split_first_chunk::<4>()?;
            let (ports, tlvs) = ports(rest)?;
            Some((header.inet(*source, *destination, ports).with_rest(tlvs), tlvs))
        }
        (Family::Inet6, _) => {
            let (source, rest) = block.split_first_chunk::<16>()?;
            let (destination, rest) = rest.split_first_chunk::<16>()?;
            let (ports, tlvs) = ports(rest)?;
            Some((header.inet6(*source, *destination, ports).with_rest(tlvs), tlvs))
        }
        (Family::Unix, _) => UnixAddr::split_pair(block).map(|(_, tlvs)| (header.with_rest(block), tlvs)),
    }
}

/// Source and destination port.
#[inline]
fn ports(input: &[u8]) -> Option<((u16, u16), &[u8])> {
    let ([a, b, c, d], rest) = input.split_first_chunk()?;
    Some(((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])), rest))
}

/// Two addresses of 4 bytes, two ports.
const INET: u16 = 2 * 4 + 2 * 2;
/// Two addresses of 16 bytes, two ports.
const INET6: u16 = 2 * 16 + 2 * 2;
/// Two addresses of [`UNIX_ADDR_LEN`] bytes.
const UNIX: u16 = 2 * UNIX_ADDR_LEN as u16;

/// Bytes of a UNIX address in a v2 header (§2.2): the size of Linux's `sun_path`.
pub const UNIX_ADDR_LEN: usize = 108;

/// The address of a UNIX socket, as its 108 bytes on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnixAddr<'a>(&'a [u8; UNIX_ADDR_LEN]);

impl<'a> UnixAddr<'a> {
    /// The address these bytes are; any bytes are one.
    ///
    /// [`encode::unix_addr`](crate::encode::unix_addr) makes them from a name.
    pub const fn new(raw: &'a [u8; UNIX_ADDR_LEN]) -> Self {
        Self(raw)
    }

    /// Source and destination at the start of `block`, and what follows them.
    #[inline]
    pub(crate) fn split_pair(block: &'a [u8]) -> Option<((Self, Self), &'a [u8])> {
        let (source, rest) = block.split_first_chunk()?;
        let (destination, rest) = rest.split_first_chunk()?;
        Some(((Self(source), Self(destination)), rest))
    }

    /// All 108 bytes, padding included.
    pub const fn raw(&self) -> &'a [u8; UNIX_ADDR_LEN] {
        self.0
    }

    /// The name in it.
    ///
    /// A path ends at the first NUL or fills all 108 bytes. An abstract name begins with NUL; the wire does not
    /// tell its length, so the NULs at its end are taken for padding, and those inside it are kept.
    pub fn name(&self) -> UnixName<'a> {
        if let Some((0, rest)) = self.0.split_first() {
            let len = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            return if len == 0 { UnixName::Unnamed } else { UnixName::Abstract(&rest[..len]) };
        }
        let len = self.0.iter().position(|byte| *byte == 0).unwrap_or(UNIX_ADDR_LEN);
        UnixName::Path(&self.0[..len])
    }
}

impl fmt::Debug for UnixAddr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnixAddr").field(&self.name()).finish()
    }
}

/// What a UNIX socket is called; see unix(7).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnixName<'a> {
    /// Not bound to a name, as most clients are.
    Unnamed,
    /// A path in the file system, without NUL. At least one byte; not necessarily UTF-8.
    Path(&'a [u8]),
    /// A name in Linux's abstract namespace, without its leading NUL.
    Abstract(&'a [u8]),
}

impl fmt::Debug for UnixName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unnamed => f.write_str("Unnamed"),
            Self::Path(path) => write!(f, "Path(\"{}\")", path.escape_ascii()),
            Self::Abstract(name) => write!(f, "Abstract(\"{}\")", name.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    fn raw(start: &[u8]) -> [u8; UNIX_ADDR_LEN] {
        let mut raw = [0; UNIX_ADDR_LEN];
        raw[..start.len()].copy_from_slice(start);
        raw
    }

    #[test]
    fn a_unix_name_is_a_path_an_abstract_name_or_nothing() {
        assert_eq!(UnixAddr(&raw(b"")).name(), UnixName::Unnamed);
        assert_eq!(UnixAddr(&raw(b"/run/x\0junk")).name(), UnixName::Path(b"/run/x"));
        assert_eq!(UnixAddr(&raw(b"\0abstract")).name(), UnixName::Abstract(b"abstract"));
        assert_eq!(UnixAddr(&raw(b"\0a\0b")).name(), UnixName::Abstract(b"a\0b"));
        assert_eq!(UnixAddr(&[b'/'; UNIX_ADDR_LEN]).name(), UnixName::Path(&[b'/'; UNIX_ADDR_LEN]));
    }

    #[test]
    fn unix_addresses_are_printed_by_name() {
        assert_eq!(format!("{:?}", UnixAddr(&raw(b"/a\xFF"))), "UnixAddr(Path(\"/a\\xff\"))");
        assert_eq!(format!("{:?}", UnixAddr(&raw(b"\0a"))), "UnixAddr(Abstract(\"a\"))");
        assert_eq!(format!("{:?}", UnixAddr(&raw(b""))), "UnixAddr(Unnamed)");
    }
}
