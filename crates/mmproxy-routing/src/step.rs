//! One object of a return path, printed as the command an operator could type.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::mode::{Family, Mark, Priority, SettingError, Table, Transport};
use crate::netfilter::Netfilter;

/// One object that must be in the network namespace for replies to come back.
///
/// `Display` is the command that makes it; [`Step::undo`] prints the command that takes it away again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// A switch of the kernel that must be on.
    Sysctl(Sysctl),
    /// A policy rule that sends the replies to our table.
    Rule(Rule),
    /// The route in our table that makes every address an address of this machine.
    LocalRoute(LocalRoute),
    /// A table of our own in nftables that marks the replies.
    Netfilter(Netfilter),
}

impl Step {
    /// The command that undoes this step.
    #[must_use]
    pub const fn undo(&self) -> Undo<'_> {
        Undo(self)
    }

    /// The family this step serves; `None` if it serves both.
    #[must_use]
    pub const fn family(&self) -> Option<Family> {
        match self {
            Self::Sysctl(sysctl) => sysctl.family(),
            Self::Rule(rule) => Some(rule.family),
            Self::LocalRoute(route) => Some(route.family),
            Self::Netfilter(table) => Some(table.family),
        }
    }

    /// Commands of other programs that would do the same; none for most steps.
    #[must_use]
    pub fn alternatives(&self) -> Vec<String> {
        match self {
            Self::Netfilter(table) => table.iptables(),
            Self::Sysctl(_) | Self::Rule(_) | Self::LocalRoute(_) => Vec::new(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl(sysctl) => write!(f, "sysctl -w {sysctl}=1"),
            Self::Rule(rule) => write!(f, "{} rule add {rule}", ip(rule.family)),
            Self::LocalRoute(route) => write!(f, "{} route add {route}", ip(route.family)),
            Self::Netfilter(table) => write!(f, "nft '{table}'"),
        }
    }
}

/// The command that undoes a [`Step`].
#[derive(Clone, Copy, Debug)]
pub struct Undo<'a>(&'a Step);

impl fmt::Display for Undo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Step::Sysctl(sysctl) => write!(f, "sysctl -w {sysctl}=0"),
            Step::Rule(rule) => write!(f, "{} rule del {rule}", ip(rule.family)),
            Step::LocalRoute(route) => write!(f, "{} route del {route}", ip(route.family)),
            Step::Netfilter(table) => write!(f, "nft delete table {}", table.name()),
        }
    }
}

/// A switch of the kernel, per network namespace, off by default.
///
/// `Display` is its name, as sysctl(8) takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Sysctl {
    /// `net.ipv4.tcp_fwmark_accept`: an accepted TCP socket inherits the mark of its SYN, in IPv4 and IPv6.
    TcpFwmarkAccept,
    /// `net.ipv4.fwmark_reflect`: replies without a socket (resets, ICMP errors) carry the mark of what they answer.
    FwmarkReflectV4,
    /// `net.ipv6.fwmark_reflect`: the same for IPv6.
    FwmarkReflectV6,
    /// `net.ipv4.conf.DEVICE.route_localnet`: packets from 127.0.0.0/8 may be routed out of this interface, as far as
    /// to the place where a firewall can think better of it.
    RouteLocalnet(Device),
}

impl Sysctl {
    /// The family it is for; `None` for both.
    #[must_use]
    pub const fn family(self) -> Option<Family> {
        match self {
            Self::TcpFwmarkAccept => None,
            Self::FwmarkReflectV4 | Self::RouteLocalnet(_) => Some(Family::V4),
            Self::FwmarkReflectV6 => Some(Family::V6),
        }
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TcpFwmarkAccept => f.write_str("net.ipv4.tcp_fwmark_accept"),
            Self::FwmarkReflectV4 => f.write_str("net.ipv4.fwmark_reflect"),
            Self::FwmarkReflectV6 => f.write_str("net.ipv6.fwmark_reflect"),
            // The dots in the name of a VLAN's interface are written as slashes.
            Self::RouteLocalnet(device) => {
                write!(f, "net.ipv4.conf.{}.route_localnet", device.as_str().replace('.', "/"))
            }
        }
    }
}

/// The name of a network interface.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    /// The name, filled up with zeros.
    name: [u8; Self::MAX_LEN],
}

impl Device {
    /// The longest name, in bytes (`IFNAMSIZ` without its terminating zero).
    pub const MAX_LEN: usize = 15;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self.name.iter().position(|&byte| byte == 0).unwrap_or(Self::MAX_LEN);
        str::from_utf8(&self.name[..length]).expect("it was made from a string")
    }
}

impl FromStr for Device {
    type Err = SettingError;

    /// As the kernel's `dev_valid_name` decides.
    fn from_str(text: &str) -> Result<Self, SettingError> {
        let plain = |c: char| c != '/' && c != ':' && c != '\0' && !c.is_ascii_whitespace();
        if text.is_empty()
            || text.len() > Self::MAX_LEN
            || text == "."
            || text == ".."
            || !text.chars().all(plain)
        {
            return Err(SettingError::NotADevice(text.to_owned()));
        }
        let mut name = [0; Self::MAX_LEN];
        name[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { name })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A policy rule: what `selector` picks is looked up in `table`.
///
/// `Display` is what stands behind `ip rule add`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The family of packets it sees.
    pub family: Family,
    /// Which packets it picks.
    pub selector: Selector,
    /// Where those are looked up.
    pub table: Table,
    /// Its place among the rules.
    pub priority: Priority,
}

impl Rule {
    /// Whether it is about the packets that this table marks.
    pub(crate) fn looks_up_what(&self, table: &Netfilter) -> bool {
        self.family == table.family
            && self.table == table.table
            && self.selector == Selector::Fwmark(table.mark)
    }

    /// Whether it looks packets up where this route is.
    pub(crate) fn leads_to(&self, route: &LocalRoute) -> bool {
        self.family == route.family && self.table == route.table
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.selector, self.family) {
            (Selector::Fwmark(mark), _) => write!(f, "fwmark {mark}")?,
            (Selector::FromLoopback, Family::V4) => f.write_str("from 127.0.0.0/8 iif lo")?,
            (Selector::FromLoopback, Family::V6) => f.write_str("from ::1/128 iif lo")?,
            (Selector::SourcePort { transport, port }, _) => {
                write!(f, "iif lo ipproto {transport} sport {port}")?;
            }
        }
        write!(f, " lookup {} priority {}", self.table, self.priority)
    }
}

/// Which packets a rule picks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Selector {
    /// Those that carry this mark.
    Fwmark(Mark),
    /// Those that this host sends from its loopback addresses.
    FromLoopback,
    /// Those that this host sends from a port.
    SourcePort {
        /// The protocol that the port is of.
        transport: Transport,
        /// The port.
        port: u16,
    },
}

/// `local default dev lo` in a table of our own: whatever is looked up there is delivered here.
///
/// `Display` is what stands behind `ip route add`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LocalRoute {
    /// The family of its table.
    pub family: Family,
    /// The source address for packets whose sender is bound to the wildcard address.
    pub source: Option<IpAddr>,
    /// The table.
    pub table: Table,
}

impl fmt::Display for LocalRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("local default dev lo")?;
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        write!(f, " table {}", self.table)
    }
}

const fn ip(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip -6",
    }
}
