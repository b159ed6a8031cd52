//! How much of the gateway one may have: each limit refuses what is over it, for its reason, and nobody else.

use harness::expect::eventually;
use harness::{Balancer, Connection, Family, Gateway, Target, Topology, V2, Version, addr, isolated};

use crate::support::{Scene, client, frontend, header, header_from, talk};
use Family::{V4, V6};

impl Scene {
    /// A session that is under way: the balancer announced `source`, and the target sees it.
    #[track_caller]
    pub(crate) fn session_of(&self, source: &str) -> (Connection, Connection) {
        let downstream = self.open(&header_from(Version::V2, source));
        let upstream = self.target.accept();
        assert_eq!(upstream.peer(), addr(source));
        (downstream, upstream)
    }

    /// Expects that a client is served to the end.
    #[track_caller]
    pub(crate) fn expect_served(&self, source: &str) {
        let (downstream, upstream) = self.session_of(source);
        talk(&downstream, &upstream);
    }

    /// Expects that a client is refused for `reason`, and that the target does not hear of it.
    #[track_caller]
    pub(crate) fn expect_denied(&self, source: &str, reason: &str) {
        self.open(&header_from(Version::V2, source)).expect_closed();
        let (client, reason) = (format!("client={source}"), format!("reason={reason}"));
        self.gateway.expect_log(&["session closed", &client, &reason]);
        self.target.expect_untouched();
    }
}

#[test]
fn a_client_has_so_many_sessions_and_its_neighbour_has_its_own() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--verbose", "--max-sessions-per-client", "2"]));
        let first = scene.session_of("192.0.2.7:4711");
        let second = scene.session_of("192.0.2.7:4712");
        scene.expect_denied("192.0.2.7:4713", "client_limit");
        scene.expect_served("192.0.2.8:4711");
        // The balancer's own connections are no client's.
        for _ in 0..3 {
            let health = scene.open(b"PROXY UNKNOWN\r\n");
            talk(&health, &scene.target.accept());
        }
        talk(&first.0, &first.1);
        scene.gateway.expect_log(&["session closed", "client=192.0.2.7:4711", "reason=finished"]);
        scene.expect_served("192.0.2.7:4714");
        talk(&second.0, &second.1);
    });
}

#[test]
fn a_network_of_clients_has_so_many_sessions_whatever_their_addresses() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| {
            flags.with(["--verbose", "--max-sessions-per-client-network", "2", "--client-networks", "16,48"])
        });
        let held = [scene.session_of("192.0.2.7:4711"), scene.session_of("192.0.3.7:4711")];
        scene.expect_denied("192.0.4.7:4711", "client_network_limit");
        scene.expect_served("192.1.2.7:4711");
        held.iter().for_each(|(downstream, upstream)| talk(downstream, upstream));
    });
}

#[test]
fn an_ipv6_host_is_one_client_by_all_addresses_of_its_64() {
    isolated(|| {
        let scene = Scene::with(V6, |flags| flags.with(["--verbose", "--max-sessions-per-client", "1"]));
        let (downstream, upstream) = scene.session_of("[2001:db8:1::1]:4711");
        scene.expect_denied("[2001:db8:1::ffff:2]:4711", "client_limit");
        scene.expect_served("[2001:db8:1:1::1]:4711");
        talk(&downstream, &upstream);
    });
}

#[test]
fn clients_that_come_too_fast_are_refused_and_other_networks_are_served() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--verbose", "--new-sessions-per-second", "1,3"]));
        let is_served = |port: &u16| {
            let source = format!("192.0.2.7:{port}");
            let downstream = scene.open(&header_from(Version::V2, &source));
            let line = ["session closed", &format!("client={source}"), "reason=client_rate"];
            let upstream = eventually("a decision", || match scene.target.try_accept() {
                Some(upstream) => Some(Some(upstream)),
                None => (scene.gateway.program().count_lines(&line) > 0).then_some(None),
            });
            upstream.inspect(|upstream| talk(&downstream, upstream)).is_some()
        };
        // However slow the machine is, more than three come within a second now and then.
        let refused = (20_000..20_100).find(|port| !is_served(port));
        assert!(refused.is_some_and(|port| port >= 20_003), "the burst was not let through: {refused:?}");
        scene.expect_served("192.0.3.7:4711");
        // And the others again when a moment has passed.
        let mut ports = 21_000..;
        eventually("the client to be served again", || ports.next().filter(is_served));
    });
}

#[test]
fn a_balancer_over_its_limit_is_turned_away_and_another_one_is_served() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| {
            flags.with(["--verbose", "--max-sessions-per-balancer", "1", "--header-timeout", "300s"])
        });
        let (downstream, upstream) = scene.session();
        // It says nothing, and is not waited for.
        scene.balancer.expect_turned_away(scene.gateway.address(V4), b"");
        scene.gateway.expect_log(&["session closed", "peer=10.0.0.2:", "reason=balancer_limit"]);
        scene.balancer.expect_turned_away(scene.gateway.address(V4), &header(Version::V2, V4));
        scene.target.expect_untouched();
        // The same machine, but another address.
        let other =
            scene.balancer.announce(scene.gateway.address(V6), &header_from(Version::V2, "192.0.2.8:1"), b"");
        talk(&other, &scene.target.accept());
        talk(&downstream, &upstream);
    });
}

