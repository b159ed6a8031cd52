//! The decoded header: who talks to whom, and what else the sender said.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::v2::tlv::Tlvs;

pub use crate::v2::address::{UnixAddr, UnixName};

/// One header, borrowed from the bytes it was decoded from.
///
/// Everything in it is the sender's claim. Whether to believe it depends on who the sender is, and is not for a
/// codec to say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    version: Version,
    command: Command,
    family: Family,
    transport: Transport,
    /// Client and what it connected to. Zero where there is none or it is a UNIX socket.
    ///
    /// Invariant: an IPv4 address is in the first four bytes, the others are zero.
    source: Ip,
    destination: Ip,
    /// In host order; 0 where there are no ports.
    source_port: u16,
    destination_port: u16,
    /// UNIX addresses, if there are any, then the TLVs.
    ///
    /// Invariant: if the family is UNIX and the transport is not UNSPEC, at least two addresses; the rest is a
    /// sequence of whole TLVs.
    rest: &'a [u8],
}

/// An IPv4 or IPv6 address in wire order, as two words.
///
/// Plain words rather than an enum of [`SocketAddr`]s: an enum's payload is moved in chunks that do not match the
/// stores which made it, and each such load waits for the stores to drain. That was most of the time of a v2 header.
type Ip = [u64; 2];

impl<'a> Header<'a> {
    /// A header without addresses and TLVs.
    #[inline]
    pub(crate) const fn bare(
        version: Version,
        command: Command,
        family: Family,
        transport: Transport,
    ) -> Self {
        Self {
            version,
            command,
            family,
            transport,
            source: [0; 2],
            destination: [0; 2],
            source_port: 0,
            destination_port: 0,
            rest: &[],
        }
    }

    /// The same with IPv4 addresses in wire order and ports in host order.
    #[inline]
    pub(crate) const fn inet(mut self, source: [u8; 4], destination: [u8; 4], ports: (u16, u16)) -> Self {
        self.family = Family::Inet;
        self.source = from_v4(source);
        self.destination = from_v4(destination);
        (self.source_port, self.destination_port) = ports;
        self
    }

    /// The same with IPv6 addresses in wire order and ports in host order.
    #[inline]
    pub(crate) const fn inet6(mut self, source: [u8; 16], destination: [u8; 16], ports: (u16, u16)) -> Self {
        self.family = Family::Inet6;
        self.source = from_v6(source);
        self.destination = from_v6(destination);
        (self.source_port, self.destination_port) = ports;
        self
    }

    /// The same with `rest` behind the internet addresses: whole TLVs, or two UNIX addresses and whole TLVs.
    #[inline]
    pub(crate) const fn with_rest(mut self, rest: &'a [u8]) -> Self {
        self.rest = rest;
        self
    }

    /// The format it was written in.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Whether it speaks for a client. Always [`Command::Proxy`] in v1 and SPP, which have no command.
    pub const fn command(&self) -> Command {
        self.command
    }

    /// The addresses of the proxied connection.
    ///
    /// [`Addresses::Unspecified`] means that the real endpoints of the connection apply: for LOCAL, for `UNKNOWN`
    /// and wherever the family or the transport is UNSPEC. Addresses found inside such headers are not reported,
    /// so that nobody uses them by accident (§2.2).
    #[inline]
    pub fn addresses(&self) -> Addresses<'a> {
        match self.announced() {
            Family::Unspec => Addresses::Unspecified,
            Family::Inet => Addresses::Inet { source: self.source_v4(), destination: self.destination_v4() },
            Family::Inet6 => {
                Addresses::Inet6 { source: self.source_v6(), destination: self.destination_v6() }
            }
            Family::Unix => match UnixAddr::split_pair(self.rest) {
                Some(((source, destination), _)) => Addresses::Unix { source, destination },
                None => Addresses::Unspecified,
            },
        }
    }

    /// The announced address family; [`Family::Unspec`] for LOCAL, whose family is to be ignored (§2.2).
    ///
    /// Can name a family although there are no addresses: when the transport is UNSPEC.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The announced transport; [`Transport::Unspec`] for LOCAL. It need not be that of the connection itself.
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// The TLVs behind the addresses, in wire order, duplicates included.
    ///
    /// Empty for v1 and SPP, which have none, and for LOCAL and UNSPEC, whose content is opaque.
    #[inline]
    pub fn tlvs(&self) -> Tlvs<'a> {
        Tlvs::new(match self.announced() {
            Family::Unix => UnixAddr::split_pair(self.rest).map_or(self.rest, |(_, tlvs)| tlvs),
            Family::Unspec | Family::Inet | Family::Inet6 => self.rest,
        })
    }

    /// The client, if it has an internet address. `None` for LOCAL, `UNKNOWN`, UNSPEC and UNIX.
    ///
    /// IPv4-mapped IPv6 addresses stay as they are: unmapping them is policy.
    #[inline]
    pub fn source(&self) -> Option<SocketAddr> {
        match self.announced() {
            Family::Inet => Some(SocketAddr::V4(self.source_v4())),
            Family::Inet6 => Some(SocketAddr::V6(self.source_v6())),
            Family::Unspec | Family::Unix => None,
        }
    }

    /// What the client connected to, if it is an internet address; as [`source`](Self::source) otherwise.
    #[inline]
    pub fn destination(&self) -> Option<SocketAddr> {
        match self.announced() {
            Family::Inet => Some(SocketAddr::V4(self.destination_v4())),
            Family::Inet6 => Some(SocketAddr::V6(self.destination_v6())),
            Family::Unspec | Family::Unix => None,
        }
    }

    /// The family of the addresses that count: none with an UNSPEC transport.
    #[inline]
    const fn announced(&self) -> Family {
        match self.transport {
            Transport::Unspec => Family::Unspec,
            Transport::Stream | Transport::Datagram => self.family,
        }
    }

    #[inline]
    fn source_v4(&self) -> SocketAddrV4 {
        SocketAddrV4::new(to_v4(self.source), self.source_port)
    }

    #[inline]
    fn destination_v4(&self) -> SocketAddrV4 {
        SocketAddrV4::new(to_v4(self.destination), self.destination_port)
    }

    #[inline]
    fn source_v6(&self) -> SocketAddrV6 {
        SocketAddrV6::new(to_v6(self.source), self.source_port, 0, 0)
    }

    #[inline]
    fn destination_v6(&self) -> SocketAddrV6 {
        SocketAddrV6::new(to_v6(self.destination), self.destination_port, 0, 0)
    }
}

impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("version", &self.version)
            .field("command", &self.command)
            .field("family", &self.family)
            .field("transport", &self.transport)
            .field("addresses", &self.addresses())
            .field("tlvs", &self.tlvs())
            .finish()
    }
}

#[inline]
const fn from_v4([a, b, c, d]: [u8; 4]) -> Ip {
    [u32::from_ne_bytes([a, b, c, d]) as u64, 0]
}

#[inline]
const fn from_v6(octets: [u8; 16]) -> Ip {
    let [a, b, c, d, e, f, g, h, rest @ ..] = octets;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes(rest)]
}

#[inline]
fn to_v4([word, _]: Ip) -> Ipv4Addr {
    // The upper half is zero.
    Ipv4Addr::from((word as u32).to_ne_bytes())
}

#[inline]
fn to_v6([high, low]: Ip) -> Ipv6Addr {
    let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (high.to_ne_bytes(), low.to_ne_bytes());
    Ipv6Addr::from([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}

/// The format of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// A line of text (§2.1).
    V1,
    /// Binary (§2.2).
    V2,
    /// Cloudflare's Simple Proxy Protocol, on datagrams only.
    Spp,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Spp => "SPP",
        })
    }
}

/// Whether a connection is the proxy's own or made for a client (§2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// The proxy's own connection, for example a health check. It must be accepted, with its real endpoints.
    Local,
    /// Made on behalf of a client.
    Proxy,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "LOCAL",
            Self::Proxy => "PROXY",
        })
    }
}

/// The address family of the proxied connection (§2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Unknown, unspecified or unsupported: the real endpoints apply.
    Unspec,
    /// IPv4.
    Inet,
    /// IPv6.
    Inet6,
    /// UNIX sockets.
    Unix,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspec => "unspec",
            Self::Inet => "inet",
            Self::Inet6 => "inet6",
            Self::Unix => "unix",
        })
    }
}

/// The transport of the proxied connection (§2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Unknown, unspecified or unsupported: the real endpoints apply.
    Unspec,
    /// TCP, or a UNIX stream.
    Stream,
    /// UDP, or UNIX datagrams.
    Datagram,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspec => "unspec",
            Self::Stream => "stream",
            Self::Datagram => "dgram",
        })
    }
}

/// Both ends of the proxied connection; they are always of one family.
///
/// Flow information and scope of IPv6 addresses are 0: no format carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Addresses<'a> {
    /// None: the real endpoints of the connection apply.
    Unspecified,
    /// IPv4.
    Inet {
        /// The client.
        source: SocketAddrV4,
        /// What it connected to.
        destination: SocketAddrV4,
    },
    /// IPv6, possibly with IPv4-mapped addresses.
    Inet6 {
        /// The client.
        source: SocketAddrV6,
        /// What it connected to.
        destination: SocketAddrV6,
    },
    /// UNIX sockets.
    Unix {
        /// The client.
        source: UnixAddr<'a>,
        /// What it connected to.
        destination: UnixAddr<'a>,
    },
}

impl Addresses<'_> {
    /// The pair of `source` and `destination`, ready to be encoded.
    ///
    /// A header has one family: if only one of the two is IPv4 it becomes an IPv4-mapped IPv6 address
    /// (`::ffff:a.b.c.d`), as HAProxy sends it.
    pub const fn between(source: SocketAddr, destination: SocketAddr) -> Self {
        match (source, destination) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => Self::Inet { source, destination },
            (source, destination) => Self::Inet6 { source: mapped(source), destination: mapped(destination) },
        }
    }

    /// The family they are of.
    pub const fn family(&self) -> Family {
        match self {
            Self::Unspecified => Family::Unspec,
            Self::Inet { .. } => Family::Inet,
            Self::Inet6 { .. } => Family::Inet6,
            Self::Unix { .. } => Family::Unix,
        }
    }
}

/// `address` as IPv6, mapped if it is IPv4.
pub(crate) const fn mapped(address: SocketAddr) -> SocketAddrV6 {
    match address {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0),
        SocketAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixed_pair_is_promoted_to_mapped_ipv6() {
        let v4 = "192.0.2.1:1".parse().unwrap();
        let v6 = "[2001:db8::2]:2".parse().unwrap();
        let mapped = "[::ffff:192.0.2.1]:1".parse().unwrap();
        assert_eq!(Addresses::between(v4, v4).family(), Family::Inet);
        assert_eq!(Addresses::between(v6, v6).family(), Family::Inet6);
        assert_eq!(Addresses::between(v4, v6), Addresses::between(mapped, v6));
        assert_eq!(Addresses::between(v6, v4), Addresses::between(v6, mapped));
    }
}
