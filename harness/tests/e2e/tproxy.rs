//! Whole ranges of ports for one transparent listener, by rules that mmproxy makes itself.

use std::net::{IpAddr, SocketAddr};

use harness::{
    Balancer, Connection, Family, Gateway, Namespace, State, Target, Topology, Version, addr, isolated,
    mmproxy, run, shell,
};

use crate::support::{client, header, talk};
use Family::{V4, V6};

const INSIDE: [u16; 3] = [20000, 20057, 20100];
const OUTSIDE: [u16; 2] = [19999, 20101];

/// Connections to ports of the range reach the target from the announced client.
#[track_caller]
fn expect_range_served(net: &Topology, target: &Target, ip: IpAddr) {
    let family = Family::of(ip);
    for port in INSIDE {
        let downstream =
            Balancer::of(net).announce(SocketAddr::new(ip, port), &header(Version::V2, family), b"");
        let upstream = target.accept();
        assert_eq!(upstream.peer(), client(family));
        talk(&downstream, &upstream);
    }
}

/// Ports beside the range have servers of their own, which see the balancer itself.
#[track_caller]
fn expect_others_untouched(net: &Topology, family: Family) {
    for port in OUTSIDE {
        let server = Target::listen(&net.gateway, SocketAddr::new(family.gateway(), port));
        let downstream = Connection::open(&net.balancer, server.address());
        let upstream = server.accept();
        assert_eq!(upstream.peer(), downstream.local());
        talk(&downstream, &upstream);
    }
}

#[test]
fn a_gateway_takes_a_range_of_ports_and_gives_it_back_at_its_end() {
    isolated(|| {
        for family in Family::BOTH {
            let net = Topology::new();
            let target = Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0));
            let before = State::of(&net.gateway);
            let flags = Gateway::before(&net, &target).with(["--tproxy-ports", "20000-20100"]);
            for listen in [SocketAddr::new(V6.wildcard(), 0), SocketAddr::new(family.loopback(), 0)] {
                let gateway = flags.clone().listen(listen).start();
                gateway.expect_log(&["mmproxy_tproxy_7c_101_tcp_20000-20100_", "[+] ADDED"]);
                expect_range_served(&net, &target, family.gateway());
                expect_others_untouched(&net, family);
                gateway.stop();
                State::of(&net.gateway).expect_unchanged_since(&before);
            }
        }
    });
}

#[test]
fn setup_hands_ranges_to_a_listener_until_teardown() {
    isolated(|| {
        for family in Family::BOTH {
            let net = Topology::new();
            let target = Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0));
            let before = State::of(&net.gateway);
            let listen = SocketAddr::new(family.gateway(), 2222);
            let at = listen.to_string();
            let ranges = ["--listen", &at, "--tproxy-ports", "20000-20057", "--tproxy-ports", "20100"];
            let command = |words: &[&str]| {
                let words = words.iter().copied().chain(ranges);
                run(&net.gateway, &mut mmproxy(words), b"").expect_code(0)
            };
            let script = command(&["setup", "--dry-run"]).stdout;
            State::of(&net.gateway).expect_unchanged_since(&before);
            assert_eq!(
                script.matches("fwmark 0x7c").count(),
                1,
                "what both ranges need is typed once:\n{script}"
            );

            command(&["setup"]).expect_text(&["mmproxy_tproxy_7c_101_tcp_20000-20057_2222", "[+] ADDED"]);
            let once = State::of(&net.gateway);
            command(&["setup"]);
            State::of(&net.gateway).expect_unchanged_since(&once);
            let gateway = Gateway::before(&net, &target)
                .listen(listen)
                .with(["--listen-transparent", "--routing", "check"])
                .start();
            expect_range_served(&net, &target, family.gateway());
            expect_others_untouched(&net, family);
            let (flag, target) = (if listen.is_ipv4() { "-4" } else { "-6" }, target.address().to_string());
            command(&["check", flag, &target])
                .expect_text(&["mmproxy_tproxy_7c_101_tcp_20100_2222", "[+] VERIFIED"]);
            gateway.stop();
            State::of(&net.gateway).expect_unchanged_since(&once);
            command(&["teardown"]).expect_text(&["[+] REMOVED"]);
            State::of(&net.gateway).expect_unchanged_since(&before);

            // What the dry run prints does the same, and is the operator's.
            shell(&net.gateway, &script).expect_code(0);
            let typed = State::of(&net.gateway);
            command(&["setup"]).expect_text(&["[+] VERIFIED"]);
            command(&["teardown"]).expect_text(&["KEPT: not made by mmproxy"]);
            State::of(&net.gateway).expect_unchanged_since(&typed);
        }
    });
}

#[test]
fn a_check_finds_that_a_range_is_not_handed_over() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        run(&net.gateway, &mut mmproxy(["setup"]), b"").expect_code(0);
        let target = &target.address().to_string();
        let words = ["check", "--no-connect", "-4", target, "-l", "0.0.0.0:2222", "--tproxy-ports", "20000"];
        run(&net.gateway, &mut mmproxy(words), b"")
            .expect_code(78)
            .expect_text(&["mmproxy_tproxy_7c_101_tcp_20000_2222", "[!] MISSING"]);
    });
}

