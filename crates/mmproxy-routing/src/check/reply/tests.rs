use super::*;
use crate::check::finding::Level;

const LOCAL: &str = "0: from all lookup local proto kernel";
const OURS: &str = "100: from all fwmark 0x7b lookup 100 proto 77";
const MAIN: &str = "32766: from all lookup main proto kernel";
const WIREGUARD: &str = "99: not from all fwmark 0xca6c lookup 51820 proto boot";

fn away(table: u32) -> Answer {
    Answer::Away { device: Some("eth0".to_owned()), gateway: Some("10.8.0.2".parse().unwrap()), table }
}

fn judged(rules: &[&str], content: &[(&str, bool)], answer: &Answer) -> Finding {
    let rules: Vec<_> = rules.iter().map(|line| RuleLine::read(line)).collect();
    let wanted = Wanted {
        rule: RuleLine::read("100: fwmark 0x7b lookup 100 priority 100"),
        rule_step: "ip rule add fwmark 0x7b lookup 100 priority 100".to_owned(),
        table: 100,
        route_step: "ip route add local default dev lo table 100".to_owned(),
        content: content
            .iter()
            .map(|(text, serves)| Content { text: (*text).to_owned(), serves: *serves })
            .collect(),
    };
    let packet = Packet {
        input: "lo",
        from: "127.0.0.1".parse().unwrap(),
        to: "192.0.2.1".parse().unwrap(),
        mark: 0x7b,
        protocol: 6,
        source_port: Some(443),
        destination_port: None,
        uid: None,
    };
    let target = Target::tcp("127.0.0.1:443".parse().unwrap());
    Case { target, packet, rules: &rules, wanted: &wanted, answer }.judge()
}

const ROUTE: (&str, bool) = ("local default dev lo table 100 proto 77", true);

#[test]
fn what_is_delivered_here_is_fine() {
    let finding = judged(&[LOCAL, OURS, MAIN], &[ROUTE], &Answer::Here { table: 100 });
    assert_eq!((finding.fact, finding.level), (Fact::ReplyReturns, Level::Ok));
    assert_eq!(finding.found, "a reply to 192.0.2.1 is delivered on this host (table 100)");
}

#[test]
fn each_broken_object_is_named() {
    let elsewhere = ("default via 10.0.0.1 dev eth1 table 100 proto static", false);
    let late = "32767: from all fwmark 0x7b lookup 100 proto boot";
    for (rules, content, answer, fact, says, cure) in [
        (
            &[LOCAL, MAIN][..],
            &[ROUTE][..],
            away(254),
            Fact::RuleMissing,
            "no rule sends it to table 100",
            "ip rule add",
        ),
        (
            &[LOCAL, MAIN],
            &[],
            Answer::Nowhere,
            Fact::RuleMissing,
            "has no route and is dropped",
            "ip rule add",
        ),
        (
            &[LOCAL, OURS, MAIN],
            &[],
            away(254),
            Fact::RouteMissing,
            "table 100 is empty",
            "ip route add local",
        ),
        (
            &[LOCAL, OURS, MAIN],
            &[],
            Answer::Nowhere,
            Fact::RouteMissing,
            "table 100 is empty",
            "ip route add local",
        ),
        (
            &[LOCAL, OURS, MAIN],
            &[elsewhere],
            away(100),
            Fact::TableForeign,
            "`default via 10.0.0.1 dev eth1",
            "--table",
        ),
        (&[LOCAL, OURS, MAIN], &[ROUTE, elsewhere], away(100), Fact::TableForeign, "10.0.0.1", "--table"),
        (&[LOCAL, OURS, MAIN], &[elsewhere], Answer::Nowhere, Fact::TableForeign, "10.0.0.1", "--table"),
        (
            &[LOCAL, WIREGUARD, OURS, MAIN],
            &[ROUTE],
            away(51820),
            Fact::RuleOvertaken,
            "wg-quick",
            "--priority 98",
        ),
        (
            &[LOCAL, "1: from all unreachable", OURS],
            &[ROUTE],
            Answer::Nowhere,
            Fact::RuleOvertaken,
            "unreachable",
            "behind ours",
        ),
        (
            &[LOCAL, MAIN, late],
            &[ROUTE],
            away(254),
            Fact::RuleOvertaken,
            "comes before `32767",
            "ip rule add fwmark",
        ),
        (
            &[LOCAL, OURS, MAIN],
            &[ROUTE],
            away(254),
            Fact::ReplyAstray,
            "although rule and route are in place",
            "ip rule",
        ),
        (
            &[LOCAL, OURS, MAIN],
            &[ROUTE],
            Answer::Filtered,
            Fact::ReplyFiltered,
            "reverse-path filter",
            "rp_filter=2",
        ),
    ] {
        let finding = judged(rules, content, &answer);
        let case = format!("{rules:?} {content:?} {answer:?}: {finding:?}");
        assert_eq!((finding.fact, finding.level), (fact, Level::Failed), "{case}");
        assert_eq!(finding.exit, Some(ExitKind::Configuration), "{case}");
        assert!(finding.found.contains(says), "{case}");
        assert!(finding.cure.as_deref().unwrap_or_default().contains(cure), "{case}");
    }
}

#[test]
fn the_way_out_is_told_with_the_rule_that_led_there() {
    let finding = judged(&[LOCAL, MAIN], &[], &away(254));
    assert_eq!(
        finding.found,
        "a reply to 192.0.2.1 is routed out by eth0 via 10.8.0.2 (table main, by rule \
         `32766: from all lookup main proto kernel`): no rule sends it to table 100"
    );
}

#[test]
fn rules_about_other_packets_are_not_blamed() {
    let others =
        [LOCAL, "50: from 10.0.0.0/8 lookup 51820", "51: from all fwmark 0x1 lookup 51820", WIREGUARD, OURS];
    let finding = judged(&others, &[ROUTE], &away(51820));
    assert!(finding.found.contains("rule `99: not from all"), "{finding}");
    let suppressed =
        [LOCAL, "50: from all lookup main suppress_prefixlength 0", "60: from all lookup main", OURS];
    assert!(judged(&suppressed, &[ROUTE], &away(254)).found.contains("rule `60: "));
}

#[test]
fn a_question_without_an_answer_fails_nothing() {
    let finding = judged(&[LOCAL], &[], &Answer::Refused("invalid argument".to_owned()));
    assert_eq!((finding.fact, finding.level, finding.exit), (Fact::Unknown, Level::Warning, None));
}