#[test]
fn a_listener_over_its_limit_leaves_the_other_one_alone() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let flags =
            ["--verbose", "--listen", "10.0.0.1:2223", "--max-sessions-per-listener", "1", "--workers", "2"];
        let gateway = Gateway::before(&net, &target).listen(addr("10.0.0.1:2222")).with(flags).start();
        gateway.expect_log(&["Listening on 10.0.0.1:2223"]);
        let balancer = Balancer::of(&net);
        let [one, other] = ["10.0.0.1:2222", "10.0.0.1:2223"].map(addr);
        let session = |listener, source| {
            let downstream = balancer.announce(listener, &header_from(Version::V2, source), b"");
            (downstream, target.accept())
        };
        let (downstream, upstream) = session(one, "192.0.2.7:4711");
        // One limit for the address, not for each of its workers.
        for _ in 0..8 {
            balancer.expect_turned_away(one, b"");
        }
        gateway.expect_log(&["session closed", "reason=listener_limit"]);
        let (elsewhere, there) = session(other, "192.0.2.8:4711");
        talk(&elsewhere, &there);
        talk(&downstream, &upstream);
        gateway.expect_log(&["session closed", "client=192.0.2.7:4711", "reason=finished"]);
        let (downstream, upstream) = session(one, "192.0.2.9:4711");
        talk(&downstream, &upstream);
    });
}

#[test]
fn sessions_altogether_are_limited_by_a_flag_too_and_those_that_live_go_on() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| {
            flags.with(["--verbose", "--max-sessions", "8", "--max-sessions-per-client", "off"])
        });
        // A client may have an eighth by default, and its network a quarter.
        let held: Vec<_> = (0..8).map(|number| scene.session_of(&format!("192.0.{number}.7:4711"))).collect();
        scene.balancer.expect_turned_away(scene.gateway.address(V4), &header(Version::V2, V4));
        scene.gateway.expect_log(&["session closed", "reason=session_limit"]);
        held.iter().for_each(|(downstream, upstream)| talk(downstream, upstream));
        eventually("the places to be free again", || {
            (scene.gateway.program().count_lines(&["session closed", "reason=finished"]) == 8).then_some(())
        });
        scene.expect_served("192.0.2.7:4712");
    });
}

#[test]
fn by_default_one_client_cannot_take_every_place() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--verbose", "--max-sessions", "16"]));
        let held = [scene.session_of("192.0.2.7:4711"), scene.session_of("192.0.2.7:4712")];
        scene.expect_denied("192.0.2.7:4713", "client_limit");
        let neighbours = [scene.session_of("192.0.2.8:4711"), scene.session_of("192.0.2.9:4711")];
        scene.expect_denied("192.0.2.10:4711", "client_network_limit");
        scene.expect_served("192.0.3.7:4711");
        held.iter().chain(&neighbours).for_each(|(downstream, upstream)| talk(downstream, upstream));
    });
}

#[test]
fn a_header_may_be_as_large_as_the_limit_says() {
    isolated(|| {
        let sized = |value: usize| V2::proxy(client(V4), frontend(V4)).tlv(0xE0, &vec![7; value]).to_bytes();
        for (flags, fits, does_not) in [
            (&[][..], 16_384, 16_385),
            (&["--max-header-size", "4096"], 4096, 4097),
            (&["--max-header-size", "60000"], 60_000, 60_001),
        ] {
            let scene = Scene::with(V4, |with| with.with(flags.iter().copied()));
            // 16 bytes before the addresses, 12 of addresses, 3 before the value.
            let downstream = scene.open(&sized(fits - 31));
            talk(&downstream, &scene.target.accept());
            scene.open(&sized(does_not - 31)).expect_closed();
            scene.gateway.expect_log(&["session closed", "reason=header_invalid"]);
            scene.target.expect_untouched();
        }
    });
}

#[test]
fn limits_that_cannot_be_kept_stop_the_start() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let run = |flags: &[&str]| Gateway::before(&net, &target).with(flags.iter().copied()).run();
        run(&["--max-sessions", "1000000000"]).expect_code(78).expect_text(&["--max-sessions 1000000000"]);
        run(&["--max-header-size", "65552"]).expect_code(64).expect_text(&["--max-header-size", "65551"]);
        run(&["-p", "udp", "--max-sessions-per-client", "5"])
            .expect_code(64)
            .expect_text(&["--max-sessions-per-client", "--udp-max-flows"]);
    });
}
