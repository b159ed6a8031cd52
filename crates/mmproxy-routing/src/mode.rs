//! What an operator chooses about the return path: mode, mark, table, rule priority, families.

mod settings;

use std::fmt;
use std::net::IpAddr;

pub use self::settings::{Mark, Ports, Priority, SettingError, Settings, Table};

/// How replies to a spoofed source are brought back to this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// The target's replies inherit the mark of the spoofed connection, and a rule sends whatever carries the
    /// mark back to this machine. Serves every address of this host; needs no netfilter.
    #[default]
    Fwmark,
    /// Whatever the loopback addresses send to somebody else comes back. For targets on loopback addresses.
    Source,
    /// Whatever a port sends comes back. For UDP servers, also those bound to the wildcard address.
    Port,
    /// The mark travels by way of the connection tracker. What the original mmproxy asks of its user; needs a default
    /// route and nftables.
    Connmark,
    /// Whatever arrives for one of our transparent sockets is delivered to it. For targets on other machines, in
    /// containers or virtual machines whose route back leads through this one; needs nftables.
    Socket,
}

impl Mode {
    /// Whether spoofed sockets have to carry the mark (`SO_MARK`).
    ///
    /// In mode `socket` it is given to the replies alone: a marked SYN would be delivered on this host.
    #[must_use]
    pub const fn marks_sockets(self) -> bool {
        match self {
            Self::Fwmark | Self::Connmark => true,
            Self::Source | Self::Port | Self::Socket => false,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fwmark => f.write_str("fwmark"),
            Self::Source => f.write_str("source"),
            Self::Port => f.write_str("port"),
            Self::Connmark => f.write_str("connmark"),
            Self::Socket => f.write_str("socket"),
        }
    }
}

/// The transport protocol of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// The number in the IP header.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// The protocol that is written so.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp].into_iter().find(|known| known.to_string() == name)
    }
}

/// As `ip` writes it.
impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// As nft(8) calls it.
    pub(crate) const fn nft(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    pub(crate) const fn digit(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }
}

impl From<IpAddr> for Family {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The address families a return path is wanted for. Default both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Families {
    /// IPv4 targets.
    pub v4: bool,
    /// IPv6 targets.
    pub v6: bool,
}

impl Families {
    /// IPv4 and IPv6.
    pub const BOTH: Self = Self { v4: true, v6: true };
    /// IPv4 alone.
    pub const V4: Self = Self { v4: true, v6: false };
    /// IPv6 alone.
    pub const V6: Self = Self { v4: false, v6: true };

    /// Whether this family is one of them.
    #[must_use]
    pub const fn contains(self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Those that are in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self { v4: self.v4 && other.v4, v6: self.v6 && other.v6 }
    }

    /// The chosen families, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        [self.v4.then_some(Family::V4), self.v6.then_some(Family::V6)].into_iter().flatten()
    }
}

impl Default for Families {
    fn default() -> Self {
        Self::BOTH
    }
}
