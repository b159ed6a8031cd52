//! Each hop of a connection in mode fwmark, broken on purpose.

use std::net::{SocketAddr, TcpListener};

use mmproxy_routing::apply;
use mmproxy_routing::check::{ExitKind, Fact, Level, Target};

use crate::diagnosis::{diagnose, facts, fwmark, one, working};
use crate::namespace::{alone, default_routes, ip, own_addresses, sysctl};

#[test]
fn where_all_is_well_nothing_fails_and_the_connection_is_made() {
    alone("hops::where_all_is_well_nothing_fails_and_the_connection_is_made", || async {
        own_addresses();
        default_routes();
        apply(&fwmark()).await.unwrap();
        for (listen, address) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("0.0.0.0:0", "10.9.0.1"),
            ("[::]:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("[fd09::1]:0", "fd09::1"),
        ] {
            let listener = TcpListener::bind(listen).unwrap();
            let target =
                Target::tcp(SocketAddr::new(address.parse().unwrap(), listener.local_addr().unwrap().port()));
            let (findings, verdict) = diagnose(&fwmark(), target).await;
            assert_eq!(facts(&findings, Level::Failed), [], "{target}: {findings:#?}");
            assert_eq!(facts(&findings, Level::Warning), [], "{target}: {findings:#?}");
            assert_eq!((verdict.fact, verdict.exit), (Fact::Connected, None), "{target}");
            one(&findings, Fact::ReplyReturns);
            one(&findings, Fact::FirewallOpen);
            assert!(one(&findings, Fact::MaySpoof).level == Level::Ok);
        }
    });
}

#[test]
fn a_missing_rule_is_named_with_the_way_that_replies_take() {
    alone("hops::a_missing_rule_is_named_with_the_way_that_replies_take", || async {
        let (_listener, target) = working().await;
        ip("rule del fwmark 0x7b lookup 100 priority 100 protocol 77");
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::RuleMissing]);
        assert_eq!((verdict.fact, verdict.exit), (Fact::AnswerRoutedAway, Some(ExitKind::Configuration)));
        assert!(
            verdict.found.contains(
                "a reply to 192.0.2.1 is routed out by east via 10.8.0.2 (table main, by rule `32766: from all lookup main"
            ),
            "{verdict}"
        );
        let cure = verdict.cure.unwrap();
        assert!(cure.contains(&format!("`ip rule add {RULE}`")), "{cure}");

        // The cure cures.
        ip(&format!("rule add {RULE}"));
        assert_eq!(diagnose(&fwmark(), target).await.1.fact, Fact::Connected);
    });
}

#[test]
fn without_a_default_route_the_answer_has_no_way_at_all() {
    alone("hops::without_a_default_route_the_answer_has_no_way_at_all", || async {
        let (_listener, target) = working().await;
        ip("rule del fwmark 0x7b lookup 100 priority 100 protocol 77");
        ip("route del default");
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert!(one(&findings, Fact::RuleMissing).found.contains("has no route and is dropped"));
        assert_eq!(verdict.fact, Fact::AnswerRoutedAway);
    });
}

#[test]
fn a_missing_route_is_named() {
    alone("hops::a_missing_route_is_named", || async {
        let (_listener, target) = working().await;
        ip("route flush table 100");
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::RouteMissing]);
        assert_eq!(verdict.fact, Fact::AnswerRoutedAway);
        assert!(verdict.cure.unwrap().contains(&format!("`ip route add {ROUTE}`")));
    });
}

#[test]
fn a_table_that_leads_elsewhere_is_named_with_its_route() {
    alone("hops::a_table_that_leads_elsewhere_is_named_with_its_route", || async {
        let (_listener, target) = working().await;
        ip("route flush table 100");
        ip("route add default via 10.8.0.3 table 100");
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::TableForeign]);
        assert!(verdict.found.contains("is routed out by east via 10.8.0.3 (table 100"), "{verdict}");
        assert!(verdict.found.contains("has `default via 10.8.0.3 dev east table 100"), "{verdict}");
        assert_eq!(verdict.fact, Fact::AnswerRoutedAway);
    });
}

#[test]
fn a_rule_that_comes_first_is_named_with_its_maker() {
    alone("hops::a_rule_that_comes_first_is_named_with_its_maker", || async {
        let (_listener, target) = working().await;
        ip("route add default dev east table 51820");
        ip("rule add from 10.0.0.0/8 lookup 51820 priority 40");
        ip("rule add not fwmark 0xca6c lookup 51820 priority 50");
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::RuleOvertaken]);
        assert_eq!(verdict.fact, Fact::AnswerRoutedAway);
        assert!(verdict.found.contains("rule `50: not from all fwmark 0xca6c lookup 51820"), "{verdict}");
        assert!(verdict.found.contains("wg-quick"), "{verdict}");
        assert!(verdict.cure.unwrap().contains("--priority 49"));
        one(&findings, Fact::ForeignMarkRules);
    });
}

#[test]
fn a_missing_switch_leaves_the_answer_without_a_mark() {
    alone("hops::a_missing_switch_leaves_the_answer_without_a_mark", || async {
        let (_listener, target) = working().await;
        sysctl("net.ipv4.tcp_fwmark_accept", 0);
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::SwitchOff, Fact::ReplyUnmarked]);
        assert_eq!(verdict.fact, Fact::AnswerRoutedAway);
        assert!(verdict.found.contains("is routed out by east via 10.8.0.2"), "{verdict}");
        assert!(verdict.cure.unwrap().contains("sysctl -w net.ipv4.tcp_fwmark_accept=1"));
    });
}

#[test]
fn a_server_on_another_address_is_found_there() {
    alone("hops::a_server_on_another_address_is_found_there", || async {
        own_addresses();
        default_routes();
        apply(&fwmark()).await.unwrap();
        let listener = TcpListener::bind("10.9.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Target::tcp(SocketAddr::from(([127, 0, 0, 1], port)));
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::BoundElsewhere]);
        let name = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert!(
            verdict.found.contains(&format!(
                "{} (process {}) has that port on 10.9.0.1:{port}",
                name.trim(),
                std::process::id()
            )),
            "{verdict}"
        );
        assert_eq!((verdict.fact, verdict.exit), (Fact::TargetBoundElsewhere, Some(ExitKind::Unavailable)));
        assert!(verdict.cure.unwrap().contains(&format!("`-4 10.9.0.1:{port}`")));
    });
}

#[test]
fn a_refusal_that_is_lost_is_explained() {
    alone("hops::a_refusal_that_is_lost_is_explained", || async {
        let (listener, target) = working().await;
        drop(listener);
        sysctl("net.ipv4.fwmark_reflect", 0);
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert_eq!(facts(&findings, Level::Warning), [Fact::SwitchOff]);
        assert_eq!(verdict.fact, Fact::TargetDown);
        assert!(
            verdict.found.starts_with("no answer in time") && verdict.found.contains("refusal was lost"),
            "{verdict}"
        );
    });
}

#[test]
fn loopback_that_is_down_is_the_first_thing_to_say() {
    alone("hops::loopback_that_is_down_is_the_first_thing_to_say", || async {
        let (_listener, target) = working().await;
        ip("link set lo down");
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert_eq!(one(&findings, Fact::LoopbackDown).cure.as_deref(), Some("`ip link set lo up`"));
        assert_eq!(verdict.fact, Fact::SynLost);
    });
}

/// The objects of mode fwmark for IPv4, as `ip` takes them.
const RULE: &str = "fwmark 0x7b lookup 100 priority 100";
const ROUTE: &str = "local default dev lo table 100";
