//! Whom and what the gateway turns away, and that it serves the next one as if nothing had happened.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use harness::expect::{DEADLINE, eventually, within};
use harness::{Balancer, Connection, Family, Gateway, Target, Topology, V2, Version, addr, isolated};

use crate::support::{Scene, client, frontend, header, header_from, talk};
use Family::{V4, V6};

#[test]
fn a_peer_that_is_not_allowed_is_closed_before_a_byte_is_read_from_it() {
    isolated(|| {
        // So that the deadline of the header cannot be what closes the silent one.
        let scene = Scene::with(V4, |flags| flags.allow("10.9.0.0/16").with(["--header-timeout", "300s"]));
        let address = scene.gateway.address(V4);
        scene.balancer.expect_turned_away(address, b"");
        scene.gateway.expect_log(&["session closed", "peer=10.0.0.2:", "reason=peer_not_allowed"]);
        scene.balancer.expect_turned_away(address, &header(Version::V2, V4));
        scene.target.expect_untouched();
    });
}

#[test]
fn networks_of_one_family_allow_nobody_of_the_other() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let gateway = Gateway::before(&net, &target).allow("0.0.0.0/0").start();
        let balancer = Balancer::of(&net);
        balancer.expect_turned_away(gateway.address(V6), &header(Version::V2, V4));
        target.expect_untouched();
        let downstream = balancer.announce(gateway.address(V4), &header(Version::V2, V4), b"");
        talk(&downstream, &target.accept());
    });
}

#[test]
fn a_silent_peer_is_closed_at_the_deadline_and_not_before() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--header-timeout", "3s"]));
        let start = Instant::now();
        let silent = scene.open(b"");
        let half = scene.open(&header(Version::V2, V4)[..20]);
        silent.expect_closed();
        assert!(start.elapsed() >= Duration::from_secs(3), "closed after {:?}", start.elapsed());
        half.expect_closed();
        scene.target.expect_untouched();
        scene.gateway.expect_log(&["session closed", "reason=header_timeout"]);
        scene.expect_alive();
    });
}

#[test]
fn a_peer_that_drips_its_header_cannot_put_the_deadline_off() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--header-timeout", "3s"]));
        let slow = scene.open(b"PROXY UNKNOWN ");
        // A byte now and then would keep it open for ever if each gave it new time; the line could go on for 90 bytes.
        let dripping = Instant::now();
        let closed = within(DEADLINE, || {
            let wait = Duration::from_millis(500);
            (dripping.elapsed() < DEADLINE && slow.is_closed_after_sending(b"x", wait)).then_some(())
        });
        assert!(closed.is_some(), "still open after {:?}", dripping.elapsed());
        scene.gateway.expect_log(&["session closed", "reason=header_timeout"]);
    });
}

/// Expects that `bytes` end their connection, without an answer and without the target hearing of it.
#[track_caller]
fn expect_refused(scene: &Scene, bytes: &[u8]) -> Connection {
    let connection = scene.open(bytes);
    connection.expect_closed();
    scene.target.expect_untouched();
    connection
}

#[test]
fn what_is_no_proxy_header_is_closed_without_an_answer() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--verbose", "--header-timeout", "300s"]));
        let garbage: [&[u8]; 6] = [
            b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2p1\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"proxy tcp4 192.0.2.7 192.0.2.1 4711 22\r\n",
            b"\r\n\r\n\0\r\nQUIX\n\x21\x11\x00\x0c",
            &[0; 4096],
        ];
        for bytes in garbage {
            expect_refused(&scene, bytes);
        }
        scene.expect_reasons("header_missing", garbage.len());
        scene.expect_alive();
    });
}

#[test]
fn a_header_that_breaks_a_rule_is_closed_without_an_answer() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--verbose", "--header-timeout", "300s"]));
        let good = V2::proxy(client(V4), frontend(V4));
        let long_line = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200], b"\r\n"].concat();
        let broken = [
            b"PROXY TCP4 192.0.2.7 192.0.2.1 4711\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.256 192.0.2.1 4711 22\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 65536\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 192.0.2.1 04711 22\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 22\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 22\nGET".to_vec(),
            b"PROXY TCP5 192.0.2.7 192.0.2.1 4711 22\r\n".to_vec(),
            long_line,
            V2 { version: 3, ..good.clone() }.to_bytes(),
            V2 { command: 2, ..good.clone() }.to_bytes(),
            V2 { family: 4, ..good.clone() }.to_bytes(),
            V2 { transport: 3, ..good.clone() }.to_bytes(),
            V2 { length: Some(11), ..good.clone() }.to_bytes(),
            V2 { tlvs: vec![0x02, 0x00], ..good }.to_bytes(),
        ];
        for bytes in &broken {
            expect_refused(&scene, bytes);
        }
        scene.expect_reasons("header_invalid", broken.len());
        scene.expect_alive();
    });
}

