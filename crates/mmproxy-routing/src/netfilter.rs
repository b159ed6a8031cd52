//! The nftables table of a mode that needs one.

mod statement;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

pub(crate) use self::statement::canonical;
use self::statement::{Holder, Statement};
use crate::mode::{Families, Family, Mark, Ports, SettingError, Table, Transport};
use crate::step::LocalRoute;

/// A table of our own in nftables, one for each family, job, mark and routing table.
///
/// `Display` is what nft(8) takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Netfilter {
    /// The family of packets it sees.
    pub family: Family,
    /// What it does.
    pub job: Job,
    /// The mark it sets.
    pub mark: Mark,
    /// The routing table that the mark leads to.
    pub table: Table,
}

/// What a table of ours does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Job {
    /// Keeps the mark of a connection's first packet in the connection tracker and gives it to the replies.
    Connmark,
    /// Marks whatever arrives for a transparent socket.
    Socket,
    /// Hands what arrives for a range of ports to one transparent listener.
    Tproxy(Redirect),
}

/// Which connections or datagrams go to which transparent listener.
///
/// A listener on the wildcard address, or on a loopback one, gets what is for any address of this host; one on another
/// address gets what is for that, whether it is an address of this host or only routed to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Redirect {
    pub(crate) transport: Transport,
    pub(crate) ports: Ports,
    /// The listener's address; `None` for the wildcard one.
    pub(crate) to: Option<IpAddr>,
    pub(crate) port: u16,
}

impl Redirect {
    /// What comes in for `ports` goes to `listener`.
    ///
    /// # Errors
    ///
    /// [`SettingError::ListenerPortZero`].
    pub fn new(transport: Transport, ports: Ports, listener: SocketAddr) -> Result<Self, SettingError> {
        if listener.port() == 0 {
            return Err(SettingError::ListenerPortZero(listener));
        }
        let to = Some(listener.ip()).filter(|ip| !ip.is_unspecified());
        Ok(Self { transport, ports, to, port: listener.port() })
    }

    /// The families of what a listener on this address can be handed: one on `::` has both.
    #[must_use]
    pub const fn families(listener: IpAddr) -> Families {
        match listener {
            IpAddr::V4(_) => Families::V4,
            IpAddr::V6(ip) => Families { v4: ip.is_unspecified(), v6: true },
        }
    }

    /// In the name of a table: no character but those that nft(8) takes in one.
    fn name(&self) -> String {
        let to = match self.to {
            None => String::new(),
            Some(IpAddr::V4(ip)) => format!("_{:x}", ip.to_bits()),
            Some(IpAddr::V6(ip)) => format!("_{:x}", ip.to_bits()),
        };
        format!("{}_{}_{}{to}", self.transport, self.ports, self.port)
    }

    fn of_name(family: Family, fields: &[&str]) -> Option<Self> {
        let (&[transport, ports, port], to) = (fields.get(..3)?, fields.get(3)) else { return None };
        let bits = |digits: &&str| match family {
            Family::V4 => u32::from_str_radix(digits, 16).ok().map(|bits| IpAddr::V4(bits.into())),
            Family::V6 => u128::from_str_radix(digits, 16).ok().map(|bits| IpAddr::V6(bits.into())),
        };
        let to = match to {
            None => None,
            Some(digits) => Some(bits(digits)?),
        };
        Some(Self {
            transport: Transport::of_name(transport)?,
            ports: ports.parse().ok()?,
            to,
            port: port.parse().ok()?,
        })
    }
}

