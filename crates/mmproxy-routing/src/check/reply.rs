//! Whether the target's replies come back, and which object is to blame if they do not.

use std::fmt;
use std::net::IpAddr;

use super::fact::Fact;
use super::finding::{ExitKind, Finding, Subject, Target};
use super::rules::{Packet, RuleLine, Truth};
use crate::rtnl::table_name;

/// What the kernel would do with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Deliver it on this host, because of this table.
    Here { table: u32 },
    /// Send it out.
    Away { device: Option<String>, gateway: Option<IpAddr>, table: u32 },
    /// Drop it: no route, or one that says so.
    Nowhere,
    /// Drop it: replies to its source would leave by another interface (`EXDEV`; Linux 6.13 and newer say `EINVAL`,
    /// as they do for every source that they do not accept).
    Filtered,
    /// Refuse the question.
    Refused(String),
}

/// Completes a sentence that begins with the packet.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here { table } => write!(f, "is delivered on this host (table {})", table_name(*table)),
            Self::Away { device, gateway, table } => {
                match device {
                    Some(device) => write!(f, "is routed out by {device}")?,
                    None => f.write_str("is routed out")?,
                }
                if let Some(gateway) = gateway {
                    write!(f, " via {gateway}")?;
                }
                write!(f, " (table {})", table_name(*table))
            }
            Self::Nowhere => f.write_str("has no route and is dropped"),
            Self::Filtered => f.write_str("is dropped by the reverse-path filter"),
            Self::Refused(error) => write!(f, "cannot be routed: {error}"),
        }
    }
}

/// The rule and the route of a plan that bring a target's replies back.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) rule: RuleLine,
    /// The command that makes the rule.
    pub(super) rule_step: String,
    pub(super) table: u32,
    /// The command that makes the route.
    pub(super) route_step: String,
    /// What is in the table.
    pub(super) content: Vec<Content>,
}

/// One route of our table.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) text: String,
    /// Whether it is the route that is wanted.
    pub(super) serves: bool,
}

/// A reply and all that decides about it.
pub(super) struct Case<'a> {
    pub(super) target: Target,
    pub(super) packet: Packet<'a>,
    /// The rules of its family, in the order in which they are tried.
    pub(super) rules: &'a [RuleLine],
    pub(super) wanted: &'a Wanted,
    pub(super) answer: &'a Answer,
}

