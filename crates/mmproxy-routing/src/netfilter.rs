//! The nftables table of a mode that needs one.

use std::fmt;

use crate::mode::{Family, Mark, Table};
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
}

impl Netfilter {
    /// The table's name, with its family in front.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.nft_family(), self.bare_name())
    }

    /// The name without the family.
    pub(crate) fn bare_name(&self) -> String {
        format!("{PREFIX}{}_{:x}_{}", self.job, self.mark.get(), self.table)
    }

    /// The family as nft(8) calls it.
    pub(crate) const fn nft_family(&self) -> &'static str {
        match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    /// The table that has this name, if it is one of ours.
    pub(crate) fn of_name(family: &str, name: &str) -> Option<Self> {
        let family = match family {
            "ip" => Family::V4,
            "ip6" => Family::V6,
            _ => return None,
        };
        let fields: Vec<&str> = name.strip_prefix(PREFIX)?.split('_').collect();
        let [job, mark, table] = fields.as_slice() else { return None };
        let job = [Job::Connmark, Job::Socket].into_iter().find(|known| known.to_string() == *job)?;
        let mark = Mark::new(u32::from_str_radix(mark, 16).ok()?).ok()?;
        let found = Self { family, job, mark, table: table.parse().ok()? };
        (found.bare_name() == name).then_some(found)
    }

    /// Whether what it marks ends in this route, which also records that there is such a table.
    pub(crate) fn relies_on(&self, route: &LocalRoute) -> bool {
        self.family == route.family && self.table == route.table
    }

    /// Its chains, one rule in each.
    pub(crate) fn chains(&self) -> Vec<Chain> {
        let mark = self.mark;
        match self.job {
            Job::Connmark => vec![
                Chain {
                    name: "prerouting",
                    kind: "filter",
                    hook: "prerouting",
                    rule: format!("meta mark {mark} ct mark set meta mark"),
                },
                // A chain of type route asks for a route again when the mark has changed.
                Chain {
                    name: "output",
                    kind: "route",
                    hook: "output",
                    rule: format!("ct mark {mark} meta mark set ct mark"),
                },
            ],
            Job::Socket => vec![Chain {
                name: "prerouting",
                kind: "filter",
                hook: "prerouting",
                rule: format!("socket transparent 1 meta mark set {mark}"),
            }],
        }
    }

    /// The table as nft(8) takes it, with a comment on each rule.
    pub(crate) fn commented(&self, comment: &str) -> String {
        self.text(&format!(" comment \"{comment}\""))
    }

    /// What the original mmproxy tells its user to type instead.
    pub(crate) fn iptables(&self) -> Vec<String> {
        let program = match self.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        };
        let mark = self.mark.get();
        match self.job {
            Job::Connmark => vec![
                format!("{program} -t mangle -I PREROUTING -m mark --mark {mark} -j CONNMARK --save-mark"),
                format!("{program} -t mangle -I OUTPUT -m connmark --mark {mark} -j CONNMARK --restore-mark"),
            ],
            Job::Socket => vec![format!(
                "{program} -t mangle -I PREROUTING -m socket --transparent -j MARK --set-mark {mark}"
            )],
        }
    }

    fn text(&self, comment: &str) -> String {
        let chains = self.chains().into_iter().map(|Chain { name, kind, hook, rule }| {
            format!("chain {name} {{ type {kind} hook {hook} priority {MANGLE}; {rule}{comment}; }}; ")
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
        })
    }
}

/// A chain of a table of ours.
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) hook: &'static str,
    /// Its one rule, as nft(8) takes it.
    pub(crate) rule: String,
}

/// The beginning of the names of our tables.
const PREFIX: &str = "mmproxy_";

/// The priority of the mangle tables: after connection tracking and before the routing decision. As a number, because
/// older nft(8) knows no names.
const MANGLE: i32 = -150;

#[cfg(test)]
mod tests {
    use super::*;

    fn table(job: Job) -> Netfilter {
        Netfilter { family: Family::V4, job, mark: Mark::default(), table: Table::default() }
    }

    #[test]
    fn tables_as_an_operator_would_type_them() {
        assert_eq!(
            table(Job::Connmark).to_string(),
            "table ip mmproxy_connmark_7b_100 { \
             chain prerouting { type filter hook prerouting priority -150; meta mark 0x7b ct mark set meta mark; }; \
             chain output { type route hook output priority -150; ct mark 0x7b meta mark set ct mark; }; }"
        );
        assert_eq!(
            table(Job::Socket).to_string(),
            "table ip mmproxy_socket_7b_100 { \
             chain prerouting { type filter hook prerouting priority -150; socket transparent 1 meta mark set 0x7b; }; }"
        );
    }

    #[test]
    fn a_table_is_known_by_its_name() {
        for job in [Job::Connmark, Job::Socket] {
            assert_eq!(Netfilter::of_name("ip", &table(job).bare_name()), Some(table(job)));
        }
        for (family, name) in [
            ("inet", "mmproxy_socket_7b"),
            ("ip", "mmproxy_socket_0"),
            ("ip", "mmproxy_socket_07b"),
            ("ip", "mmproxy"),
        ] {
            assert_eq!(Netfilter::of_name(family, name), None, "{family} {name}");
        }
    }

    #[test]
    fn the_original_speaks_of_the_same_mark() {
        assert_eq!(
            Netfilter { family: Family::V6, ..table(Job::Connmark) }.iptables(),
            [
                "ip6tables -t mangle -I PREROUTING -m mark --mark 123 -j CONNMARK --save-mark",
                "ip6tables -t mangle -I OUTPUT -m connmark --mark 123 -j CONNMARK --restore-mark",
            ]
        );
    }
}
