//! The ways back that an operator can choose, over TCP through the gateway.

use std::net::{IpAddr, SocketAddr};

use harness::{
    Balancer, Family, Finished, Gateway, State, Target, Topology, Version, isolated, mmproxy, run, shell,
};

use crate::support::{client, header, talk};
use Family::{V4, V6};

/// A gateway that brings replies back by `mode`, before a target on `bound` that is asked at `asked`: it adds an object
/// that reads `object`, turns `tcp_fwmark_accept` on only where the mode is `fwmark`, and nothing of it is left afterwards.
#[track_caller]
fn replies_come_back(mode: &str, object: &str, bound: fn(Family) -> IpAddr, asked: fn(Family) -> IpAddr) {
    for family in Family::BOTH {
        let net = Topology::new();
        net.default_routes();
        let target = Target::listen(&net.gateway, SocketAddr::new(bound(family), 0));
        let at = SocketAddr::new(asked(family), target.address().port());
        let before = State::of(&net.gateway);
        let gateway = Gateway::before(&net, &target).redirected(at).with(["--return-path", mode]).start();
        gateway.expect_log(&[object, "[+] ADDED"]);
        let accept = if mode == "fwmark" { "1" } else { "0" };
        assert_eq!(net.gateway.sysctl("net.ipv4.tcp_fwmark_accept").as_deref(), Some(accept));
        expect_served(&net, &gateway, &target, family);
        gateway.stop().expect_code(0);
        State::of(&net.gateway).expect_unchanged_since(&before);
    }
}

#[track_caller]
fn expect_served(net: &Topology, gateway: &Gateway, target: &Target, family: Family) {
    for version in Version::BOTH {
        let downstream = Balancer::of(net).announce(gateway.address(family), &header(version, family), b"");
        let upstream = target.accept();
        assert_eq!(upstream.peer(), client(family));
        talk(&downstream, &upstream);
    }
}

#[test]
fn by_source_a_loopback_target_answers_a_spoofed_client_without_mark_or_sysctl() {
    isolated(|| replies_come_back("source", "rule add from ", Family::loopback, Family::loopback));
}

#[test]
fn by_port_a_target_on_the_hosts_address_answers_a_spoofed_client() {
    isolated(|| replies_come_back("port", " sport ", Family::gateway, Family::gateway));
}

#[test]
fn by_port_a_target_on_all_addresses_answers_a_spoofed_client() {
    isolated(|| replies_come_back("port", " sport ", Family::wildcard, Family::loopback));
}

#[test]
fn by_fwmark_a_target_on_all_addresses_answers_a_spoofed_client() {
    isolated(|| replies_come_back("fwmark", "rule add fwmark ", Family::wildcard, Family::gateway));
}

#[test]
fn by_connmark_a_loopback_target_answers_a_spoofed_client() {
    isolated(|| replies_come_back("connmark", "mmproxy_connmark_7b_100", Family::loopback, Family::loopback));
}

#[test]
fn by_connmark_a_target_on_all_addresses_answers_a_spoofed_client() {
    isolated(|| replies_come_back("connmark", "mmproxy_connmark_7b_100", Family::wildcard, Family::gateway));
}

#[test]
fn by_socket_a_target_behind_this_host_answers_a_spoofed_client() {
    isolated(|| {
        for family in Family::BOTH {
            let net = Topology::new();
            let machine = net.behind();
            let target = Target::listen(&machine, SocketAddr::new(family.behind(), 0));
            let before = State::of(&net.gateway);
            let gateway = Gateway::before(&net, &target).with(["--return-path", "socket"]).start();
            gateway.expect_log(&["mmproxy_socket_7b_100", "[+] ADDED"]);
            gateway.expect_log(&["reachable using spoofed connection"]);
            expect_served(&net, &gateway, &target, family);
            gateway.stop().expect_code(0);
            State::of(&net.gateway).expect_unchanged_since(&before);
        }
    });
}