/// What the gateway itself connects to must not come back to it.
#[test]
fn each_port_of_the_range_may_lead_to_the_same_port_of_a_server_on_this_host() {
    isolated(|| {
        for family in Family::BOTH {
            let net = Topology::new();
            let servers =
                INSIDE.map(|port| Target::listen(&net.gateway, SocketAddr::new(family.gateway(), port)));
            let network = if family == V4 { "10.0.0.1:20000-20100" } else { "[fd00::1]:20000-20100" };
            let gateway = Gateway::before(&net, &servers[0])
                .without_targets()
                .with(["--tproxy-ports", "20000-20100", "--target-from-header", "--allow-target", network])
                .start();
            for server in &servers {
                let header = Version::V2.header(client(family), server.address());
                let downstream = Balancer::of(&net).announce(server.address(), &header, b"");
                let upstream = server.accept();
                assert_eq!(upstream.peer(), client(family));
                talk(&downstream, &upstream);
            }
            gateway.stop();
        }
    });
}

/// Balancers may send addresses here that no interface has. Their marks must not reach the sockets: fwmark's sysctl would
/// bring answers to the balancer back here.
#[test]
fn an_address_that_is_only_routed_here_is_served_too() {
    isolated(|| {
        for (family, routed) in [(V4, "203.0.113.7"), (V6, "2001:db8:77::7")] {
            let net = Topology::new();
            let target = Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0));
            let before = State::of(&net.gateway);
            shell(&net.balancer, &format!("ip route add {routed} via {}", family.gateway())).expect_code(0);
            let routed: IpAddr = routed.parse().expect("an address");
            let gateway = Gateway::before(&net, &target)
                .listen(SocketAddr::new(routed, 2222))
                .with(["--tproxy-ports", "20000-20100"])
                .start();
            assert_eq!(net.gateway.sysctl("net.ipv4.tcp_fwmark_accept").as_deref(), Some("1"));
            expect_range_served(&net, &target, routed);
            expect_others_untouched(&net, family);
            gateway.stop();
            State::of(&net.gateway).expect_unchanged_since(&before);
        }
    });
}

#[test]
fn what_a_killed_gateway_took_goes_with_the_next_one_and_with_teardown() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let before = State::of(&net.gateway);
        let plain = Gateway::before(&net, &target);
        let with_ports = plain.clone().with(["--tproxy-ports", "20000-20100"]);
        with_ports.start().kill();
        assert_ne!(State::of(&net.gateway), before);
        plain.start().stop();
        State::of(&net.gateway).expect_unchanged_since(&before);
        with_ports.start().kill();
        run(&net.gateway, &mut mmproxy(["teardown"]), b"").expect_code(0);
        State::of(&net.gateway).expect_unchanged_since(&before);
    });
}

#[test]
fn the_way_in_is_here_although_the_targets_are_in_another_namespace() {
    isolated(|| {
        let net = Topology::new();
        let elsewhere = Namespace::new("web");
        elsewhere.publish();
        let target = Target::listen(&elsewhere, addr("127.0.0.1:8080"));
        let (here, there) = (State::of(&net.gateway), State::of(&elsewhere));
        let gateway = Gateway::before(&net, &target)
            .with(["--target-netns", "web", "--tproxy-ports", "20000-20100"])
            .start();
        expect_range_served(&net, &target, V4.gateway());
        gateway.stop();
        State::of(&net.gateway).expect_unchanged_since(&here);
        State::of(&elsewhere).expect_unchanged_since(&there);

        let words = ["--target-netns", "web", "--listen", "0.0.0.0:2222", "--tproxy-ports", "20000"];
        run(&net.gateway, &mut mmproxy(["setup"].into_iter().chain(words)), b"").expect_code(0);
        assert_ne!(State::of(&net.gateway), here);
        assert_ne!(State::of(&elsewhere), there);
        run(&net.gateway, &mut mmproxy(["teardown"].into_iter().chain(words)), b"").expect_code(0);
        State::of(&net.gateway).expect_unchanged_since(&here);
        State::of(&elsewhere).expect_unchanged_since(&there);
    });
}

#[test]
fn ranges_that_could_mean_two_listeners_or_none_are_refused() {
    isolated(|| {
        let net = Topology::new();
        let refused = |words: &[&str], said: &[&str]| {
            run(&net.gateway, &mut mmproxy(words.iter().copied()), b"").expect_code(64).expect_text(said);
        };
        refused(&["setup", "--tproxy-ports", "20000"], &["--listen"]);
        refused(&["setup", "--tproxy-ports", "20000", "--listen", "0.0.0.0:0"], &["port", "--listen"]);
        refused(&["setup", "--tproxy-ports", "5-4", "--listen", "0.0.0.0:2222"], &["5-4", "20000-20100"]);
        refused(
            &["setup", "--tproxy-ports", "20000", "--listen", "10.0.0.1:1", "--listen", "10.0.0.2:1"],
            &["10.0.0.1:1", "10.0.0.2:1"],
        );
        refused(
            &["setup", "--tproxy-ports", "20000", "--listen", "0.0.0.0:2222", "--table", "101"],
            &["--tproxy-table 101"],
        );
    });
}
