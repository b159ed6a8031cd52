//! What each mode serves, and what it does not.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use mmproxy_routing::check::{Attempt, Counters, Fact, Level, Strangers, Target, examine, locate};
use mmproxy_routing::{Families, Plan, Settings, Transport, apply};

use crate::diagnosis::{diagnose, facts, fwmark, nft, one, working};
use crate::namespace::{alone, default_routes, ip, own_addresses, run, sysctl};

#[test]
fn a_target_on_another_host_is_not_for_this_mode() {
    alone("modes::a_target_on_another_host_is_not_for_this_mode", || async {
        default_routes();
        apply(&fwmark()).await.unwrap();
        let target = Target::tcp("10.7.0.1:443".parse().unwrap());
        let findings = examine(&fwmark(), &[target], Strangers::default()).await;
        assert_eq!(
            facts(&findings, Level::Failed),
            [Fact::TargetElsewhere, Fact::ModeUnfit],
            "{findings:#?}"
        );
        assert!(one(&findings, Fact::TargetElsewhere).found.contains("is routed out by east via 10.8.0.2"));
        assert!(one(&findings, Fact::ModeUnfit).cure.as_deref().unwrap().contains("--return-path socket"));
        let verdict = locate(target, Attempt::TimedOut, &Counters::default(), &findings);
        assert_eq!(verdict.fact, Fact::SynLost);
    });
}

#[test]
fn a_strict_reverse_path_filter_beside_a_vpn_does_no_harm() {
    alone("modes::a_strict_reverse_path_filter_beside_a_vpn_does_no_harm", || async {
        let (_listener, target) = working().await;
        for device in ["all", "lo", "east"] {
            sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), 1);
        }
        ip("route add default dev east table 51820");
        ip("rule add not fwmark 0xca6c lookup 51820 priority 20000");
        nft("table inet guard { chain prerouting { type filter hook prerouting priority -300;
             fib saddr . mark . iif oif missing drop
             }
             }");
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert_eq!(facts(&findings, Level::Failed), [], "{findings:#?}");
        one(&findings, Fact::ReversePathHarmless);
        one(&findings, Fact::FirewallOpen);
        assert_eq!(verdict.fact, Fact::Connected);
    });
}

#[test]
fn a_udp_server_on_every_address_is_explained_in_each_mode() {
    alone("modes::a_udp_server_on_every_address_is_explained_in_each_mode", || async {
        default_routes();
        let settings = Settings::default();
        let server = UdpSocket::bind("0.0.0.0:0").unwrap();
        let SocketAddr::V4(address) = SocketAddr::from(([127, 0, 0, 1], server.local_addr().unwrap().port()))
        else {
            unreachable!("it is an IPv4 address")
        };
        let target = Target::udp(address.into());

        let findings = examine(&fwmark(), &[target], Strangers::default()).await;
        assert!(one(&findings, Fact::ModeUnfit).cure.as_deref().unwrap().contains("--return-path port"));

        let plan = Plan::source(settings, Families::V4);
        apply(&plan).await.unwrap();
        let findings = examine(&plan, &[target], Strangers::default()).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::WildcardAnswers]);
        mmproxy_routing::remove(&plan, mmproxy_routing::InUse::Keep).await.unwrap();

        let plan = Plan::port(settings, Transport::Udp, Some(address), None).unwrap();
        let findings = examine(&plan, &[target], Strangers::default()).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::RuleMissing]);
        apply(&plan).await.unwrap();
        let findings = examine(&plan, &[target], Strangers::default()).await;
        assert_eq!(facts(&findings, Level::Failed), [], "{findings:#?}");
        assert_eq!(facts(&findings, Level::Warning), [Fact::WildcardAnswers]);
        one(&findings, Fact::ReplyReturns);

        let findings = examine(&plan, &[Target::tcp(address.into())], Strangers::default()).await;
        one(&findings, Fact::FamilyMissing);
    });
}

#[test]
fn mode_source_serves_loopback_targets_and_warns_of_redirected_ports() {
    alone("modes::mode_source_serves_loopback_targets_and_warns_of_redirected_ports", || async {
        own_addresses();
        default_routes();
        let plan = Plan::source(Settings::default(), Families::BOTH);
        apply(&plan).await.unwrap();
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(listen).unwrap();
            let (findings, verdict) = diagnose(&plan, Target::tcp(listener.local_addr().unwrap())).await;
            assert_eq!(facts(&findings, Level::Failed), [], "{findings:#?}");
            assert_eq!(verdict.fact, Fact::Connected);
        }
        nft("table ip containers { chain output { type nat hook output priority -100;
             ip daddr 127.0.0.1 tcp dport 8080 dnat to 10.8.0.7:80
             }
             }");
        let target = Target::tcp("10.9.0.1:443".parse().unwrap());
        let findings = examine(&plan, &[target], Strangers::default()).await;
        one(&findings, Fact::ModeUnfit);
        assert_eq!(one(&findings, Fact::LocalhostRedirected).level, Level::Warning);
        run("nft", "flush ruleset");
        nft("table ip6 containers { chain output { type nat hook output priority -100;
             ip6 daddr ::1 udp dport 53 dnat to [fd08::7]:53
             }
             }");
        let findings = examine(&plan, &[target], Strangers::default()).await;
        let redirected = one(&findings, Fact::LocalhostRedirected);
        assert!(redirected.found.contains("ip6 containers output"), "{redirected}");
        assert_eq!(redirected.cure.as_deref(), Some("`--return-path fwmark`"));

        ip("rule del from 127.0.0.0/8 iif lo lookup 100 priority 100 protocol 77");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (findings, verdict) = diagnose(&plan, Target::tcp(listener.local_addr().unwrap())).await;
        one(&findings, Fact::RuleMissing);
        assert_eq!(verdict.fact, Fact::AnswerRoutedAway);
    });
}
