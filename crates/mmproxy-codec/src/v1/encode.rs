//! Writes v1 lines (§2.1).

use core::fmt::{self, Write};
use core::net::{IpAddr, SocketAddr};
use core::ops::Deref;

use crate::MAX_V1_LEN;
use crate::encode::{EncodeError, check};

/// The line for a TCP connection from `source` to `destination`.
///
/// IPv6 addresses are written as RFC 5952 has them. If only one address is IPv4 the line says `TCP6` and that
/// address is mapped, as HAProxy does it: a line has one family.
///
/// # Errors
///
/// [`EncodeError::Scope`].
pub fn v1(source: SocketAddr, destination: SocketAddr) -> Result<V1Line, EncodeError> {
    check(source)?;
    check(destination)?;
    let mixed = source.is_ipv4() != destination.is_ipv4();
    let protocol = if mixed || source.is_ipv6() { "TCP6" } else { "TCP4" };
    let [source_ip, destination_ip] = [source.ip(), destination.ip()].map(|ip| match ip {
        IpAddr::V4(v4) if mixed => IpAddr::V6(v4.to_ipv6_mapped()),
        IpAddr::V4(_) | IpAddr::V6(_) => ip,
    });
    let (source_port, destination_port) = (source.port(), destination.port());
    Ok(V1Line::new(format_args!(
        "PROXY {protocol} {source_ip} {destination_ip} {source_port} {destination_port}\r\n"
    )))
}

/// The line for a connection whose addresses a v1 line cannot tell, in its short form.
///
/// Receivers may refuse it (§2.1): health checks should name real addresses, with [`v1`].
pub fn v1_unknown() -> V1Line {
    V1Line::new(format_args!("PROXY UNKNOWN\r\n"))
}

/// A v1 line, CRLF included. Dereferences to its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct V1Line {
    /// Invariant: US-ASCII up to `len`, zero behind it.
    bytes: [u8; MAX_V1_LEN],
    /// Invariant: `len <= MAX_V1_LEN`.
    len: usize,
}

impl V1Line {
    fn new(text: fmt::Arguments<'_>) -> Self {
        let mut line = Self { bytes: [0; MAX_V1_LEN], len: 0 };
        Writer(&mut line).write_fmt(text).expect("the longest TCP6 line in RFC 5952 form has 104 bytes");
        line
    }

    /// The line as text, CRLF included.
    pub fn as_str(&self) -> &str {
        str::from_utf8(self).expect("a v1 line is US-ASCII")
    }
}

impl Deref for V1Line {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for V1Line {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for V1Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("V1Line").field(&self.as_str()).finish()
    }
}

/// Appends to a line; not the line's own trait, or anybody could append.
struct Writer<'a>(&'a mut V1Line);

impl Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.0.len + text.len();
        self.0.bytes.get_mut(self.0.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.0.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_itself_as_bytes_and_as_text() {
        let line = v1_unknown();
        assert_eq!((line.as_ref(), line.as_str()), (b"PROXY UNKNOWN\r\n".as_slice(), "PROXY UNKNOWN\r\n"));
        assert_eq!(std::format!("{line:?}"), "V1Line(\"PROXY UNKNOWN\\r\\n\")");
    }
}