#[test]
fn a_masked_mark_serves_like_a_whole_one() {
    isolated(|| {
        for mode in ["fwmark", "connmark"] {
            for family in Family::BOTH {
                let net = Topology::new();
                net.default_routes();
                let target = Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0));
                let before = State::of(&net.gateway);
                let gateway = Gateway::before(&net, &target)
                    .with([
                        "--return-path",
                        mode,
                        "--mark",
                        "0x500/0xf00",
                        "--table",
                        "300",
                        "--priority",
                        "50",
                    ])
                    .start();
                gateway.expect_log(&["rule add fwmark 0x500/0xf00 lookup 300 priority 50", "[+] ADDED"]);
                expect_served(&net, &gateway, &target, family);
                gateway.stop().expect_code(0);
                State::of(&net.gateway).expect_unchanged_since(&before);
            }
        }
        let net = Topology::new();
        let machine = net.behind();
        let target = Target::listen(&machine, SocketAddr::new(V4.behind(), 0));
        let gateway = Gateway::before(&net, &target).with(["--mark", "0x500/0xf00"]).start();
        gateway.expect_log(&["nft", "mmproxy_socket_500.f00_100", "[+] ADDED"]);
        expect_served(&net, &gateway, &target, V4);
    });
}

#[test]
fn auto_picks_by_whose_address_the_target_has_and_says_why() {
    isolated(|| {
        for family in Family::BOTH {
            let net = Topology::new();
            let machine = net.behind();
            let here = Target::listen(&net.gateway, SocketAddr::new(family.gateway(), 0));
            let there = Target::listen(&machine, SocketAddr::new(family.behind(), 0));
            for (target, said) in [(&here, "fwmark for"), (&there, "socket for")] {
                let gateway = Gateway::before(&net, target).start();
                let address = target.address().ip().to_string();
                gateway.expect_log(&["[+] Return path:", said, &address]);
                expect_served(&net, &gateway, target, family);
                gateway.stop();
            }
        }
    });
}

/// The mark that brings IPv4 replies back would keep the connection to the IPv6 target on this host, and the other way
/// round.
#[test]
fn two_families_may_have_two_ways_back() {
    isolated(|| {
        for (here, there) in [(V4, V6), (V6, V4)] {
            let net = Topology::new();
            let machine = net.behind();
            let local = Target::listen(&net.gateway, SocketAddr::new(here.loopback(), 0));
            let remote = Target::listen(&machine, SocketAddr::new(there.behind(), 0));
            let before = State::of(&net.gateway);
            let flags = Gateway::before(&net, &local).and_before(&remote);
            for flags in [flags.clone(), flags.with(["--listen-transparent"])] {
                let gateway = flags.start();
                gateway.expect_log(&["[+] Return path: fwmark for"]);
                gateway.expect_log(&["[+] Return path: socket for"]);
                expect_served(&net, &gateway, &local, here);
                expect_served(&net, &gateway, &remote, there);
                gateway.stop();
                State::of(&net.gateway).expect_unchanged_since(&before);
            }
        }
    });
}

#[test]
fn auto_looks_at_the_allowed_targets_where_the_header_names_one() {
    isolated(|| {
        for family in Family::BOTH {
            let net = Topology::new();
            let machine = net.behind();
            let named = Target::listen(&machine, SocketAddr::new(family.behind(), 0));
            let network = match family {
                V4 => "10.7.0.2/31",
                V6 => "fd07::2/127",
            };
            let from_header = |allowed: &[&str]| {
                let flags = allowed.iter().flat_map(|network| ["--allow-target", network]);
                Gateway::before(&net, &named).without_targets().with(["--target-from-header"]).with(flags)
            };
            let gateway = from_header(&[network]).start();
            gateway.expect_log(&[
                "[+] Return path:",
                "socket",
                "no allowed target is an address of this host",
            ]);
            let header = Version::V2.header(client(family), named.address());
            let downstream = Balancer::of(&net).announce(gateway.address(family), &header, b"");
            let upstream = named.accept();
            assert_eq!(upstream.peer(), client(family));
            talk(&downstream, &upstream);
            gateway.stop();

            let own = family.gateway().to_string();
            from_header(&[network, &own])
                .run()
                .expect_code(64)
                .expect_text(&["others are not", "--return-path"]);
        }
    });
}

