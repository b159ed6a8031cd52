//! When the machine has no more to give.

use harness::expect::eventually;
use harness::{Balancer, Family, Gateway, Target, Topology, Version, addr, isolated, shell};

use crate::support::{Scene, client, header, talk};
use Family::V4;

#[test]
fn out_of_descriptors_the_gateway_waits_and_then_serves_who_has_waited() {
    isolated(|| {
        let scene = Scene::new();
        let limit = |soft: &str| {
            let pid = scene.gateway.program().pid();
            shell(&scene.net.gateway, &format!("prlimit --pid {pid} --nofile={soft}:"));
        };
        limit("3");
        let waiting = scene.open(&[header(Version::V2, V4).as_slice(), b"first"].concat());
        scene.gateway.expect_log(&["WARN", "accepting waits"]);
        scene.target.expect_untouched();
        limit("512");
        let upstream = scene.target.accept();
        assert_eq!(upstream.peer(), client(V4));
        upstream.expect(b"first");
        talk(&waiting, &upstream);
    });
}

#[test]
fn connections_beyond_what_the_descriptors_allow_are_turned_away_and_harm_nobody() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let flags = Gateway::before(&net, &target).with(["--verbose", "--header-timeout", "300s"]);
        // Room for a few dozen sessions, with both limits so that it cannot help itself.
        let gateway = flags.start_under("prlimit", &["--nofile=128:128", "--"]);
        let (balancer, address) = (Balancer::of(&net), gateway.address(V4));
        let silent: Vec<_> = (0..CROWD).map(|_| balancer.try_connect(address)).collect();
        gateway.expect_log(&["WARN", "session closed", "reason=session_limit"]);
        drop(silent);
        eventually("every connection of the crowd to be accounted for", || {
            (gateway.program().count_lines(&["session closed"]) == CROWD).then_some(())
        });
        let downstream = balancer.announce(address, &header(Version::V2, V4), b"");
        talk(&downstream, &target.accept());
    });
}

/// Far more than 128 descriptors are enough for, far fewer than a listener's queue holds.
const CROWD: usize = 200;
