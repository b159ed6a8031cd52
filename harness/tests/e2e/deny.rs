//! Clients that are denied while the gateway runs.

use std::fs;

use harness::expect::eventually;
use harness::{
    Datagrams, Echo, Family, Gateway, Target, Topology, V2, Version, addr, isolated, mmproxy, run, scratch,
};

use crate::control::Asked;
use crate::killed::kill_process;
use crate::support::{client, frontend, talk};
use Family::V4;

#[test]
fn who_is_denied_is_refused_until_it_is_denied_no_longer_and_sessions_go_on_unless_they_are_closed() {
    isolated(|| {
        let asked = Asked::with(&["--verbose"]);
        let header = |client| Version::V2.header(addr(client), addr("192.0.2.1:22"));
        let downstream = asked.scene.open(&header("192.0.2.7:4711"));
        let upstream = asked.scene.target.accept();
        asked
            .run(&["deny", "add", "192.0.2.7", "--reason", "tries passwords"])
            .expect_code(0)
            .expect_text(&["192.0.2.7/32 is denied for ever"]);
        asked.scene.expect_denied("192.0.2.7:4712", "client_denied");
        asked.scene.expect_served("192.0.2.8:4711");
        talk(&downstream, &upstream);

        let downstream = asked.scene.open(&header("192.0.2.9:4711"));
        let upstream = asked.scene.target.accept();
        // Once it relays, there is something to reset on both sides.
        downstream.send(b"question");
        upstream.expect(b"question");
        let added = asked.run(&["deny", "add", "192.0.2.9/30", "--for", "1h", "--close"]).expect_code(0);
        added.expect_text(&["192.0.2.8/30 is denied for 1 h 0 min", "Session ", " is closed."]);
        downstream.expect_reset();
        upstream.expect_reset();
        asked.scene.gateway.expect_log(&["session closed", "client=192.0.2.9:4711", "reason=client_denied"]);

        let listed = asked.json(&["deny", "list"]);
        assert_eq!(listed.len(), 2, "{listed:?}");
        assert_eq!(listed[0]["network"], "192.0.2.7/32");
        assert_eq!(listed[0]["reason"], "tries passwords");
        assert!(listed[1]["remaining_s"].as_u64().is_some_and(|left| left <= 3600), "{listed:?}");
        asked.run(&["deny", "list"]).expect_code(0).expect_text(&[
            "NETWORK",
            "192.0.2.8/30",
            "tries passwords",
        ]);

        asked.run(&["deny", "remove", "192.0.2.9"]).expect_code(0).expect_text(&[
            "192.0.2.9/32 was not denied",
            "192.0.2.8/30, which contains it, is denied still",
        ]);
        for network in ["192.0.2.7", "192.0.2.8/30"] {
            asked.run(&["deny", "remove", network]).expect_code(0).expect_text(&["is denied no longer"]);
        }
        asked.scene.expect_served("192.0.2.7:4712");
        asked.scene.expect_served("192.0.2.9:4712");
        asked.run(&["deny", "list"]).expect_code(0).expect_text(&["Nobody is denied"]);
        asked.scene.gateway.stop();
    });
}

#[test]
fn a_ban_ends_by_itself_and_a_reason_is_one_line_of_text() {
    isolated(|| {
        let asked = Asked::with(&["--verbose"]);
        asked.run(&["deny", "add", "192.0.2.7", "--for", "1s"]).expect_code(0);
        eventually("the end of the ban", || asked.json(&["deny", "list"]).is_empty().then_some(()));
        asked.scene.expect_served("192.0.2.7:4711");
        asked
            .run(&["deny", "add", "192.0.2.7", "--reason", "one\nand another"])
            .expect_code(69)
            .expect_text(&["a reason is one line of text"]);
        assert!(asked.json(&["deny", "list"]).is_empty());
        asked.scene.gateway.stop();
    });
}

