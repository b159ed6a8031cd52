//! HAProxy's health checks under each policy, and what the target sees of them.

use std::time::Instant;

use Family::V4;
use harness::expect::eventually;
use harness::{Connection, Family, Gateway, Namespace, Target, Topology, isolated};

use crate::haproxy::{HaProxy, frontend};

/// A gateway with a policy, and an HAProxy that checks it five times a second.
struct Checked {
    clients: Namespace,
    target: Target,
    gateway: Gateway,
    haproxy: HaProxy,
}

impl Checked {
    #[track_caller]
    fn with(policy: &str) -> Self {
        let net = Topology::new();
        let clients = net.clients();
        let target = Target::listen(&net.gateway, (V4.loopback(), 0).into());
        let gateway = Gateway::before(&net, &target).with(["--health-checks", policy, "--verbose"]).start();
        let check = format!("{} send-proxy-v2 check check-send-proxy inter 200ms", gateway.address(V4));
        let haproxy = HaProxy::start(&net, &check);
        Self { clients, target, gateway, haproxy }
    }

    /// Waits until so many checks have ended for `reason`.
    #[track_caller]
    fn expect_checks(&self, number: usize, reason: &str) {
        eventually(reason, || {
            let ended = self.gateway.program().count_lines(&["session closed", reason]);
            (ended >= number).then_some(())
        });
    }

    /// A client gets through, whatever becomes of the checks.
    #[track_caller]
    fn expect_client(&self) {
        let client = Connection::open(&self.clients, frontend(V4));
        client.send(b"question");
        let upstream = loop {
            let upstream = self.target.accept();
            if upstream.peer() == client.local() {
                break upstream;
            }
            assert_eq!(upstream.peer().ip(), V4.loopback(), "{}", self.haproxy.output());
        };
        upstream.expect(b"question");
    }
}

#[test]
fn checks_that_pass_reach_the_target_each_time() {
    isolated(|| {
        let checked = Checked::with("pass");
        for _ in 0..5 {
            assert_eq!(checked.target.accept().peer().ip(), V4.loopback());
        }
        checked.expect_client();
    });
}

#[test]
fn answered_checks_do_not_reach_the_target_and_clients_do() {
    isolated(|| {
        let start = Instant::now();
        let checked = Checked::with("answer");
        checked.expect_checks(10, "reason=health_check ");
        // The target is looked at when the gateway starts, perhaps when the first check comes, and every five seconds.
        // Each look comes from the gateway itself and goes without a byte.
        let mut looks = 0;
        let client = Connection::open(&checked.clients, frontend(V4));
        client.send(b"question");
        loop {
            let upstream = checked.target.accept();
            if upstream.peer() == client.local() {
                upstream.expect(b"question");
                break;
            }
            assert_eq!(upstream.peer().ip(), V4.loopback());
            assert!(upstream.receive_all().0.is_empty());
            looks += 1;
        }
        let most = 4 + start.elapsed().as_secs() / 5;
        assert!(looks <= most, "the target saw {looks} looks");
    });
}

#[test]
fn answered_checks_tell_that_the_target_is_down() {
    isolated(|| {
        let Checked { clients: _clients, target, gateway, haproxy } = Checked::with("answer");
        drop(target);
        gateway.expect_log(&["session closed", "reason=health_check_failed"]);
        drop(haproxy);
    });
}

#[test]
fn refused_checks_never_reach_the_target() {
    isolated(|| {
        let checked = Checked::with("refuse");
        checked.expect_checks(5, "reason=health_check_refused");
        checked.target.expect_untouched();
        checked.gateway.stop().expect_code(0);
    });
}
