//! Where a spoofed connection dies, one hop broken at a time: `mmproxy check` names it.

use std::net::SocketAddr;

use harness::{Family, Namespace, State, Target, Topology, UdpTarget, isolated, mmproxy, run, shell};

use crate::support::client;
use Family::{V4, V6};

/// Breaks the way of replies with `script`, and expects `check` to end with `status` and to name `fact`.
fn broken(family: Family, script: &str, status: i32, fact: &str) {
    let net = Topology::new();
    net.default_routes();
    let target = Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0));
    run(&net.gateway, &mut mmproxy(["setup"]), b"").expect_code(0);
    expect_verdict(&net.gateway, target.address(), 0, "connected");
    let (ip, saddr, daddr) = match family {
        V4 => ("ip -4", "ip saddr 192.0.2.1", "ip daddr 192.0.2.1"),
        V6 => ("ip -6", "ip6 saddr 2001:db8::1", "ip6 daddr 2001:db8::1"),
    };
    shell(&net.gateway, &script.replace("IP", ip).replace("SADDR", saddr).replace("DADDR", daddr));
    expect_verdict(&net.gateway, target.address(), status, fact);
}

/// The verdict on the spoofed connection is `fact`.
fn expect_verdict(namespace: &Namespace, target: SocketAddr, status: i32, fact: &str) {
    let flag = if target.is_ipv4() { "-4" } else { "-6" };
    let target = target.to_string();
    let finished = run(namespace, &mut mmproxy(["check", "--json", flag, &target]), b"").expect_code(status);
    let report: serde_json::Value = serde_json::from_str(&finished.stdout).expect("one JSON object");
    let verdict = report["findings"]
        .as_array()
        .and_then(|findings| findings.iter().find(|finding| finding["subject"] == "connection"))
        .unwrap_or_else(|| panic!("no verdict on the connection in {report:#}"));
    assert_eq!(verdict["fact"], fact, "{report:#}");
    assert_eq!(report["ok"], status == 0);
    assert!(status == 0 || verdict["cure"].is_string(), "no cure: {verdict:#}");
}

/// One row of the table, for both families. `IP`, `SADDR` and `DADDR` in the script are the family's `ip` command and
/// nftables' matches of the stranger's address.
macro_rules! hop {
    ($v4:ident, $v6:ident, $script:expr, $status:expr, $fact:expr) => {
        #[test]
        fn $v4() {
            isolated(|| broken(V4, $script, $status, $fact));
        }

        #[test]
        fn $v6() {
            isolated(|| broken(V6, $script, $status, $fact));
        }
    };
}

hop!(
    a_missing_rule_is_found_ipv4,
    a_missing_rule_is_found_ipv6,
    "IP rule del fwmark 0x7b",
    78,
    "answer_routed_away"
);
hop!(
    an_empty_table_is_found_ipv4,
    an_empty_table_is_found_ipv6,
    "IP route flush table 100",
    78,
    "answer_routed_away"
);
hop!(
    a_switch_that_is_off_is_found_ipv4,
    a_switch_that_is_off_is_found_ipv6,
    "sysctl -qw net.ipv4.tcp_fwmark_accept=0",
    78,
    "answer_routed_away"
);
hop!(
    an_earlier_rule_of_somebody_else_is_found_ipv4,
    an_earlier_rule_of_somebody_else_is_found_ipv6,
    "IP rule add fwmark 0x7b lookup main priority 50",
    78,
    "answer_routed_away"
);
hop!(
    a_firewall_that_drops_the_connection_is_found_ipv4,
    a_firewall_that_drops_the_connection_is_found_ipv6,
    "nft 'add table inet f; add chain inet f c { type filter hook input priority 0; }; add rule inet f c SADDR drop'",
    78,
    "syn_dropped"
);
hop!(
    a_firewall_that_drops_the_answer_is_found_ipv4,
    a_firewall_that_drops_the_answer_is_found_ipv6,
    "nft 'add table inet f; add chain inet f c { type filter hook output priority 0; }; add rule inet f c DADDR drop'",
    78,
    "answer_dropped"
);

hop!(
    a_table_that_leads_elsewhere_is_found_ipv4,
    a_table_that_leads_elsewhere_is_found_ipv6,
    "IP route flush table 100; IP route add default dev lb0 table 100",
    78,
    "answer_routed_away"
);
hop!(
    a_strict_reverse_path_filter_beside_a_foreign_policy_does_no_harm_ipv4,
    a_strict_reverse_path_filter_beside_a_foreign_policy_does_no_harm_ipv6,
    "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.lo.rp_filter=1 net.ipv4.conf.lb0.rp_filter=1;
     IP route add default dev lb0 table 51820; IP rule add not fwmark 0xca6c lookup 51820 priority 20000",
    0,
    "connected"
);

