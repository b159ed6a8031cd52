//! What the return path does to others, and others to it, by way of marks and address translation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::packet::{Device, Kind, Packet, number};
use super::ruleset::{Rule, Ruleset};
use super::walk::{Effect, outward, walk};
use crate::check::fact::Fact;
use crate::check::finding::{Finding, Subject};
use crate::check::fit::marks_replies;
use crate::mode::{Mode, Transport};

/// What side effects depend on.
pub(in crate::check) struct Marks<'a> {
    pub(in crate::check) mode: Mode,
    /// Our mark.
    pub(in crate::check) mark: u32,
    /// Policy rules of others that look at marks, as `ip rule` prints them.
    pub(in crate::check) foreign_rules: &'a [&'a str],
}

/// Looks for others whom the return path may disturb, or who may disturb it.
pub(super) fn find(ruleset: Option<&Ruleset>, marks: &Marks<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let foreign = || ruleset.into_iter().flat_map(Ruleset::rules).filter(|rule| !rule.place.is_ours());
    if marks_replies(marks.mode) && marks.mode != Mode::Connmark {
        findings.extend(mark_taken(
            foreign().filter(|rule| sets(rule, marks.mark) && !rule.is_about_sockets()),
            marks.mark,
        ));
    }
    if marks.mode == Mode::Fwmark {
        let markers: Vec<_> = foreign().filter(|rule| rule.marks().is_some()).collect();
        if let Some(first) = markers.first() {
            findings.push(
                Finding::note(
                    Subject::Firewall,
                    Fact::ForeignMarks,
                    format!("rules of others set marks: {}", listed(&first.place.to_string(), markers.len())),
                )
                .because(INHERITED),
            );
        }
        if let Some(first) = marks.foreign_rules.first() {
            findings.push(
                Finding::note(
                    Subject::Firewall,
                    Fact::ForeignMarkRules,
                    format!(
                        "policy rules of others look at marks: {}",
                        listed(first, marks.foreign_rules.len())
                    ),
                )
                .because(INHERITED),
            );
        }
    }
    if marks.mode == Mode::Connmark {
        findings.extend(untracked(foreign().filter(|rule| rule.untracks())));
    }
    if marks.mode == Mode::Source {
        findings.extend(ruleset.and_then(localhost_redirected));
    }
    findings
}

fn mark_taken<'a>(mut rules: impl Iterator<Item = &'a Rule>, mark: u32) -> Option<Finding> {
    let rule = rules.next()?;
    Some(
        Finding::warning(
            Subject::Firewall,
            Fact::MarkTaken,
            format!(
                "rule with handle {} in {} sets the mark {mark:#x}, which is ours",
                rule.handle, rule.place
            ),
        )
        .because("what it marks would be delivered on this host by our rule")
        .cured_by("choose another mark, `--mark`"),
    )
}

fn untracked<'a>(mut rules: impl Iterator<Item = &'a Rule>) -> Option<Finding> {
    let rule = rules.next()?;
    Some(
        Finding::warning(
            Subject::Firewall,
            Fact::Untracked,
            format!(
                "rule with handle {} in {} switches connection tracking off for what it picks",
                rule.handle, rule.place
            ),
        )
        .because("mode connmark keeps the mark of a connection there: without it, replies have none")
        .cured_by("let that rule leave out connections to the target, or use `--return-path fwmark` (TCP) or `port` (UDP)"),
    )
}

/// Whether a rule sets exactly this mark, or one that is made of it.
fn sets(rule: &Rule, mark: u32) -> bool {
    fn names(value: &Value, mark: u64) -> bool {
        match value {
            Value::Array(parts) => parts.iter().any(|part| names(part, mark)),
            Value::Object(object) => object.values().any(|part| names(part, mark)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => number(value) == Some(mark),
        }
    }
    matches!(rule.marks(), Some(Some(value)) if names(value, mark.into()))
}

/// A redirection of ports of the loopback addresses, as container engines without a proxy of their own make it.
fn localhost_redirected(ruleset: &Ruleset) -> Option<Finding> {
    let ways = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
        .into_iter()
        .flat_map(|lo| [(lo, Transport::Tcp), (lo, Transport::Udp)]);
    let obstacle = ways.into_iter().find_map(|(lo, transport)| {
        let packet = Packet {
            kind: Kind::Request,
            transport,
            source: lo,
            destination: lo,
            source_port: None,
            destination_port: None,
            mark: Some(0),
            tracked: true,
            input: Device::Absent,
            output: Device::Absent,
        };
        let found = walk(ruleset, &packet, &outward(&Device::Named("lo".to_owned())));
        found.into_iter().find(|obstacle| obstacle.effect == Effect::Redirected)
    })?;
    Some(
        Finding::warning(
            Subject::Firewall,
            Fact::LocalhostRedirected,
            format!("ports of the loopback addresses may be redirected to another host ({})", obstacle.place),
        )
        .because(
            "mode source keeps here what this host sends from 127.0.0.0/8 or ::1 to other hosts, and so breaks them",
        )
        .cured_by("`--return-path fwmark`"),
    )
}

fn listed(first: &str, count: usize) -> String {
    match count {
        1 => format!("`{first}`"),
        n => format!("`{first}` and {} more", n - 1),
    }
}

const INHERITED: &str = "with tcp_fwmark_accept every accepted connection inherits the mark of its SYN: where the \
                         firewall marks incoming SYNs, replies follow the policy rules for that mark";