impl Case<'_> {
    /// What becomes of the reply, and why.
    pub(super) fn judge(&self) -> Finding {
        let Self { target, wanted, answer, .. } = self;
        let finding = match answer {
            Answer::Here { .. } => {
                Finding::ok(Subject::Reply, Fact::ReplyReturns, format!("{} {answer}", self.reply()))
            }
            Answer::Filtered => self.filtered(),
            Answer::Refused(_) => {
                Finding::warning(Subject::Reply, Fact::Unknown, format!("{} {answer}", self.reply()))
                    .because("the kernel did not answer the question where replies go")
            }
            Answer::Away { .. } | Answer::Nowhere => match self.serving() {
                None => self.rule_missing(),
                Some(serving) => match self.overtaking(serving) {
                    Some(rule) => self.overtaken(rule, &self.rules[serving]),
                    None if self.decided_by(wanted.table) => self.table_foreign(),
                    None if self.comes_in() && wanted.content.iter().any(|route| route.serves) => {
                        self.refused()
                    }
                    None if wanted.content.iter().any(|route| route.serves) => self.astray(),
                    None if wanted.content.is_empty() => self.route_missing(),
                    None => self.table_foreign(),
                },
            },
        };
        finding.at(*target)
    }

    /// Whether it is the reply of a target elsewhere.
    fn comes_in(&self) -> bool {
        self.packet.input != "lo"
    }

    fn reply(&self) -> String {
        format!("a reply to {}", self.packet.to)
    }

    /// "a reply to 192.0.2.1 is routed out by eth0 via 10.8.0.2 (table main, by rule `32766: from all lookup main`)"
    fn outcome(&self) -> String {
        let reply = self.reply();
        match self.deciding() {
            Some(rule) => {
                let answer = self.answer.to_string();
                format!("{reply} {}, by rule `{}`)", answer.trim_end_matches(')'), rule.text)
            }
            None => format!("{reply} {}", self.answer),
        }
    }

    /// The first rule that sends such replies to the wanted table.
    fn serving(&self) -> Option<usize> {
        let table = table_name(self.wanted.table);
        self.rules.iter().position(|rule| {
            rule.picks(&self.packet) == Truth::Yes && rule.leads_to(&table) && !rule.skips_default_routes()
        })
    }

    /// The rule that led to the table that decided.
    fn deciding(&self) -> Option<&RuleLine> {
        let Answer::Away { table, .. } = self.answer else { return None };
        let table = table_name(*table);
        self.rules.iter().find(|rule| {
            rule.leads_to(&table) && rule.picks(&self.packet) != Truth::No && !rule.skips_default_routes()
        })
    }

    /// The rule before `serving` that took the reply.
    fn overtaking(&self, serving: usize) -> Option<&RuleLine> {
        let before = &self.rules[..serving];
        match self.answer {
            Answer::Away { table, .. } => {
                let table = table_name(*table);
                before.iter().find(|rule| {
                    rule.leads_to(&table)
                        && rule.picks(&self.packet) != Truth::No
                        && !rule.skips_default_routes()
                })
            }
            // Nothing came back, so nothing tells which table it was: a rule that refuses, or the first one that
            // names a table of its own.
            Answer::Nowhere => before
                .iter()
                .filter(|rule| rule.picks(&self.packet) != Truth::No)
                .find(|rule| rule.refuses() || !(rule.leads_to("local") || rule.skips_default_routes())),
            Answer::Here { .. } | Answer::Filtered | Answer::Refused(_) => None,
        }
    }

    fn decided_by(&self, ours: u32) -> bool {
        matches!(self.answer, Answer::Away { table, .. } if *table == ours)
    }

    fn failed(&self, fact: Fact, found: String) -> Finding {
        Finding::failed(Subject::Reply, fact, ExitKind::Configuration, found).because(WHY)
    }

    fn rule_missing(&self) -> Finding {
        self.failed(
            Fact::RuleMissing,
            format!("{}: no rule sends it to table {}", self.outcome(), self.wanted.table),
        )
        .cured_by(format!("`mmproxy setup`, or `{}`", self.wanted.rule_step))
    }

    fn overtaken(&self, rule: &RuleLine, serving: &RuleLine) -> Finding {
        let planned = self.wanted.rule.priority;
        let way = if *self.answer == Answer::Nowhere {
            format!("{} is dropped", self.reply())
        } else {
            format!("{} {}", self.reply(), self.answer)
        };
        let whose = rule.maker().map_or_else(String::new, |maker| format!(", which looks like {maker}"));
        let found = format!("{way}: rule `{}`{whose}, comes before `{}`", rule.text, serving.text);
        // A rule that somebody made by hand, behind the main table perhaps, while ours would come in time.
        let cure = if planned < rule.priority {
            format!("`mmproxy setup`, or `{}`", self.wanted.rule_step)
        } else if rule.priority > 1 {
            format!("give our rule an earlier place, `--priority {}`", rule.priority - 1)
        } else {
            format!("move that rule behind ours, to a priority above {planned}")
        };
        self.failed(Fact::RuleOvertaken, found).cured_by(cure)
    }

    fn route_missing(&self) -> Finding {
        self.failed(Fact::RouteMissing, format!("{}: table {} is empty", self.outcome(), self.wanted.table))
            .cured_by(format!("`mmproxy setup`, or `{}`", self.wanted.route_step))
    }

    fn table_foreign(&self) -> Finding {
        let Wanted { table, content, .. } = self.wanted;
        let others: Vec<_> =
            content.iter().filter(|route| !route.serves).map(|route| route.text.as_str()).collect();
        let found = match others.as_slice() {
            [] => format!("{}: table {table} has no route back to this host", self.outcome()),
            [one] => format!("{}: table {table} has `{one}`", self.outcome()),
            [first, rest @ ..] => {
                format!("{}: table {table} has `{first}` and {} more", self.outcome(), rest.len())
            }
        };
        self.failed(Fact::TableForeign, found).cured_by(
            "choose a table that nobody else uses, `--table`; `ip route show table all` lists those in use",
        )
    }

    fn filtered(&self) -> Finding {
        let Packet { input, from, .. } = self.packet;
        self.failed(
            Fact::ReplyFiltered,
            format!(
                "{} that comes in by {input} {}: this host would send to {from} by another interface",
                self.reply(),
                self.answer
            ),
        )
        .cured_by(format!("loose filtering, `sysctl -w net.ipv4.conf.{input}.rp_filter=2`"))
    }

    fn refused(&self) -> Finding {
        let Packet { input, from, .. } = self.packet;
        let found = format!(
            "{} that comes in by {input} is dropped: the kernel does not accept {from} as its source",
            self.reply()
        );
        self.failed(Fact::ReplyFiltered, found).cured_by(format!(
            "`sysctl -w net.ipv4.conf.{input}.rp_filter=2` where that is 1 and `ip route get {from}` leads by another \
             interface; `sysctl -w net.ipv4.conf.{input}.accept_local=1` where src_valid_mark is 1, as wg-quick sets it"
        ))
    }

    fn astray(&self) -> Finding {
        self.failed(Fact::ReplyAstray, format!("{}, although rule and route are in place", self.outcome()))
            .cured_by(format!("compare `ip rule` with `{}`", self.wanted.rule_step))
    }
}

/// The reply that a socket of the target sends while `tcp_fwmark_accept` is off.
pub(super) fn unmarked(case: &Case<'_>) -> Finding {
    Finding::failed(
        Subject::Reply,
        Fact::ReplyUnmarked,
        ExitKind::Configuration,
        format!("{}: net.ipv4.tcp_fwmark_accept is 0, so it carries no mark", case.outcome()),
    )
    .at(case.target)
    .because(WHY)
    .cured_by("`mmproxy setup`, or `sysctl -w net.ipv4.tcp_fwmark_accept=1`")
}

const WHY: &str =
    "the target's answer to a spoofed client has to come back to this host, or the connection hangs";

#[cfg(test)]
mod tests;
