//! Each hop of a datagram's way in mode port, broken on purpose, for both families.

use std::net::{SocketAddr, UdpSocket};

use mmproxy_routing::check::{ExitKind, Fact, Finding, Level, Target};
use mmproxy_routing::{Families, InUse, Plan, Settings, Transport, apply, remove};

use crate::diagnosis::{diagnose_udp, facts, nft, one};
use crate::namespace::{alone, default_routes, ip, own_addresses, sysctl};

/// A UDP server on a loopback address, its return path installed and found to work.
struct Served {
    plan: Plan,
    target: Target,
    server: UdpSocket,
    /// `-4` or `-6`.
    family: &'static str,
}

impl Served {
    async fn new(listen: &str) -> Self {
        let server = UdpSocket::bind(listen).unwrap();
        let address = server.local_addr().unwrap();
        let (family, v4, v6) = match address {
            SocketAddr::V4(address) => ("-4", Some(address), None),
            SocketAddr::V6(address) => ("-6", None, Some(address)),
        };
        let plan = Plan::port(Settings::default(), Transport::Udp, v4, v6).unwrap();
        apply(&plan).await.unwrap();
        let served = Self { plan, target: Target::udp(address), server, family };
        let (findings, verdict) = served.diagnose().await;
        assert_eq!(facts(&findings, Level::Failed), [], "{findings:#?}");
        assert_eq!(verdict.fact, Fact::Connected);
        served
    }

    async fn diagnose(&self) -> (Vec<Finding>, Finding) {
        diagnose_udp(&self.plan, self.target, Some(&self.server)).await
    }

    fn ip(&self, arguments: &str) {
        ip(&format!("{} {arguments}", self.family));
    }

    /// What is broken is found, and is what the verdict on the lost datagram says.
    #[track_caller]
    fn expect(&self, (findings, verdict): &(Vec<Finding>, Finding), found: Fact, died: Fact) {
        assert_eq!(facts(findings, Level::Failed), [found], "{findings:#?}");
        assert_eq!((verdict.fact, verdict.exit), (died, Some(ExitKind::Configuration)), "{verdict}");
        assert!(verdict.cure.is_some(), "{verdict}");
    }
}

const LISTEN: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

#[test]
fn what_is_missing_or_wrong_of_rules_and_routes_is_named() {
    alone("datagrams::what_is_missing_or_wrong_of_rules_and_routes_is_named", || async {
        default_routes();
        for listen in LISTEN {
            let served = Served::new(listen).await;
            let rule =
                format!("iif lo ipproto udp sport {} lookup 100 priority 100", served.target.address.port());
            let route = format!("local default dev lo src {} table 100", served.target.address.ip());

            served.ip(&format!("rule del {rule} protocol 77"));
            served.expect(&served.diagnose().await, Fact::RuleMissing, Fact::AnswerRoutedAway);
            served.ip(&format!("rule add {rule}"));
            assert_eq!(served.diagnose().await.1.fact, Fact::Connected, "the cure cures");

            served.ip("route flush table 100");
            served.expect(&served.diagnose().await, Fact::RouteMissing, Fact::AnswerRoutedAway);
            served.ip("route add default dev east table 100");
            served.expect(&served.diagnose().await, Fact::TableForeign, Fact::AnswerRoutedAway);
            served.ip("route flush table 100");
            served.ip(&format!("route add {route}"));
            assert_eq!(served.diagnose().await.1.fact, Fact::Connected, "the cure cures");

            served.ip("route add default dev east table 7");
            served.ip("rule add not fwmark 0xca6c lookup 7 priority 50");
            served.expect(&served.diagnose().await, Fact::RuleOvertaken, Fact::AnswerRoutedAway);
            served.ip("rule del not fwmark 0xca6c lookup 7 priority 50");
            served.ip(&format!("rule del {rule}"));
            served.ip("route flush table 100");
        }
    });
}

#[test]
fn a_firewall_that_drops_questions_is_told_from_one_that_drops_answers() {
    alone("datagrams::a_firewall_that_drops_questions_is_told_from_one_that_drops_answers", || async {
        default_routes();
        for listen in LISTEN {
            let served = Served::new(listen).await;
            let port = served.target.address.port();
            for (hook, matched, found, died) in [
                ("input", format!("udp dport {port}"), Fact::FirewallDrops, Fact::SynDropped),
                ("output", format!("udp sport {port}"), Fact::FirewallStopsReply, Fact::AnswerDropped),
            ] {
                nft(&format!(
                    "table inet guard {{ chain c {{ type filter hook {hook} priority 0; {matched} drop; }}; }}"
                ));
                served.expect(&served.diagnose().await, found, died);
                nft("delete table inet guard");
            }
            remove(&served.plan, InUse::Keep).await.unwrap();
        }
    });
}

#[test]
fn a_server_that_is_down_or_elsewhere_is_named() {
    alone("datagrams::a_server_that_is_down_or_elsewhere_is_named", || async {
        own_addresses();
        default_routes();
        for (listen, elsewhere) in LISTEN.into_iter().zip(["10.9.0.1", "fd09::1"]) {
            let Served { plan, target, server, .. } = Served::new(listen).await;
            drop(server);
            let (findings, verdict) = diagnose_udp(&plan, target, None).await;
            assert_eq!(facts(&findings, Level::Failed), [Fact::NobodyListens]);
            assert_eq!(
                (verdict.fact, verdict.exit),
                (Fact::TargetDown, Some(ExitKind::Unavailable)),
                "{verdict}"
            );

            let _other = UdpSocket::bind((elsewhere, target.address.port())).unwrap();
            let (findings, verdict) = diagnose_udp(&plan, target, None).await;
            assert_eq!(facts(&findings, Level::Failed), [Fact::BoundElsewhere]);
            assert_eq!(
                (verdict.fact, verdict.exit),
                (Fact::TargetBoundElsewhere, Some(ExitKind::Unavailable))
            );
            remove(&plan, InUse::Keep).await.unwrap();
        }
    });
}

#[test]
fn in_mode_connmark_a_missing_switch_and_a_tracker_that_is_off_are_named() {
    alone("datagrams::in_mode_connmark_a_missing_switch_and_a_tracker_that_is_off_are_named", || async {
        default_routes();
        let plan = Plan::connmark(Settings::default(), Families::V4, Some("east".parse().unwrap()));
        apply(&plan).await.unwrap();
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = Target::udp(server.local_addr().unwrap());
        assert_eq!(diagnose_udp(&plan, target, Some(&server)).await.1.fact, Fact::Connected);

        sysctl("net.ipv4.conf.east.route_localnet", 0);
        let (findings, verdict) = diagnose_udp(&plan, target, Some(&server)).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::SwitchOff, Fact::ReplyAstray], "{findings:#?}");
        assert_eq!(verdict.fact, Fact::AnswerRoutedAway, "{verdict}");
        sysctl("net.ipv4.conf.east.route_localnet", 1);

        nft(
            "table inet raw { chain c { type filter hook output priority -300; udp dport 1-65535 notrack; }; }",
        );
        let (findings, verdict) = diagnose_udp(&plan, target, Some(&server)).await;
        assert_eq!(one(&findings, Fact::Untracked).level, Level::Warning);
        assert_eq!(verdict.fact, Fact::AnswerRoutedAway, "{verdict}");
        assert!(verdict.found.contains("switches connection tracking off"), "{verdict}");
        assert!(verdict.cure.unwrap().contains("--return-path fwmark"));
    });
}
