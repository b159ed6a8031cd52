use super::*;

fn target() -> Target {
    Target::tcp("127.0.0.1:443".parse().unwrap())
}

fn found(fact: Fact) -> Finding {
    Finding::failed(Subject::Reply, fact, ExitKind::Configuration, fact.label())
        .at(target())
        .because("why")
        .cured_by("cure")
}

/// A SYN that came in, a SYN-ACK that was sent.
const DELIVERED: Counters = Counters { segments_in: 1, ..STILL };
const STILL: Counters = Counters {
    segments_in: 0,
    resets_out: 0,
    accepted: 0,
    failed_attempts: 0,
    syns_again: 0,
    listen_drops: 0,
    listen_overflows: 0,
    reverse_path_drops: 0,
    no_routes: 0,
    unreachables_in: 0,
};

#[test]
fn every_hop_has_its_verdict() {
    use Attempt::{Connected, NotPermitted, Refused, TimedOut, Unreachable};
    use ExitKind::{Configuration, Permission, Unavailable};
    use Fact::*;
    let reset = Counters { resets_out: 1, segments_in: 2, ..STILL };
    for (attempt, moved, facts, verdict, exit) in [
        (Connected, DELIVERED, &[Listens, ReplyReturns][..], Fact::Connected, None),
        (NotPermitted, STILL, &[MayNotSpoof], Fact::NotPermitted, Some(Permission)),
        (NotPermitted, STILL, &[MaySpoof], Fact::NotPermitted, Some(Permission)),
        (Refused, reset, &[NobodyListens, ReplyReturns], TargetDown, Some(Unavailable)),
        (Refused, reset, &[BoundElsewhere], TargetBoundElsewhere, Some(Unavailable)),
        (Refused, DELIVERED, &[Listens, FirewallRejects], RefusedByFirewall, Some(Configuration)),
        (Refused, DELIVERED, &[Listens], RefusedByFirewall, Some(Configuration)),
        (Refused, DELIVERED, &[Listens, FirewallMayReject], RefusedByFirewall, Some(Configuration)),
        (Refused, reset, &[Listens], RefusedByTarget, Some(Unavailable)),
        (Refused, DELIVERED, &[], RefusedByTarget, Some(Unavailable)),
        (Unreachable, STILL, &[TargetUnroutable], SynLost, Some(Configuration)),
        (Unreachable, STILL, &[FirewallRejects], RefusedByFirewall, Some(Configuration)),
        (Unreachable, STILL, &[], SynLost, Some(Configuration)),
        (TimedOut, STILL, &[Listens, FirewallDrops, RuleMissing], SynDropped, Some(Configuration)),
        (TimedOut, STILL, &[Listens, FirewallMayDrop], SynDropped, Some(Configuration)),
        (TimedOut, STILL, &[Listens, ReplyReturns], SynLost, Some(Configuration)),
        (TimedOut, STILL, &[FirewallRedirects], SynRedirected, Some(Configuration)),
        (TimedOut, DELIVERED, &[LoopbackDown], SynLost, Some(Configuration)),
        (TimedOut, DELIVERED, &[TargetElsewhere, ModeUnfit], SynLost, Some(Configuration)),
        (TimedOut, DELIVERED, &[NobodyListens, RuleMissing], TargetDown, Some(Unavailable)),
        (TimedOut, DELIVERED, &[BoundElsewhere], TargetBoundElsewhere, Some(Unavailable)),
        (TimedOut, DELIVERED, &[Listens, RuleMissing], AnswerRoutedAway, Some(Configuration)),
        (TimedOut, DELIVERED, &[Listens, RouteMissing], AnswerRoutedAway, Some(Configuration)),
        (TimedOut, DELIVERED, &[Listens, TableForeign], AnswerRoutedAway, Some(Configuration)),
        (TimedOut, DELIVERED, &[Listens, RuleOvertaken], AnswerRoutedAway, Some(Configuration)),
        (TimedOut, DELIVERED, &[Listens, ReplyUnmarked], AnswerRoutedAway, Some(Configuration)),
        (TimedOut, DELIVERED, &[Listens, ReplyFiltered], AnswerFiltered, Some(Configuration)),
        (TimedOut, DELIVERED, &[Listens, FirewallStopsReply], AnswerDropped, Some(Configuration)),
        (TimedOut, DELIVERED, &[Listens, FirewallMayStopReply], AnswerDropped, Some(Configuration)),
        (TimedOut, DELIVERED, &[Listens, FirewallMayDrop], SynDropped, Some(Configuration)),
        (
            TimedOut,
            Counters { reverse_path_drops: 2, ..DELIVERED },
            &[Listens],
            AnswerFiltered,
            Some(Configuration),
        ),
        (TimedOut, Counters { listen_overflows: 2, ..DELIVERED }, &[Listens], BacklogFull, Some(Unavailable)),
        (TimedOut, Counters { no_routes: 1, ..DELIVERED }, &[Listens], AnswerRoutedAway, Some(Configuration)),
        (TimedOut, DELIVERED, &[Listens, ReplyReturns], Unexplained, Some(Configuration)),
        // A target elsewhere: its segments are counted there.
        (TimedOut, STILL, &[TargetReachable, ReplyReturns], Unexplained, Some(Configuration)),
    ] {
        let findings: Vec<_> = facts.iter().copied().map(found).collect();
        let verdict_found = locate(target(), attempt, &moved, &findings);
        let case = format!("{attempt} {moved:?} {facts:?}: {verdict_found:?}");
        assert_eq!((verdict_found.fact, verdict_found.exit), (verdict, exit), "{case}");
        assert_eq!(
            (verdict_found.subject, verdict_found.target),
            (Subject::Connection, Some(target())),
            "{case}"
        );
        assert!(verdict_found.cure.is_some() || attempt == Connected, "{case}");
    }
}

#[test]
fn a_verdict_tells_what_the_finding_said() {
    let mut reply = found(Fact::RuleMissing);
    reply.found = "a reply to 192.0.2.1 leaves by eth0 via 10.8.0.2".to_owned();
    let verdict = locate(target(), Attempt::TimedOut, &DELIVERED, &[found(Fact::Listens), reply]);
    assert_eq!(
        verdict.found,
        "no answer in time: the target answered, but a reply to 192.0.2.1 leaves by eth0 via 10.8.0.2"
    );
    assert_eq!((verdict.why.as_str(), verdict.cure.as_deref()), ("why", Some("cure")));
}

#[test]
fn findings_about_other_targets_do_not_count() {
    let other = found(Fact::NobodyListens).at(Target::tcp("127.0.0.1:80".parse().unwrap()));
    let verdict = locate(target(), Attempt::TimedOut, &DELIVERED, &[other, found(Fact::Listens)]);
    assert_eq!(verdict.fact, Fact::Unexplained);
    let udp = locate(Target::udp(target().address), Attempt::TimedOut, &STILL, &[]);
    assert_eq!(udp.fact, Fact::Unexplained);
}
