//! Firewalls in the way.

use std::net::TcpListener;

use mmproxy_routing::check::{ExitKind, Fact, Level, Strangers, examine};

use crate::diagnosis::{diagnose, facts, fwmark, nft, one, working};
use crate::namespace::{alone, run};

#[test]
fn a_firewall_that_drops_the_connection_is_named_with_its_rule() {
    alone("firewall::a_firewall_that_drops_the_connection_is_named_with_its_rule", || async {
        let (_listener, target) = working().await;
        let port = target.address.port();
        nft(&format!(
            "table inet guard {{ chain input {{ type filter hook input priority 0; policy accept;
             ip saddr != 127.0.0.0/8 tcp dport {port} counter drop
             }}
             }}"
        ));
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::FirewallDrops]);
        assert_eq!((verdict.fact, verdict.exit), (Fact::SynDropped, Some(ExitKind::Configuration)));
        assert!(
            verdict.found.contains(&format!(
                "tcp dport {port} counter packets 0 bytes 0 drop` (inet guard input, handle"
            )),
            "{verdict}"
        );
        let cure = verdict.cure.unwrap();
        assert_eq!(cure, "`nft insert rule inet guard input iifname lo accept`");

        run("nft", cure.trim_matches('`').trim_start_matches("nft"));
        assert_eq!(diagnose(&fwmark(), target).await.1.fact, Fact::Connected, "the cure cures");
    });
}

#[test]
fn a_firewall_that_may_be_the_reason_is_suspected_when_nothing_arrives() {
    alone("firewall::a_firewall_that_may_be_the_reason_is_suspected_when_nothing_arrives", || async {
        let (_listener, target) = working().await;
        nft("table inet guard {
             set banned { type ipv4_addr; elements = { 192.0.2.1 } }
             chain input { type filter hook input priority 0; policy accept; ip saddr @banned drop
             }
             }");
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert_eq!(facts(&findings, Level::Failed), []);
        assert!(one(&findings, Fact::FirewallMayDrop).found.contains("rule `ip saddr @banned drop`"));
        assert_eq!(verdict.fact, Fact::SynDropped);
        assert!(verdict.found.contains("not one TCP segment came in"), "{verdict}");
    });
}

#[test]
fn a_firewall_that_drops_the_answer_is_told_from_one_that_drops_the_connection() {
    alone(
        "firewall::a_firewall_that_drops_the_answer_is_told_from_one_that_drops_the_connection",
        || async {
            let (_listener, target) = working().await;
            let port = target.address.port();
            nft(&format!(
                "table ip guard {{ chain output {{ type filter hook output priority 0; policy accept;
             tcp sport {port} ip daddr 192.0.2.0/24 drop
             }}
             }}"
            ));
            let (findings, verdict) = diagnose(&fwmark(), target).await;
            assert_eq!(facts(&findings, Level::Failed), [Fact::FirewallStopsReply]);
            assert_eq!(verdict.fact, Fact::AnswerDropped);
            assert_eq!(verdict.cure.as_deref(), Some("`nft insert rule ip guard output oifname lo accept`"));
        },
    );
}

#[test]
fn a_firewall_that_rejects_is_told_from_a_server_that_is_down() {
    alone("firewall::a_firewall_that_rejects_is_told_from_a_server_that_is_down", || async {
        let (listener, target) = working().await;
        nft("table inet guard { chain input { type filter hook input priority 0; policy accept;
             ip saddr 192.0.2.0/24 reject with tcp reset
             }
             }");
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::FirewallRejects]);
        assert_eq!((verdict.fact, verdict.exit), (Fact::RefusedByFirewall, Some(ExitKind::Configuration)));

        run("nft", "flush ruleset");
        drop(listener);
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::NobodyListens]);
        assert_eq!((verdict.fact, verdict.exit), (Fact::TargetDown, Some(ExitKind::Unavailable)));
    });
}

#[test]
fn a_default_policy_without_an_exception_for_loopback_is_named() {
    alone("firewall::a_default_policy_without_an_exception_for_loopback_is_named", || async {
        let (_listener, target) = working().await;
        nft("table inet guard { chain input { type filter hook input priority 0; policy drop;
             ct state established,related accept
             tcp dport 22 accept
             }
             }");
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::FirewallDrops]);
        assert!(verdict.found.contains("the policy of chain inet guard input drops"), "{verdict}");
        assert_eq!(verdict.fact, Fact::SynDropped);
    });
}

#[test]
fn a_redirection_is_named() {
    alone("firewall::a_redirection_is_named", || async {
        let (listener, target) = working().await;
        let other = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = listener.local_addr().unwrap().port();
        nft(&format!(
            "table ip guard {{ chain output {{ type nat hook output priority -100;
             tcp dport {port} redirect to :{other}
             }}
             }}"
        ));
        let (findings, _) = diagnose(&fwmark(), target).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::FirewallRedirects]);
        let cure = one(&findings, Fact::FirewallRedirects).cure.clone().unwrap();
        run("nft", cure.trim_matches('`').trim_start_matches("nft"));
        assert_eq!(diagnose(&fwmark(), target).await.1.fact, Fact::Connected, "the cure cures");
    });
}

#[test]
fn others_who_set_marks_are_told_of() {
    alone("firewall::others_who_set_marks_are_told_of", || async {
        let (_listener, target) = working().await;
        nft("table inet vpn { chain in { type filter hook prerouting priority mangle;
             iifname \"wg0\" meta mark set 0x1
             iifname \"wg1\" meta mark set 0x7b
             }
             }");
        let findings = examine(&fwmark(), &[target], Strangers::default()).await;
        assert_eq!(one(&findings, Fact::ForeignMarks).level, Level::Note);
        assert_eq!(one(&findings, Fact::MarkTaken).level, Level::Warning);
        assert_eq!(facts(&findings, Level::Failed), []);
    });
}