#[test]
fn a_ban_survives_a_reload_and_a_worker_that_is_killed() {
    isolated(|| {
        let asked = Asked::with(&["--verbose"]);
        asked.run(&["deny", "add", "192.0.2.7"]).expect_code(0);
        asked.run(&["reload"]).expect_code(0);
        asked.scene.expect_denied("192.0.2.7:4711", "client_denied");
        asked.scene.expect_served("192.0.2.8:4711");
        let worker = asked.scene.gateway.worker();
        kill_process(worker);
        asked.scene.gateway.expect_log(&["a worker ended", "SIGKILL"]);
        asked.scene.expect_denied("192.0.2.7:4712", "client_denied");
        asked.scene.expect_served("192.0.2.8:4712");
        asked.scene.gateway.stop();
    });
}

#[test]
fn a_ban_that_is_kept_in_a_file_survives_a_restart_and_a_broken_file_stops_the_start_with_its_lines() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let path = |name: &str| scratch().join(name).to_str().expect("ASCII").to_owned();
        let (state, socket) = (path("denied.txt"), path("control.sock"));
        let flags = ["--verbose", "--deny-state", &state, "--control", &socket];
        let ask = |words: &[&str]| {
            let mut command = mmproxy(words.iter().copied());
            command.args(["--control", &socket]);
            run(&net.gateway, &mut command, b"").expect_code(0)
        };
        let first = Gateway::before(&net, &target).with(flags).start();
        ask(&["deny", "add", "192.0.2.7", "--reason", "tries passwords"]);
        ask(&["deny", "add", "198.51.100.0/24", "--for", "1h"]);
        // It is written while it runs, too: a gateway that is killed loses two seconds at most.
        eventually("the file to be written", || {
            fs::read_to_string(&state).is_ok_and(|text| text.contains("198.51.100.0/24 until ")).then_some(())
        });
        first.kill();

        let second = Gateway::before(&net, &target).with(flags).start();
        ask(&["deny", "list"]).expect_text(&["192.0.2.7/32", "tries passwords", "198.51.100.0/24"]);
        let balancer = harness::Balancer::of(&net);
        let header = Version::V2.header(addr("192.0.2.7:4711"), addr("192.0.2.1:22"));
        balancer.announce(second.address(V4), &header, b"").expect_closed();
        second.expect_log(&["session closed", "client=192.0.2.7:4711", "reason=client_denied"]);
        ask(&["deny", "remove", "192.0.2.7"]);
        second.stop();
        let kept = fs::read_to_string(&state).expect("it is there");
        assert!(!kept.contains("192.0.2.7") && kept.contains("198.51.100.0/24"), "{kept}");

        fs::write(&state, "198.51.100.0/24\nnobody\n192.0.2.7 until tomorrow\n").expect("own");
        let finished = Gateway::before(&net, &target).with(flags).run().expect_code(78);
        finished.expect_text(&["denied.txt:2: ", "denied.txt:3: "]);
        assert_eq!(fs::read_to_string(&state).expect("it is there").lines().count(), 3, "it is left alone");
        target.expect_untouched();
    });
}

#[test]
fn flows_of_a_client_that_is_denied_end_and_its_datagrams_are_dropped() {
    isolated(|| {
        let net = Topology::new();
        let echo = Echo::start(&net.gateway, addr("127.0.0.1:0"));
        let socket = scratch().join("control.sock").to_str().expect("ASCII").to_owned();
        let flags = ["-p", "udp", "--verbose", "--control", &socket];
        let gateway = Gateway::to(&net, echo.address()).with(flags).start();
        let ask = |words: &[&str]| {
            let mut command = mmproxy(words.iter().copied());
            command.args(["--control", &socket]);
            run(&net.gateway, &mut command, b"").expect_code(0)
        };
        let balancer = Datagrams::of(&net, V4.balancer());
        let header = |source| V2::datagram(source, frontend(V4)).to_bytes();
        let talks = |source| {
            let answer = Echo::answer(source, b"question");
            balancer.ask(gateway.address(V4), &header(source), b"question", &answer);
        };
        talks(client(V4));
        ask(&["deny", "add", &client(V4).ip().to_string()]);
        gateway.expect_log(&["flow", "client_denied"]);
        balancer.send(gateway.address(V4), &header(client(V4)), b"question");
        gateway.expect_log(&["datagram dropped", "reason=client_denied"]);
        talks(addr("192.0.2.8:4711"));
        assert_eq!(echo.seen(), 2, "the denied client's never arrived");
        ask(&["deny", "remove", &client(V4).ip().to_string()]);
        talks(client(V4));
        gateway.stop();
    });
}
