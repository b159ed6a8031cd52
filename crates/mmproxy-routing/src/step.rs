//! One object of a return path, printed as the command an operator could type.

use std::fmt;
use std::net::IpAddr;

use crate::mode::{Family, Mark, Priority, Table, Transport};

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
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl(sysctl) => write!(f, "sysctl -w {sysctl}=1"),
            Self::Rule(rule) => write!(f, "{} rule add {rule}", ip(rule.family)),
            Self::LocalRoute(route) => write!(f, "{} route add {route}", ip(route.family)),
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
        }
    }
}

/// A switch of the kernel, per network namespace, off by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Sysctl {
    /// `net.ipv4.tcp_fwmark_accept`: an accepted TCP socket inherits the mark of its SYN, in IPv4 and IPv6.
    TcpFwmarkAccept,
    /// `net.ipv4.fwmark_reflect`: replies without a socket (resets, ICMP errors) carry the mark of what they answer.
    FwmarkReflectV4,
    /// `net.ipv6.fwmark_reflect`: the same for IPv6.
    FwmarkReflectV6,
}

impl Sysctl {
    /// Every switch that a plan may turn on.
    pub(crate) const ALL: [Self; 3] = [Self::TcpFwmarkAccept, Self::FwmarkReflectV4, Self::FwmarkReflectV6];

    /// The name, as sysctl(8) takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TcpFwmarkAccept => "net.ipv4.tcp_fwmark_accept",
            Self::FwmarkReflectV4 => "net.ipv4.fwmark_reflect",
            Self::FwmarkReflectV6 => "net.ipv6.fwmark_reflect",
        }
    }

    /// The family it is for; `None` for both.
    #[must_use]
    pub const fn family(self) -> Option<Family> {
        match self {
            Self::TcpFwmarkAccept => None,
            Self::FwmarkReflectV4 => Some(Family::V4),
            Self::FwmarkReflectV6 => Some(Family::V6),
        }
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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
