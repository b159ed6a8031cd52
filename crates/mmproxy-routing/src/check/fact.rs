//! What a check can find, as a closed set.

use std::fmt;

/// Declares [`Fact`] with a label and a document line each, so that none can be forgotten.
macro_rules! facts {
    ($($(#[$doc:meta])* $fact:ident = $label:literal,)*) => {
        /// What was found, from a closed set: what other programs key on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Fact {
            $($(#[$doc])* $fact,)*
        }

        impl Fact {
            /// Every fact.
            pub const ALL: &[Self] = &[$(Self::$fact,)*];

            /// Name in reports. Never renamed.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$fact => $label,)*
                }
            }
        }
    };
}

facts! {
    /// The process may make spoofed connections.
    MaySpoof = "may_spoof",
    /// It may not.
    MayNotSpoof = "may_not_spoof",
    /// The kernel, or a file of it, does not tell.
    Unknown = "unknown",

    /// The mode serves such a target.
    ModeServes = "mode_serves",
    /// The mode cannot bring this target's replies back.
    ModeUnfit = "mode_unfit",
    /// The target's family is not part of the return path.
    FamilyMissing = "family_missing",
    /// An object of the return path is missing or somebody else's.
    ObjectMissing = "object_missing",

    /// The loopback interface is down.
    LoopbackDown = "loopback_down",
    /// The family is switched off.
    Ipv6Off = "ipv6_off",
    /// A switch has the value it has to have.
    SwitchRight = "switch_right",
    /// The interface toward an IPv6 target has no link-local address to ask for neighbours from.
    NoLinkLocal = "no_link_local",
    /// A switch that the mode needs is off.
    SwitchOff = "switch_off",
    /// A switch is on that mmproxy does not need.
    SwitchNeedless = "switch_needless",
    /// A strict reverse-path filter that the replies do not meet.
    ReversePathHarmless = "reverse_path_harmless",
    /// A strict reverse-path filter that the replies meet.
    ReversePathStrict = "reverse_path_strict",
    /// The kernel validates the source of replies with our mark, and refuses it.
    SourceRefused = "source_refused",

    /// Packets to the target are delivered where the mode expects it.
    TargetReachable = "target_reachable",
    /// Packets to the target leave this host, and the mode needs it here.
    TargetElsewhere = "target_elsewhere",
    /// Packets to the target have no way.
    TargetUnroutable = "target_unroutable",

    /// Replies to a client come back.
    ReplyReturns = "reply_returns",
    /// No rule sends the replies to our table.
    RuleMissing = "rule_missing",
    /// A rule that comes first sends the replies elsewhere.
    RuleOvertaken = "rule_overtaken",
    /// Our table has no route.
    RouteMissing = "route_missing",
    /// Our table leads elsewhere.
    TableForeign = "table_foreign",
    /// The replies carry no mark.
    ReplyUnmarked = "reply_unmarked",
    /// The reverse-path filter drops the replies.
    ReplyFiltered = "reply_filtered",
    /// The replies do not come back, and no single object is to blame.
    ReplyAstray = "reply_astray",

    /// A socket is bound to the target's address.
    Listens = "listens",
    /// A socket is bound to every address.
    ListensEverywhere = "listens_everywhere",
    /// No socket has the target's port.
    NobodyListens = "nobody_listens",
    /// A socket has the port, on another address.
    BoundElsewhere = "bound_elsewhere",
    /// A program that makes connections of its own to the real server has the port.
    PortForwarder = "port_forwarder",
    /// The target is mmproxy itself.
    TargetIsMmproxy = "target_is_mmproxy",
    /// A UDP server on every address would answer from an address of the kernel's choice.
    WildcardAnswers = "wildcard_answers",

    /// No rule is in the way.
    FirewallOpen = "firewall_open",
    /// The firewall could not be looked at.
    FirewallUnseen = "firewall_unseen",
    /// A rule drops the connection on its way to the target.
    FirewallDrops = "firewall_drops",
    /// A rule may drop it.
    FirewallMayDrop = "firewall_may_drop",
    /// A rule rejects the connection on its way to the target.
    FirewallRejects = "firewall_rejects",
    /// A rule may reject it.
    FirewallMayReject = "firewall_may_reject",
    /// A rule drops or rejects the target's reply.
    FirewallStopsReply = "firewall_stops_reply",
    /// A rule may drop or reject it.
    FirewallMayStopReply = "firewall_may_stop_reply",
    /// A rule sends the connection elsewhere.
    FirewallRedirects = "firewall_redirects",
    /// A rule may send it elsewhere.
    FirewallMayRedirect = "firewall_may_redirect",
    /// Firewall rules of others give packets marks.
    ForeignMarks = "foreign_marks",
    /// Policy rules of others look at marks.
    ForeignMarkRules = "foreign_mark_rules",
    /// Somebody else gives packets the mark that is ours.
    MarkTaken = "mark_taken",
    /// Somebody redirects ports of the loopback addresses.
    LocalhostRedirected = "localhost_redirected",

    /// Somebody switches connection tracking off.
    Untracked = "untracked",

    /// The spoofed connection was made.
    Connected = "connected",
    /// The process was not permitted to make it.
    NotPermitted = "not_permitted",
    /// The connection was refused because no socket has the port.
    TargetDown = "target_down",
    /// The connection was refused because the port is bound to another address.
    TargetBoundElsewhere = "target_bound_elsewhere",
    /// The connection was refused by a firewall.
    RefusedByFirewall = "refused_by_firewall",
    /// The target listens, and refused.
    RefusedByTarget = "refused_by_target",
    /// The connection did not get to the target.
    SynLost = "syn_lost",
    /// A firewall dropped it on its way to the target.
    SynDropped = "syn_dropped",
    /// A rule sent it to another server.
    SynRedirected = "syn_redirected",
    /// The target answered, and the answer left by another way.
    AnswerRoutedAway = "answer_routed_away",
    /// The target answered, and a firewall dropped the answer.
    AnswerDropped = "answer_dropped",
    /// The target answered, and the reverse-path filter dropped the answer.
    AnswerFiltered = "answer_filtered",
    /// The target has more connections waiting than it takes.
    BacklogFull = "backlog_full",
    /// No answer, and nothing tells why.
    Unexplained = "unexplained",
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_fact_has_a_label_of_its_own() {
        let labels: HashSet<_> = Fact::ALL.iter().map(|fact| fact.label()).collect();
        assert_eq!(labels.len(), Fact::ALL.len());
    }
}
