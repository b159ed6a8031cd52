//! The ways back that an operator can choose.

use std::net::SocketAddr;

use harness::{Balancer, Family, Gateway, State, Target, Topology, Version, isolated, mmproxy, run};

use crate::support::{client, header, talk};
use Family::V4;

/// A gateway that brings replies back by `mode`, before a target on `bound`: it adds a rule that reads `rule`, leaves the
/// sysctls alone, and nothing of it is left afterwards.
fn replies_come_back(mode: &str, rule: &str, bound: impl Fn(Family) -> SocketAddr) {
    for family in Family::BOTH {
        let net = Topology::new();
        net.default_routes();
        let target = Target::listen(&net.gateway, bound(family));
        let before = State::of(&net.gateway);
        let gateway = Gateway::before(&net, &target).with(["--return-path", mode]).start();
        gateway.expect_log(&["rule add", rule, "[+] ADDED"]);
        assert_eq!(net.gateway.sysctl("net.ipv4.tcp_fwmark_accept").as_deref(), Some("0"));
        for version in Version::BOTH {
            let balancer = Balancer::of(&net);
            let downstream = balancer.announce(gateway.address(family), &header(version, family), b"");
            let upstream = target.accept();
            assert_eq!(upstream.peer(), client(family));
            talk(&downstream, &upstream);
        }
        gateway.stop().expect_code(0);
        State::of(&net.gateway).expect_unchanged_since(&before);
    }
}

#[test]
fn by_source_a_loopback_target_answers_a_spoofed_client_without_mark_or_sysctl() {
    isolated(|| {
        replies_come_back("source", " from ", |family| SocketAddr::new(family.loopback(), 0));
    });
}

#[test]
fn by_port_a_target_on_the_hosts_address_answers_a_spoofed_client() {
    isolated(|| {
        replies_come_back("port", " sport ", |family| SocketAddr::new(family.gateway(), 0));
    });
}

#[test]
fn by_source_a_target_elsewhere_than_on_loopback_is_refused_with_the_mode_that_serves_it() {
    isolated(|| {
        let net = Topology::new();
        for family in Family::BOTH {
            Gateway::to(&net, SocketAddr::new(family.gateway(), 22))
                .with(["--return-path", "source"])
                .run()
                .expect_code(64)
                .expect_text(&["loopback targets only", "--return-path fwmark"]);
        }
    });
}

#[test]
fn each_mode_is_set_up_checked_and_torn_down_by_hand_too() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, SocketAddr::new(V4.loopback(), 0));
        let address = target.address().to_string();
        let command = |words: &[&str]| {
            let words = words.iter().copied().chain(["-4", &address]);
            run(&net.gateway, &mut mmproxy(words), b"")
        };
        let before = State::of(&net.gateway);
        for (mode, rule) in [("auto", "fwmark"), ("fwmark", "fwmark"), ("source", "from"), ("port", "sport")]
        {
            command(&["check", "--return-path", mode]).expect_code(78);
            command(&["setup", "--return-path", mode, "--family", "ipv4"])
                .expect_code(0)
                .expect_text(&[&format!(" {rule} ")]);
            command(&["setup", "--return-path", mode, "--family", "ipv4"])
                .expect_code(0)
                .expect_text(&["VERIFIED"]);
            command(&["check", "--return-path", mode])
                .expect_code(0)
                .expect_text(&["using spoofed connection."]);
            command(&["teardown", "--return-path", mode]).expect_code(0).expect_text(&["REMOVED"]);
            State::of(&net.gateway).expect_unchanged_since(&before);
        }
    });
}
