//! The decoded header: who talks to whom, and what else the sender said.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::v2::tlv::Tlvs;

pub use crate::v2::address::{UnixAddr, UnixName};

/// One header, borrowed from the bytes it was decoded from.
///
/// Everything in it is the sender's claim. Whether to believe it depends on who the sender is, and is not for a
/// codec to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    pub(crate) version: Version,
    pub(crate) command: Command,
    pub(crate) family: Family,
    pub(crate) transport: Transport,
    pub(crate) addresses: Addresses<'a>,
    /// Invariant: a sequence of whole TLVs.
    pub(crate) tlvs: &'a [u8],
}

impl<'a> Header<'a> {
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
    pub const fn addresses(&self) -> Addresses<'a> {
        self.addresses
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
    pub const fn tlvs(&self) -> Tlvs<'a> {
        Tlvs::new(self.tlvs)
    }

    /// The client, if it has an internet address. `None` for LOCAL, `UNKNOWN`, UNSPEC and UNIX.
    ///
    /// IPv4-mapped IPv6 addresses stay as they are: unmapping them is policy.
    pub const fn source(&self) -> Option<SocketAddr> {
        match self.addresses {
            Addresses::Inet { source, .. } => Some(SocketAddr::V4(source)),
            Addresses::Inet6 { source, .. } => Some(SocketAddr::V6(source)),
            Addresses::Unspecified | Addresses::Unix { .. } => None,
        }
    }

    /// What the client connected to, if it is an internet address; as [`source`](Self::source) otherwise.
    pub const fn destination(&self) -> Option<SocketAddr> {
        match self.addresses {
            Addresses::Inet { destination, .. } => Some(SocketAddr::V4(destination)),
            Addresses::Inet6 { destination, .. } => Some(SocketAddr::V6(destination)),
            Addresses::Unspecified | Addresses::Unix { .. } => None,
        }
    }
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

/// An IPv4 pair from what the formats carry.
#[inline]
pub(crate) const fn inet<'a>(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Addresses<'a> {
    Addresses::Inet {
        source: SocketAddrV4::new(source.0, source.1),
        destination: SocketAddrV4::new(destination.0, destination.1),
    }
}

/// An IPv6 pair from what the formats carry.
#[inline]
pub(crate) const fn inet6<'a>(source: (Ipv6Addr, u16), destination: (Ipv6Addr, u16)) -> Addresses<'a> {
    Addresses::Inet6 {
        source: SocketAddrV6::new(source.0, source.1, 0, 0),
        destination: SocketAddrV6::new(destination.0, destination.1, 0, 0),
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
        let Addresses::Inet6 { source, destination } = Addresses::between(v4, v6) else {
            panic!("not promoted");
        };
        assert_eq!((SocketAddr::V6(source), SocketAddr::V6(destination)), (mapped, v6));
    }
}