#[test]
fn what_a_mode_cannot_serve_is_refused_with_the_mode_that_does() {
    isolated(|| {
        let net = Topology::new();
        for family in Family::BOTH {
            let refused = |ip: IpAddr, flags: &[&str], words: &[&str]| {
                Gateway::to(&net, SocketAddr::new(ip, 22))
                    .with(flags.iter().copied())
                    .run()
                    .expect_code(64)
                    .expect_text(words);
            };
            refused(
                family.gateway(),
                &["--return-path", "source"],
                &["loopback targets only", "--return-path fwmark"],
            );
            refused(
                family.loopback(),
                &["--return-path", "socket"],
                &["behind this host", "leave --return-path out"],
            );
            refused(
                family.loopback(),
                &["-p", "udp", "--return-path", "fwmark"],
                &["UDP replies", "--return-path port"],
            );
        }
        run(&net.gateway, &mut mmproxy(["setup", "-p", "udp", "--return-path", "fwmark"]), b"")
            .expect_code(64)
            .expect_text(&["UDP replies", "--return-path port"]);
        run(&net.gateway, &mut mmproxy(["setup", "-p", "udp"]), b"")
            .expect_code(64)
            .expect_text(&["give -4 or -6"]);
        // Nothing was there before, and nothing has been made: connmark needs a default route.
        let before = State::of(&net.gateway);
        run(&net.gateway, &mut mmproxy(["setup", "--return-path", "connmark"]), b"")
            .expect_code(78)
            .expect_text(&["needs a default route", "--return-path fwmark"]);
        State::of(&net.gateway).expect_unchanged_since(&before);
    });
}

#[test]
fn each_mode_is_set_up_checked_and_torn_down_by_hand_too() {
    isolated(|| {
        let net = Topology::new();
        net.default_routes();
        let machine = net.behind();
        let here = Target::listen(&net.gateway, SocketAddr::new(V4.loopback(), 0));
        let there = Target::listen(&machine, SocketAddr::new(V4.behind(), 0));
        let before = State::of(&net.gateway);
        for (mode, target, object) in [
            ("auto", &here, " fwmark "),
            ("auto", &there, "mmproxy_socket_"),
            ("fwmark", &here, " fwmark "),
            ("source", &here, " from "),
            ("port", &here, " sport "),
            ("connmark", &here, "mmproxy_connmark_"),
            ("socket", &there, "mmproxy_socket_"),
        ] {
            let address = target.address().to_string();
            let command = |word: &str| {
                run(&net.gateway, &mut mmproxy([word, "--return-path", mode, "-4", &address]), b"")
            };
            command("check").expect_code(78);
            command("setup").expect_code(0).expect_text(&[object, "[+] ADDED"]);
            command("setup").expect_code(0).expect_text(&["[+] VERIFIED"]);
            command("check").expect_code(0).expect_text(&["using spoofed connection."]);
            command("teardown").expect_code(0).expect_text(&["REMOVED"]);
            State::of(&net.gateway).expect_unchanged_since(&before);
        }
    });
}

#[test]
fn connmark_is_printed_in_the_original_programs_words_too() {
    isolated(|| {
        let net = Topology::new();
        net.default_routes();
        run(&net.gateway, &mut mmproxy(["setup", "--dry-run", "--return-path", "connmark"]), b"")
            .expect_code(0)
            .expect_text(&[
                "sysctl -w net.ipv4.conf.lb0.route_localnet=1",
                "nft 'table ip mmproxy_connmark_7b_100 {",
                "# or: iptables -t mangle -I PREROUTING -m mark --mark 123 -m comment --comment mmproxy -j CONNMARK --save-mark",
                "# or: iptables -t mangle -I OUTPUT -m connmark --mark 123 -m comment --comment mmproxy -j CONNMARK --restore-mark",
                "# or: ip6tables -t mangle -I PREROUTING",
            ]);
    });
}

/// Nobody can be asked for a neighbour's address in a client's name.
#[test]
fn an_interface_without_link_local_address_toward_an_ipv6_target_is_found() {
    isolated(|| {
        let net = Topology::new();
        let machine = net.behind();
        let target = Target::listen(&machine, SocketAddr::new(V6.behind(), 0));
        let address = target.address().to_string();
        let command = |words: &[&str]| {
            let words = words.iter().copied().chain(["-6", &address]);
            run(&net.gateway, &mut mmproxy(words), b"").expect_code(0)
        };
        command(&["setup"]);
        let without = |finished: Finished| !finished.stdout.contains("link-local");
        assert!(without(command(&["check", "--no-connect"])));
        shell(&net.gateway, "ip -6 address flush dev inner0 scope link");
        command(&["check", "--no-connect"]).expect_text(&["[!] WARNING: kernel", "inner0 has no link-local"]);
    });
}