#[test]
fn a_peer_that_leaves_within_its_header_harms_nobody() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--verbose"]));
        for version in Version::BOTH {
            let cut = scene.open(&header(version, V4)[..10]);
            cut.finish();
            cut.expect_closed();
            let reset = scene.open(&header(version, V4)[..10]);
            reset.wait_until_read();
            reset.reset();
        }
        scene.expect_reasons("header_incomplete", 2);
        scene.target.expect_untouched();
        scene.expect_alive();
    });
}

#[test]
fn a_health_check_that_connects_and_leaves_is_not_an_error() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--verbose"]));
        let check = scene.open(b"");
        check.finish();
        check.expect_closed();
        let line = scene.gateway.expect_log(&["session closed", "reason=connect_only"]);
        assert!(line.contains("DEBUG"), "it happens all day long: {line}");
        scene.expect_alive();
    });
}

#[test]
fn addresses_that_no_client_has_are_refused_before_a_socket_exists() {
    isolated(|| {
        let net = Topology::new();
        let [v4, v6] =
            Family::BOTH.map(|family| Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0)));
        let gateway = Gateway::before(&net, &v4).and_before(&v6).with(["--verbose"]).start();
        let sources = [
            "127.0.0.1:4711",
            "127.255.255.254:4711",
            "0.0.0.0:4711",
            "224.0.0.1:4711",
            "255.255.255.255:4711",
            "169.254.1.1:4711",
            "[::1]:4711",
            "[::]:4711",
            "[ff02::1]:4711",
            "[fe80::1]:4711",
            "[::ffff:127.0.0.1]:4711",
            // This host's own: the target would take a stranger for it.
            "10.0.0.1:4711",
            "[fd00::1]:4711",
        ];
        for source in sources {
            for version in Version::BOTH {
                let connection =
                    Balancer::of(&net).announce(gateway.address(V4), &header_from(version, source), b"");
                connection.expect_closed();
            }
        }
        eventually("a line for each refusal", || {
            let lines = gateway.program().count_lines(&["session closed", "reason=source_refused"]);
            (lines == 2 * sources.len()).then_some(())
        });
        v4.expect_untouched();
        v6.expect_untouched();
    });
}

#[test]
fn a_loopback_source_is_spoofed_where_the_operator_says_so() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--allow-source", "loopback"]));
        let downstream = scene.open(&header_from(Version::V2, "127.0.0.5:4711"));
        let upstream = scene.target.accept();
        assert_eq!(upstream.peer(), addr("127.0.0.5:4711"));
        talk(&downstream, &upstream);
        // Of this kind, and of no other.
        scene.open(&header_from(Version::V2, "10.0.0.1:4711")).expect_closed();
        scene.target.expect_untouched();
    });
}

#[test]
fn without_a_target_of_its_family_a_client_is_refused_and_the_log_says_why() {
    isolated(|| {
        for (present, absent, reason) in [(V4, V6, "no IPv6 target"), (V6, V4, "no IPv4 target")] {
            let scene = Scene::with(present, |flags| flags);
            for version in Version::BOTH {
                scene.open(&header(version, absent)).expect_closed();
            }
            scene.target.expect_untouched();
            let source = format!("client={}", client(absent));
            let line = scene.gateway.expect_log(&["session closed", &source, "reason=no_target"]);
            assert!(line.contains(reason), "{line}");
            scene.expect_alive();
        }
    });
}

impl Scene {
    /// Waits until the log has `count` sessions that ended for `reason`; the gateway has to be `--verbose`, because it
    /// writes a refusal's second line of a minute only then.
    #[track_caller]
    fn expect_reasons(&self, reason: &str, count: usize) {
        let reason = format!("reason={reason}");
        let lines = || self.gateway.program().count_lines(&["session closed", &reason]);
        eventually(&format!("{count} sessions closed with {reason}"), || (lines() >= count).then_some(()));
        assert_eq!(lines(), count, "sessions closed with {reason}");
    }
}