/// What breaks the way of a datagram's answer, and what `check -p udp` finds, which sends none. `PORT` is the server's.
const UDP: [(&str, i32, &str); 6] = [
    ("IP rule del iif lo ipproto udp sport PORT", 78, "rule_missing"),
    ("IP route flush table 100", 78, "route_missing"),
    ("IP route flush table 100; IP route add default dev lb0 table 100", 78, "table_foreign"),
    ("IP rule add ipproto udp sport PORT lookup main priority 50", 78, "rule_overtaken"),
    (
        "nft 'table inet f { chain c { type filter hook input priority 0; udp dport PORT drop; }; }'",
        78,
        "firewall_drops",
    ),
    (
        "nft 'table inet f { chain c { type filter hook output priority 0; udp sport PORT drop; }; }'",
        78,
        "firewall_stops_reply",
    ),
];

#[test]
fn for_udp_every_hop_that_is_broken_is_found_without_a_datagram() {
    isolated(|| {
        let net = Topology::new();
        net.default_routes();
        for (family, flag, ip) in [(V4, "-4", "ip -4"), (V6, "-6", "ip -6")] {
            for (script, status, fact) in UDP {
                let target = UdpTarget::listen(&net.gateway, SocketAddr::new(family.loopback(), 0));
                let address = target.address().to_string();
                let command = |words: &[&str]| {
                    let words = words.iter().copied().chain(["-p", "udp", flag, &address]);
                    run(&net.gateway, &mut mmproxy(words), b"")
                };
                let before = State::of(&net.gateway);
                command(&["setup"]).expect_code(0);
                command(&["check"]).expect_code(0);
                target.expect_answers(&net.gateway, client(family));
                let port = target.address().port().to_string();
                shell(&net.gateway, &script.replace("IP", ip).replace("PORT", &port));
                if fact != "firewall_drops" {
                    target.expect_no_way_back(&net.gateway, client(family));
                }
                let report = command(&["check", "--json"]).expect_code(status).stdout;
                let report: serde_json::Value = serde_json::from_str(&report).expect("one JSON object");
                let found = report["findings"].as_array().into_iter().flatten();
                let failed: Vec<_> = found.filter(|finding| finding["level"] == "failed").collect();
                assert!(failed.len() == 1 && failed[0]["fact"] == fact, "{script}: {report:#}");
                assert!(failed[0]["cure"].is_string(), "{report:#}");

                shell(
                    &net.gateway,
                    &format!(
                        "nft flush ruleset; {ip} rule del priority 50 2>/dev/null || true; {ip} route flush table 100"
                    ),
                );
                command(&["teardown"]).expect_code(0);
                State::of(&net.gateway).expect_unchanged_since(&before);
            }
            let nobody = SocketAddr::new(family.loopback(), 9).to_string();
            run(&net.gateway, &mut mmproxy(["check", "-p", "udp", "--no-connect", flag, &nobody]), b"")
                .expect_code(69)
                .expect_text(&["no program has udp port 9"]);
        }
    });
}

#[test]
fn a_target_that_is_down_is_found() {
    isolated(|| {
        let net = Topology::new();
        run(&net.gateway, &mut mmproxy(["setup"]), b"").expect_code(0);
        for family in Family::BOTH {
            expect_verdict(&net.gateway, SocketAddr::new(family.loopback(), 9), 69, "target_down");
        }
    });
}

#[test]
fn a_target_that_listens_on_another_address_is_found() {
    isolated(|| {
        let net = Topology::new();
        run(&net.gateway, &mut mmproxy(["setup"]), b"").expect_code(0);
        for family in Family::BOTH {
            let elsewhere = Target::listen(&net.gateway, SocketAddr::new(family.gateway(), 0));
            let named = SocketAddr::new(family.loopback(), elsewhere.address().port());
            expect_verdict(&net.gateway, named, 69, "target_bound_elsewhere");
        }
    });
}

#[test]
fn without_connecting_the_check_still_finds_what_is_missing_and_the_target_sees_nothing() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, SocketAddr::new(V4.loopback(), 0));
        let address = target.address().to_string();
        let words = ["check", "--no-connect", "-4", &address];
        run(&net.gateway, &mut mmproxy(words), b"").expect_code(78).expect_text(&["[!] FAILED: reply from"]);
        run(&net.gateway, &mut mmproxy(["setup"]), b"").expect_code(0);
        run(&net.gateway, &mut mmproxy(words), b"").expect_code(0).expect_text(&["[+] OK. reply from"]);
        target.expect_untouched();
    });
}
