//! Where a spoofed connection died.

use std::fmt;

use super::counters::Counters;
use super::fact::Fact;
use super::finding::{ExitKind, Finding, Subject, Target};
use crate::mode::Transport;

/// What became of a spoofed connection that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attempt {
    /// It was made; for UDP, an answer came.
    Connected,
    /// `ECONNREFUSED`.
    Refused,
    /// No answer in time.
    TimedOut,
    /// `EHOSTUNREACH`, `ENETUNREACH` and their like.
    Unreachable,
    /// `EPERM` or `EACCES`, while the socket was made or connected.
    NotPermitted,
}

impl Attempt {
    /// Name in reports.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::NotPermitted => "not_permitted",
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connected => "connected",
            Self::Refused => "refused",
            Self::TimedOut => "no answer in time",
            Self::Unreachable => "unreachable",
            Self::NotPermitted => "not permitted",
        })
    }
}

/// Says where a spoofed connection died.
///
/// `moved` is what the counters counted from just before to just after the attempt
/// ([`Counters::since`]); `findings` are those of [`examine`](crate::check::examine). Pure: it looks at nothing else.
///
/// That a counter did not move proves something; that it moved may be other traffic's doing. So what the findings say
/// comes first, and counters decide where they leave it open.
#[must_use]
pub fn locate(target: Target, attempt: Attempt, moved: &Counters, findings: &[Finding]) -> Finding {
    let scene = Scene { target, attempt, moved, findings };
    let verdict = match attempt {
        Attempt::Connected => Finding::ok(Subject::Connection, Fact::Connected, "it works"),
        Attempt::NotPermitted => scene.not_permitted(),
        Attempt::Refused => scene.refused(),
        Attempt::Unreachable => scene.unreachable(),
        Attempt::TimedOut => scene.timed_out(),
    };
    verdict.at(target)
}

struct Scene<'a> {
    target: Target,
    attempt: Attempt,
    moved: &'a Counters,
    findings: &'a [Finding],
}