impl Netfilter {
    /// The table's name, with its family in front.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.family.nft(), self.bare_name())
    }

    /// The name without the family.
    pub(crate) fn bare_name(&self) -> String {
        let (mark, mask) = (self.mark.get(), self.mark.mask());
        let mask = if self.mark.is_whole() { String::new() } else { format!(".{mask:x}") };
        let name = format!("{PREFIX}{}_{mark:x}{mask}_{}", self.job, self.table);
        match self.job {
            Job::Connmark | Job::Socket => name,
            Job::Tproxy(redirect) => format!("{name}_{}", redirect.name()),
        }
    }

    /// The table that has this name, if it is one of ours.
    pub(crate) fn of_name(family: &str, name: &str) -> Option<Self> {
        let family = [Family::V4, Family::V6].into_iter().find(|known| known.nft() == family)?;
        let fields: Vec<&str> = name.strip_prefix(PREFIX)?.split('_').collect();
        let [job, mark, table, rest @ ..] = fields.as_slice() else { return None };
        let job = match *job {
            "connmark" => Job::Connmark,
            "socket" => Job::Socket,
            "tproxy" => Job::Tproxy(Redirect::of_name(family, rest)?),
            _ => return None,
        };
        let hex = |digits: &str| u32::from_str_radix(digits, 16).ok();
        let mark = match mark.split_once('.') {
            Some((mark, mask)) => Mark::masked(hex(mark)?, hex(mask)?),
            None => Mark::new(hex(mark)?),
        };
        let found = Self { family, job, mark: mark.ok()?, table: table.parse().ok()? };
        (found.bare_name() == name).then_some(found)
    }

    /// Whether what it marks ends in this route, which also records that there is such a table.
    pub(crate) fn relies_on(&self, route: &LocalRoute) -> bool {
        self.family == route.family && self.table == route.table
    }

    /// Its chains, one rule in each.
    pub(crate) fn chains(&self) -> Vec<Chain> {
        use Holder::{Connection, Packet};
        let mark = self.mark;
        let prerouting =
            |rule| Chain { name: "prerouting", kind: "filter", hook: "prerouting", is_needed: true, rule };
        // The mark is for the routing decision alone. A socket that inherited it (tcp_fwmark_accept), that of a
        // transparent listener, would send its answers to itself.
        let input = Chain {
            name: "input",
            kind: "filter",
            hook: "input",
            is_needed: false,
            rule: vec![
                Statement::FromElsewhere,
                Statement::Carries(Packet, mark),
                Statement::Loses(Packet, mark),
            ],
        };
        match self.job {
            Job::Connmark => vec![
                prerouting(vec![
                    // What carries this mark for another mode, in which it comes in, is none of these connections.
                    Statement::FromHere,
                    Statement::Carries(Packet, mark),
                    Statement::Copies(Connection, Packet, mark),
                ]),
                // A chain of type route asks for a route again when the mark has changed.
                Chain {
                    name: "output",
                    kind: "route",
                    hook: "output",
                    is_needed: true,
                    rule: vec![
                        Statement::Carries(Connection, mark),
                        Statement::Copies(Packet, Connection, mark),
                    ],
                },
            ],
            Job::Socket => vec![
                prerouting(vec![
                    Statement::FromElsewhere,
                    Statement::Transparent,
                    Statement::Gets(Packet, mark),
                ]),
                input,
            ],
            Job::Tproxy(Redirect { transport, ports, to, port }) => vec![
                prerouting(vec![
                    // Connections of the gateway itself to such a port are for the server behind it.
                    Statement::FromElsewhere,
                    to.filter(|ip| !ip.is_loopback()).map_or(Statement::ToOwn, Statement::To),
                    Statement::ToPorts(transport, ports),
                    Statement::HandedTo(to, port),
                    Statement::Gets(Packet, mark),
                ]),
                input,
            ],
        }
    }

    /// The table as nft(8) takes it, with a comment on each rule.
    pub(crate) fn commented(&self, comment: &str) -> String {
        self.text(&format!(" comment \"{comment}\""))
    }

    /// What does the same in iptables(8); for `connmark`, what the original mmproxy tells its user to type.
    pub(crate) fn iptables(&self) -> Vec<String> {
        let program = match self.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let mangle = format!("{program} -t mangle -I");
        let (mark, mask) = (self.mark.get(), self.mark.mask());
        let (value, masks) = if self.mark.is_whole() {
            (mark.to_string(), String::new())
        } else {
            (format!("{mark:#x}/{mask:#x}"), format!(" --nfmask {mask:#x} --ctmask {mask:#x}"))
        };
        let comment = "-m comment --comment mmproxy";
        match self.job {
            Job::Connmark => vec![
                format!(
                    "{mangle} PREROUTING -m mark --mark {value} {comment} -j CONNMARK --save-mark{masks}"
                ),
                format!(
                    "{mangle} OUTPUT -m connmark --mark {value} {comment} -j CONNMARK --restore-mark{masks}"
                ),
            ],
            Job::Socket => vec![format!(
                "{mangle} PREROUTING -m socket --transparent {comment} -j MARK --set-xmark {mark:#x}/{mask:#x}"
            )],
            Job::Tproxy(_) => Vec::new(),
        }
    }

    fn text(&self, comment: &str) -> String {
        let chains = self.chains().into_iter().map(|chain| {
            let Chain { name, kind, hook, .. } = chain;
            format!(
                "chain {name} {{ type {kind} hook {hook} priority {MANGLE}; {}{comment}; }}; ",
                chain.text()
            )
        });
        format!("table {} {{ {}}}", self.name(), chains.collect::<String>())
    }
}

impl fmt::Display for Netfilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(""))
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connmark => "connmark",
            Self::Socket => "socket",
            Self::Tproxy(_) => "tproxy",
        })
    }
}

/// A chain of a table of ours.
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) hook: &'static str,
    /// Whether nothing works without it.
    pub(crate) is_needed: bool,
    /// Its one rule.
    rule: Vec<Statement>,
}

impl Chain {
    /// Its rule as nft(8) takes it.
    fn text(&self) -> String {
        let statements: Vec<String> = self.rule.iter().map(ToString::to_string).collect();
        statements.join(" ")
    }

    /// Whether a rule of these statements, as `nft -j` lists them, does its job. Whoever types it need not care where
    /// packets come from.
    pub(crate) fn is_done_by(&self, statements: &[Value]) -> bool {
        let ours = |statement: &Statement| canonical(&statement.json());
        let anywhere = self.rule.iter().filter(|statement| !statement.is_about_origin());
        statements.iter().cloned().eq(self.rule.iter().map(ours))
            || statements.iter().cloned().eq(anywhere.map(ours))
    }
}

/// The beginning of the names of our tables.
const PREFIX: &str = "mmproxy_";

/// The priority of the mangle tables: after connection tracking and before the routing decision. As a number, because
/// older nft(8) knows no names.
const MANGLE: i32 = -150;

#[cfg(test)]
mod tests;
