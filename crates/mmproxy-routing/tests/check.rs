//! What a check says, in a real kernel: each hop is broken on purpose, and the verdict compared.

#![expect(clippy::unwrap_used, reason = "what a test prepares succeeds, or the test has failed")]

#[path = "kernel/namespace.rs"]
#[allow(dead_code, reason = "shared with the tests of the objects, which use more of it")]
mod namespace;
#[path = "kernel/spoof.rs"]
#[allow(dead_code, reason = "shared with the tests of the traffic, which use more of it")]
mod spoof;

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mmproxy_routing::check::{
    Attempt, Counters, ExitKind, Fact, Finding, Level, Strangers, Target, examine, locate,
};
use mmproxy_routing::{Families, Plan, Settings, Transport, apply};

use crate::namespace::{alone, default_routes, ip, ip_batch, own_addresses, run, sysctl};
use crate::spoof::{PATIENCE, connect};

fn fwmark() -> Plan {
    Plan::fwmark(Settings::default(), Families::BOTH)
}

/// What a check finds and, of a spoofed connection that is then really tried, the verdict.
async fn diagnose(plan: &Plan, target: Target) -> (Vec<Finding>, Finding) {
    let findings = examine(plan, &[target], Strangers::default()).await;
    let before = Counters::read().unwrap();
    let outcome = connect(Strangers::default().toward(target), target.address, 123, PATIENCE);
    let moved = Counters::read().unwrap().since(&before);
    let attempt = match outcome.map_err(|error| error.kind()) {
        Ok(()) => Attempt::Connected,
        Err(io::ErrorKind::ConnectionRefused) => Attempt::Refused,
        Err(io::ErrorKind::TimedOut) => Attempt::TimedOut,
        Err(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => Attempt::Unreachable,
        Err(io::ErrorKind::PermissionDenied) => Attempt::NotPermitted,
        Err(kind) => panic!("{kind}"),
    };
    let verdict = locate(target, attempt, &moved, &findings);
    (findings, verdict)
}

fn facts(findings: &[Finding], level: Level) -> Vec<Fact> {
    findings.iter().filter(|finding| finding.level == level).map(|finding| finding.fact).collect()
}

#[track_caller]
fn one(findings: &[Finding], fact: Fact) -> &Finding {
    findings
        .iter()
        .find(|finding| finding.fact == fact)
        .unwrap_or_else(|| panic!("no {fact} in {findings:#?}"))
}

/// Loads a ruleset of nftables.
fn nft(ruleset: &str) {
    let mut process =
        Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft is needed");
    process.stdin.take().unwrap().write_all(ruleset.as_bytes()).unwrap();
    assert!(process.wait().unwrap().success(), "{ruleset}");
}

/// A namespace with default routes, where replies come back to 127.0.0.1 and ::1 in mode fwmark.
async fn working() -> (TcpListener, Target) {
    default_routes();
    apply(&fwmark()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::tcp(listener.local_addr().unwrap());
    (listener, target)
}

/// The objects of mode fwmark for IPv4, as `ip` takes them.
const RULE: &str = "fwmark 0x7b lookup 100 priority 100";
const ROUTE: &str = "local default dev lo table 100";

#[test]
fn where_all_is_well_nothing_fails_and_the_connection_is_made() {
    alone("where_all_is_well_nothing_fails_and_the_connection_is_made", || async {
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
    alone("a_missing_rule_is_named_with_the_way_that_replies_take", || async {
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
    alone("without_a_default_route_the_answer_has_no_way_at_all", || async {
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
    alone("a_missing_route_is_named", || async {
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
    alone("a_table_that_leads_elsewhere_is_named_with_its_route", || async {
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
    alone("a_rule_that_comes_first_is_named_with_its_maker", || async {
        let (_listener, target) = working().await;
        ip("route add default dev east table 51820");
        ip("rule add from 10.0.0.0/8 lookup 51820 priority 40");
        ip("rule add not fwmark 0xca6c lookup 51820 priority 50");
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::RuleOvertaken]);
        assert_eq!(verdict.fact, Fact::AnswerRoutedAway);
        assert!(verdict.found.contains("rule `50: not from all fwmark 0xca6c lookup 51820"), "{verdict}");
        assert!(verdict.found.contains("wg-quick"), "{verdict}");
        assert!(verdict.cure.unwrap().contains("--rule-priority 49"));
        one(&findings, Fact::ForeignMarkRules);
    });
}

#[test]
fn a_missing_switch_leaves_the_answer_without_a_mark() {
    alone("a_missing_switch_leaves_the_answer_without_a_mark", || async {
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
fn a_firewall_that_drops_the_connection_is_named_with_its_rule() {
    alone("a_firewall_that_drops_the_connection_is_named_with_its_rule", || async {
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
    alone("a_firewall_that_may_be_the_reason_is_suspected_when_nothing_arrives", || async {
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
    alone("a_firewall_that_drops_the_answer_is_told_from_one_that_drops_the_connection", || async {
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
    });
}

#[test]
fn a_firewall_that_rejects_is_told_from_a_server_that_is_down() {
    alone("a_firewall_that_rejects_is_told_from_a_server_that_is_down", || async {
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
    alone("a_default_policy_without_an_exception_for_loopback_is_named", || async {
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
    alone("a_redirection_is_named", || async {
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
fn a_server_on_another_address_is_found_there() {
    alone("a_server_on_another_address_is_found_there", || async {
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
    alone("a_refusal_that_is_lost_is_explained", || async {
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
fn a_target_on_another_host_is_not_for_this_mode() {
    alone("a_target_on_another_host_is_not_for_this_mode", || async {
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
    alone("a_strict_reverse_path_filter_beside_a_vpn_does_no_harm", || async {
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
fn loopback_that_is_down_is_the_first_thing_to_say() {
    alone("loopback_that_is_down_is_the_first_thing_to_say", || async {
        let (_listener, target) = working().await;
        ip("link set lo down");
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        assert_eq!(one(&findings, Fact::LoopbackDown).cure.as_deref(), Some("`ip link set lo up`"));
        assert_eq!(verdict.fact, Fact::SynLost);
    });
}

#[test]
fn a_udp_server_on_every_address_is_explained_in_each_mode() {
    alone("a_udp_server_on_every_address_is_explained_in_each_mode", || async {
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
    alone("mode_source_serves_loopback_targets_and_warns_of_redirected_ports", || async {
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

        ip("rule del from 127.0.0.0/8 iif lo lookup 100 priority 100 protocol 77");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (findings, verdict) = diagnose(&plan, Target::tcp(listener.local_addr().unwrap())).await;
        one(&findings, Fact::RuleMissing);
        assert_eq!(verdict.fact, Fact::AnswerRoutedAway);
    });
}

#[test]
fn others_who_set_marks_are_told_of() {
    alone("others_who_set_marks_are_told_of", || async {
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

/// Listens where its parent says, under the name by which it was started.
#[test]
fn stand_in_for_a_port_forwarder() {
    let Some(address) = std::env::var_os(STAND_IN) else { return };
    let _listener = TcpListener::bind(address.to_str().unwrap()).unwrap();
    println!("listening");
    // Until the parent lets go of it.
    io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
}

fn forwarder(directory: &std::path::Path, address: &str) -> Child {
    let program = directory.join("docker-proxy");
    std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &program).unwrap();
    let mut child = Command::new(program)
        .args(["--exact", "stand_in_for_a_port_forwarder", "--nocapture", "--"])
        .args(["-container-ip", "172.17.0.2", "-container-port", "80"])
        .env(STAND_IN, address)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = io::BufRead::lines(io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap() == "listening"), "it did not start");
    child
}

#[test]
fn docker_proxy_is_the_reason_why_a_container_does_not_see_the_client() {
    alone("docker_proxy_is_the_reason_why_a_container_does_not_see_the_client", || async {
        default_routes();
        apply(&fwmark()).await.unwrap();
        let directory = std::env::temp_dir().join(format!("mmproxy-check-{}-{}", std::process::id(), PORT));
        std::fs::create_dir(&directory).unwrap();
        let mut child = forwarder(&directory, &format!("0.0.0.0:{PORT}"));
        let target = Target::tcp(SocketAddr::from(([127, 0, 0, 1], PORT)));
        let (findings, verdict) = diagnose(&fwmark(), target).await;
        drop(child.stdin.take());
        child.wait().unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(facts(&findings, Level::Failed), [Fact::PortForwarder]);
        let proxy = one(&findings, Fact::PortForwarder);
        assert!(proxy.found.contains("docker-proxy (process"), "{proxy}");
        assert!(proxy.cure.as_deref().unwrap().contains("`-4 172.17.0.2:80`"), "{proxy:?}");
        assert_eq!(verdict.fact, Fact::Connected, "it connects, and yet does not serve");
    });
}

#[test]
fn without_privileges_all_but_the_firewall_is_told() {
    alone("without_privileges_all_but_the_firewall_is_told", || async {
        const CHECK: &str = "without_privileges_all_but_the_firewall_is_told";
        if std::env::var_os("WITHOUT_PRIVILEGES").is_none() {
            default_routes();
            apply(&fwmark()).await.unwrap();
            let status = Command::new("setpriv")
                .args(["--bounding-set=-all", "--inh-caps=-all", "--"])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", CHECK, "--nocapture"])
                .env("WITHOUT_PRIVILEGES", "1")
                .status()
                .unwrap();
            assert!(status.success());
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (findings, verdict) = diagnose(&fwmark(), Target::tcp(listener.local_addr().unwrap())).await;
        assert_eq!(facts(&findings, Level::Failed), [Fact::MayNotSpoof]);
        one(&findings, Fact::ReplyReturns);
        one(&findings, Fact::Listens);
        assert!(one(&findings, Fact::FirewallUnseen).found.contains("CAP_NET_ADMIN"));
        assert_eq!((verdict.fact, verdict.exit), (Fact::NotPermitted, Some(ExitKind::Permission)));
    });
}

#[test]
fn without_nft_a_note_says_what_was_not_looked_at() {
    alone("without_nft_a_note_says_what_was_not_looked_at", || async {
        let (_listener, target) = working().await;
        run("mount", "-t tmpfs tmpfs /usr/sbin");
        let findings = examine(&fwmark(), &[target], Strangers::default()).await;
        let note = one(&findings, Fact::FirewallUnseen);
        assert_eq!((note.level, note.cure.as_deref()), (Level::Note, Some("install the package nftables")));
        assert_eq!(facts(&findings, Level::Failed), []);
    });
}

#[test]
fn ten_thousand_foreign_rules_and_routes_take_less_than_a_second() {
    alone("ten_thousand_foreign_rules_and_routes_take_less_than_a_second", || async {
        let (_listener, target) = working().await;
        let second: IpAddr = "127.0.0.1".parse().unwrap();
        let mut batch = String::new();
        for n in 0..10_000 {
            let (high, low) = (n / 256, n % 256);
            batch.push_str(&format!(
                "rule add from 10.{high}.{low}.1 lookup {} priority {}\n",
                1000 + n,
                200 + n
            ));
            batch.push_str(&format!("route add 172.{}.{low}.0/24 dev east\n", 16 + high));
        }
        ip_batch("-4", &batch);
        let targets =
            [target, Target::tcp(SocketAddr::new(second, 1)), Target::tcp("[::1]:1".parse().unwrap())];
        // The best of three: this is about the work, not about what else the machine does.
        let mut took = Vec::new();
        for _ in 0..3 {
            let start = Instant::now();
            let findings = examine(&fwmark(), &targets, Strangers::default()).await;
            took.push(start.elapsed());
            one(&findings, Fact::ReplyReturns);
        }
        assert!(took.iter().any(|took| *took < Duration::from_secs(1)), "{took:?}");
    });
}

const STAND_IN: &str = "MMPROXY_CHECK_STAND_IN";
const PORT: u16 = 8443;