impl Scene<'_> {
    /// The first finding about this target that says one of these.
    fn find(&self, facts: &[Fact]) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.concerns(self.target) && facts.contains(&finding.fact))
    }

    /// Whether the target's socket is in this network namespace, so that TCP's counters here count its segments.
    fn counts(&self) -> bool {
        self.target.transport == Transport::Tcp
            && self
                .find(&[Fact::Listens, Fact::ListensEverywhere, Fact::PortForwarder, Fact::TargetIsMmproxy])
                .is_some()
    }

    fn died(&self, fact: Fact, exit: ExitKind, how: impl fmt::Display) -> Finding {
        Finding::failed(Subject::Connection, fact, exit, format!("{}: {how}", self.attempt))
    }

    /// A verdict that rests on a finding, and takes over its reason and cure.
    fn because_of(&self, cause: &Finding, fact: Fact, exit: ExitKind, how: impl fmt::Display) -> Finding {
        let verdict = self.died(fact, exit, how).because(cause.why.clone());
        Finding { cure: cause.cure.clone(), ..verdict }
    }

    fn not_permitted(&self) -> Finding {
        match self.find(&[Fact::MayNotSpoof]) {
            Some(cause) => self.because_of(cause, Fact::NotPermitted, ExitKind::Permission, &cause.found),
            None => {
                self.died(
                    Fact::NotPermitted,
                    ExitKind::Permission,
                    "the kernel refused the socket or its connection",
                )
                .because("this process has the capability, so a security module or an eBPF program refuses")
                .cured_by("look at `dmesg` and `bpftool cgroup tree`; in a container, at its seccomp profile")
            }
        }
    }

    fn refused(&self) -> Finding {
        if let Some(verdict) = self.nobody_there() {
            return verdict;
        }
        if let Some(rule) = self.find(&[Fact::FirewallRejects, Fact::FirewallRedirects]) {
            return self.because_of(rule, Fact::RefusedByFirewall, ExitKind::Configuration, &rule.found);
        }
        let may = self.find(&[Fact::FirewallMayReject, Fact::FirewallMayRedirect]);
        if self.counts() && self.moved.resets_out == 0 {
            let how = "no socket of this host sent a reset, so a firewall refused on the way";
            return match may {
                Some(rule) => self.because_of(
                    rule,
                    Fact::RefusedByFirewall,
                    ExitKind::Configuration,
                    format!("{how}: {}", rule.found),
                ),
                None => self
                    .died(Fact::RefusedByFirewall, ExitKind::Configuration, how)
                    .cured_by("look for reject in `nft list ruleset` and `iptables-legacy-save`"),
            };
        }
        let suspect = may.map_or_else(String::new, |rule| format!("; or {}", rule.found));
        self.died(
            Fact::RefusedByTarget,
            ExitKind::Unavailable,
            format!("the target refused this client{suspect}"),
        )
        .because("it listens, so its own access rules or limits are the likely reason")
        .cured_by("look at the server's log and its access rules")
    }

    fn unreachable(&self) -> Finding {
        if let Some(rule) = self.find(&[Fact::FirewallRejects, Fact::FirewallMayReject]) {
            return self.because_of(rule, Fact::RefusedByFirewall, ExitKind::Configuration, &rule.found);
        }
        if let Some(route) = self.find(NO_WAY_THERE) {
            return self.because_of(route, Fact::SynLost, ExitKind::Configuration, &route.found);
        }
        let how = match self.moved.unreachables_in {
            0 => "this host has no way to the target",
            _ => "an ICMP error came back",
        };
        self.died(Fact::SynLost, ExitKind::Configuration, how)
            .cured_by(format!("`ip route get {}` asks for the way", self.target.address.ip()))
    }

    fn timed_out(&self) -> Finding {
        self.lost_on_the_way_there()
            .or_else(|| self.nobody_there())
            .or_else(|| self.lost_on_the_way_back())
            .unwrap_or_else(|| {
                self.died(
                    Fact::Unexplained,
                    ExitKind::Configuration,
                    "nothing that was looked at explains it",
                )
                .because(
                    "a packet was lost where this check cannot see: eBPF, tc, XDP, a router, a busy target",
                )
                .cured_by(format!(
                    "`tcpdump -ni any port {}` shows how far it gets",
                    self.target.address.port()
                ))
            })
    }

    fn lost_on_the_way_there(&self) -> Option<Finding> {
        if let Some(rule) = self.find(&[Fact::FirewallDrops]) {
            return Some(self.because_of(rule, Fact::SynDropped, ExitKind::Configuration, &rule.found));
        }
        if let Some(rule) = self.find(&[Fact::FirewallRedirects]) {
            return Some(self.because_of(rule, Fact::SynRedirected, ExitKind::Configuration, &rule.found));
        }
        if let Some(route) = self.find(NO_WAY_THERE) {
            return Some(self.because_of(route, Fact::SynLost, ExitKind::Configuration, &route.found));
        }
        if !self.counts() || self.moved.segments_in > 0 {
            return None;
        }
        let how = "not one TCP segment came in, so the SYN was dropped on its way to the target";
        Some(match self.find(&[Fact::FirewallMayDrop, Fact::FirewallMayReject, Fact::FirewallMayRedirect]) {
            Some(rule) => {
                let how = format!("{how}: {}", rule.found);
                self.because_of(rule, Fact::SynDropped, ExitKind::Configuration, how)
            }
            None => self
                .died(Fact::SynLost, ExitKind::Configuration, how)
                .cured_by("look at `nft list ruleset`, `iptables-legacy-save`, `tc filter show dev lo` and eBPF programs"),
        })
    }

    fn nobody_there(&self) -> Option<Finding> {
        let listener = self.find(&[Fact::NobodyListens, Fact::BoundElsewhere])?;
        let elsewhere = listener.fact == Fact::BoundElsewhere;
        let fact = if elsewhere { Fact::TargetBoundElsewhere } else { Fact::TargetDown };
        let lost = if self.attempt == Attempt::TimedOut { ", and the refusal was lost" } else { "" };
        Some(self.because_of(listener, fact, ExitKind::Unavailable, format!("{}{lost}", listener.found)))
    }

    fn lost_on_the_way_back(&self) -> Option<Finding> {
        let config = ExitKind::Configuration;
        if let Some(reply) = self.find(REPLY_LOST) {
            let filtered = reply.fact == Fact::ReplyFiltered;
            let fact = if filtered { Fact::AnswerFiltered } else { Fact::AnswerRoutedAway };
            return Some(self.because_of(
                reply,
                fact,
                config,
                format!("the target answered, but {}", reply.found),
            ));
        }
        if let Some(rule) = self.find(&[Fact::FirewallStopsReply]) {
            return Some(self.because_of(rule, Fact::AnswerDropped, config, &rule.found));
        }
        if self.moved.reverse_path_drops > 0 {
            let verdict = self
                .died(
                    Fact::AnswerFiltered,
                    config,
                    format!(
                        "the reverse-path filter dropped {} packets meanwhile",
                        self.moved.reverse_path_drops
                    ),
                )
                .because("it drops what comes in by an interface that the way back would not take")
                .cured_by("loose filtering on that interface, `sysctl -w net.ipv4.conf.DEV.rp_filter=2`");
            return Some(verdict);
        }
        if self.moved.listen_overflows > 0 {
            let verdict = self
                .died(
                    Fact::BacklogFull,
                    ExitKind::Unavailable,
                    "the target's queue of waiting connections is full",
                )
                .because("the server is hung, or accepts too slowly")
                .cured_by("look at the server; `ss -ltn` shows the queue");
            return Some(verdict);
        }
        if self.moved.no_routes > 0 {
            let verdict = self
                .died(
                    Fact::AnswerRoutedAway,
                    config,
                    "the target answered, but the kernel had no route for it",
                )
                .cured_by("`mmproxy setup`");
            return Some(verdict);
        }
        let rule = self.find(&[
            Fact::FirewallMayStopReply,
            Fact::FirewallMayDrop,
            Fact::FirewallMayReject,
            Fact::FirewallMayRedirect,
        ])?;
        let back = rule.fact == Fact::FirewallMayStopReply;
        let fact = if back { Fact::AnswerDropped } else { Fact::SynDropped };
        Some(self.because_of(rule, fact, config, &rule.found))
    }
}

const NO_WAY_THERE: &[Fact] =
    &[Fact::LoopbackDown, Fact::Ipv6Off, Fact::TargetElsewhere, Fact::TargetUnroutable];

const REPLY_LOST: &[Fact] = &[
    Fact::ReplyUnmarked,
    Fact::RuleMissing,
    Fact::RuleOvertaken,
    Fact::RouteMissing,
    Fact::TableForeign,
    Fact::ReplyFiltered,
    Fact::ReplyAstray,
    Fact::FamilyMissing,
    Fact::ObjectMissing,
    Fact::ModeUnfit,
    Fact::Untracked,
];

#[cfg(test)]
mod tests;
