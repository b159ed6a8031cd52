//! What happens between the first byte behind the header and the last.

use std::net::SocketAddr;
use std::thread;

use harness::{Balancer, Connection, End, Family, Gateway, Target, Topology, Version, addr, isolated};

use crate::support::{Scene, both_ways_at_once, client, header, noise, talk};
use Family::V4;

#[test]
fn the_client_may_finish_first_and_still_hear_the_target() {
    isolated(|| {
        for family in Family::BOTH {
            let scene = Scene::with(family, |flags| flags);
            let (downstream, upstream) = scene.session();
            downstream.send(b"question");
            downstream.finish();
            upstream.expect(b"question");
            upstream.expect_end();
            upstream.send(b"a late answer");
            downstream.expect(b"a late answer");
            upstream.finish();
            downstream.expect_end();
            scene.gateway.expect_log(&["session closed", "reason=finished"]);
        }
    });
}

#[test]
fn the_target_may_finish_first_and_still_hear_the_client() {
    isolated(|| {
        for family in Family::BOTH {
            let scene = Scene::with(family, |flags| flags);
            let (downstream, upstream) = scene.session();
            upstream.send(b"greeting");
            upstream.finish();
            downstream.expect(b"greeting");
            downstream.expect_end();
            downstream.send(b"a late word");
            upstream.expect(b"a late word");
            downstream.finish();
            upstream.expect_end();
            scene.gateway.expect_log(&["session closed", "reason=finished"]);
        }
    });
}

#[test]
fn a_reset_by_the_client_is_a_reset_at_the_target() {
    isolated(|| {
        let scene = Scene::new();
        let (downstream, upstream) = scene.session();
        downstream.send(b"before");
        upstream.expect(b"before");
        downstream.reset();
        upstream.expect_reset();
        scene.gateway.expect_log(&["session closed", "reason=peer_reset"]);
    });
}

#[test]
fn a_reset_by_the_target_is_a_reset_at_the_client() {
    isolated(|| {
        let scene = Scene::new();
        let (downstream, upstream) = scene.session();
        upstream.send(b"before");
        downstream.expect(b"before");
        upstream.reset();
        downstream.expect_reset();
        scene.gateway.expect_log(&["session closed", "reason=target_reset"]);
    });
}

#[test]
fn a_reset_after_the_client_has_finished_is_still_carried_over() {
    isolated(|| {
        let scene = Scene::new();
        let (downstream, upstream) = scene.session();
        downstream.finish();
        upstream.expect_end();
        upstream.reset();
        downstream.expect_reset();
    });
}

#[test]
fn eight_mebibytes_each_way_arrive_unchanged_at_slow_readers() {
    isolated(|| {
        for family in Family::BOTH {
            let net = Topology::new();
            let target =
                Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0)).with_small_buffers();
            let gateway = Gateway::before(&net, &target).start();
            let downstream = Balancer::of(&net).connect_with_small_buffer(gateway.address(family));
            downstream.send(&header(Version::V2, family));
            let upstream = target.accept();
            both_ways_at_once(&downstream, &upstream, EIGHT_MEBIBYTES, Connection::receive_all_slowly);
            let size = EIGHT_MEBIBYTES;
            let (up, down) = (format!("bytes_up={size}"), format!("bytes_down={size}"));
            gateway.expect_log(&["session closed", &up, &down, "reason=finished"]);
        }
    });
}

const EIGHT_MEBIBYTES: usize = 8 << 20;

#[test]
fn all_that_a_target_sent_before_it_closed_arrives() {
    isolated(|| {
        let scene = Scene::new();
        let (downstream, upstream) = scene.session();
        let bytes = noise(3, 1 << 20);
        thread::scope(|scope| {
            scope.spawn(|| {
                upstream.send(&bytes);
                drop(upstream);
            });
            let (received, end) = downstream.receive_all();
            assert_eq!((received.len(), end), (bytes.len(), End::Finished));
            assert!(received == bytes);
        });
    });
}

#[test]
fn when_the_target_is_down_the_balancers_connection_closes_at_once() {
    isolated(|| {
        for family in Family::BOTH {
            // So that no deadline can be what closes it.
            let scene = Scene::with(family, |flags| flags.with(["--connect-timeout", "300s"]));
            scene.expect_alive();
            let Scene { net: _net, target, gateway, balancer, .. } = scene;
            drop(target);
            balancer.announce(gateway.address(family), &header(Version::V2, family), b"").expect_closed();
            let source = format!("client={}", client(family));
            gateway.expect_log(&["session closed", &source, "reason=target_refused"]);
        }
    });
}

#[test]
fn a_target_that_was_down_at_the_start_is_served_once_it_is_up() {
    isolated(|| {
        let net = Topology::new();
        let gateway = Gateway::to(&net, addr("127.0.0.1:8080")).start();
        gateway.expect_log(&["[!] FAILED", "127.0.0.1:8080"]);
        let target = Target::listen(&net.gateway, addr("127.0.0.1:8080"));
        let downstream = Balancer::of(&net).announce(gateway.address(V4), &header(Version::V1, V4), b"");
        let upstream = target.accept();
        assert_eq!(upstream.peer(), client(V4));
        talk(&downstream, &upstream);
    });
}

#[test]
fn each_session_has_one_line_that_tells_all_about_it() {
    isolated(|| {
        let scene = Scene::new();
        let (downstream, upstream) = scene.session();
        talk(&downstream, &upstream);
        let peer = format!("peer={}", downstream.local());
        let target = format!("target={}", scene.target.address());
        let told = [
            "INFO",
            "client=192.0.2.7:4711",
            "bytes_up=8",
            "bytes_down=6",
            "duration_ms=",
            "reason=finished",
        ];
        let line = scene.gateway.expect_log(&["session closed", &peer]);
        for part in told.into_iter().chain([target.as_str()]) {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        let finished = scene.gateway.stop();
        assert_eq!(finished.stderr.matches("session closed").count(), 1, "{finished}");
        // Colours are for terminals.
        assert!(!finished.stderr.contains('\x1b') && !finished.stdout.contains('\x1b'), "{finished}");
    });
}
