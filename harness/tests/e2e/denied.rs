//! Lists of clients: who is served, by the address that the header names.

use std::fs;

use harness::{Datagrams, Echo, Family, Gateway, Target, Topology, V2, addr, isolated, scratch};
use nix::sys::signal::Signal;

use crate::support::{Scene, client, frontend, talk};
use Family::{V4, V6};

#[test]
fn a_denied_client_is_refused_and_its_neighbour_and_the_balancer_are_served() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| {
            flags.with(["--verbose", "--deny-client", "192.0.2.7", "--deny-client", "198.51.100.0/24"])
        });
        for denied in ["192.0.2.7:4711", "192.0.2.7:1", "198.51.100.200:4711"] {
            scene.expect_denied(denied, "client_denied");
        }
        scene.expect_served("192.0.2.8:4711");
        let health = scene.open(b"PROXY UNKNOWN\r\n");
        talk(&health, &scene.target.accept());
    });
}

#[test]
fn spelling_an_address_as_ipv6_does_not_help_a_denied_client() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--verbose", "--deny-client", "192.0.2.0/24"]));
        scene
            .open(&V2::proxy(addr("[::ffff:192.0.2.7]:4711"), addr("[2001:db8::1]:22")).to_bytes())
            .expect_closed();
        scene.gateway.expect_log(&["session closed", "client=192.0.2.7:4711", "reason=client_denied"]);
        scene.target.expect_untouched();
        scene.expect_served("192.0.3.7:4711");
    });
}

#[test]
fn the_smallest_network_decides_and_with_allowed_clients_nobody_else_is_served() {
    isolated(|| {
        let (allow, deny) = (scratch().join("allow.txt"), scratch().join("deny.txt"));
        fs::write(&allow, "2001:db8::/32 # everybody\n2001:db8:1:2::/64 ; and these all the same\n")
            .expect("own");
        fs::write(&deny, "2001:db8:1::/48\n2001:db8:1:2::7\n").expect("own");
        let scene = Scene::with(V6, |flags| {
            let files = [&allow, &deny].map(|path| path.to_str().expect("ASCII"));
            flags.with(["--verbose", "--allow-client-file", files[0], "--deny-client-file", files[1]])
        });
        scene.expect_served("[2001:db8::7]:4711");
        scene.expect_served("[2001:db8:1:2::8]:4711");
        for denied in ["[2001:db8:1::7]:4711", "[2001:db8:1:2::7]:4711", "[2001:db9::7]:4711"] {
            scene.expect_denied(denied, "client_denied");
        }
    });
}

#[test]
fn clients_on_the_command_line_are_allowed_beside_those_of_a_file_and_nobody_else_is_served() {
    isolated(|| {
        let file = scratch().join("allow.txt");
        fs::write(&file, "198.51.100.0/24\n").expect("own");
        let scene = Scene::with(V4, |flags| {
            let networks = ["--allow-client", "192.0.2.7", "--allow-client", "203.0.113.0/24"];
            flags.with(["--verbose", "--allow-client-file", file.to_str().expect("ASCII")]).with(networks)
        });
        for allowed in ["192.0.2.7:4711", "203.0.113.200:4711", "198.51.100.7:4711"] {
            scene.expect_served(allowed);
        }
        for denied in ["192.0.2.8:4711", "203.0.114.1:4711"] {
            scene.expect_denied(denied, "client_denied");
        }
        let health = scene.open(b"PROXY UNKNOWN\r\n");
        talk(&health, &scene.target.accept());
    });
}

#[test]
fn a_reload_takes_up_another_list_of_clients_and_a_broken_one_changes_nothing() {
    isolated(|| {
        let file = scratch().join("deny.txt");
        let path = file.to_str().expect("ASCII");
        let deny = |text: &str| fs::write(&file, text).expect("own");
        deny("192.0.2.7\n");
        let scene = Scene::with(V4, |flags| flags.with(["--verbose", "--deny-client-file", path]));
        scene.expect_denied("192.0.2.7:4711", "client_denied");
        scene.expect_served("192.0.2.8:4711");
        deny("192.0.2.8\n");
        scene.gateway.program().signal(Signal::SIGHUP);
        scene.gateway.expect_log(&["INFO", "reloaded"]);
        scene.expect_denied("192.0.2.8:4712", "client_denied");
        scene.expect_served("192.0.2.7:4712");
        deny("192.0.2.7\nclient.example\n");
        scene.gateway.program().signal(Signal::SIGHUP);
        scene.gateway.expect_log(&["ERROR", "deny.txt:2"]);
        scene.gateway.expect_log(&["not reloaded", "served on"]);
        scene.expect_denied("192.0.2.8:4713", "client_denied");
        scene.expect_served("192.0.2.7:4713");
        scene.gateway.stop();
    });
}

#[test]
fn an_empty_list_of_allowed_clients_serves_no_client_and_the_gateway_says_so() {
    isolated(|| {
        let file = scratch().join("allow.txt");
        fs::write(&file, "# nobody yet\n").expect("own");
        let scene = Scene::with(V4, |flags| {
            flags.with(["--verbose", "--allow-client-file", file.to_str().expect("ASCII")])
        });
        scene.gateway.expect_log(&["WARN", "no client is served"]);
        scene.expect_denied("192.0.2.7:4711", "client_denied");
        let health = scene.open(b"PROXY UNKNOWN\r\n");
        talk(&health, &scene.target.accept());
    });
}

#[test]
fn a_file_of_clients_with_mistakes_stops_the_start_with_each_ones_line() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let file = scratch().join("deny.txt");
        fs::write(&file, "192.0.2.0/24\n192.0.2.0/33\nclient.example\n").expect("own");
        let run = |path: &str| Gateway::before(&net, &target).with(["--deny-client-file", path]).run();
        run(file.to_str().expect("ASCII")).expect_code(78).expect_text(&[
            "deny.txt:2",
            "deny.txt:3",
            "client.example",
        ]);
        run("/nonexistent/deny.txt").expect_code(78).expect_text(&["/nonexistent/deny.txt"]);
        target.expect_untouched();
    });
}

#[test]
fn a_denied_clients_datagrams_are_dropped_and_its_neighbours_are_answered() {
    isolated(|| {
        let net = Topology::new();
        let echo = Echo::start(&net.gateway, addr("127.0.0.1:0"));
        let flags = ["-p", "udp", "--verbose", "--deny-client", "192.0.2.7"];
        let gateway = Gateway::to(&net, echo.address()).with(flags).start();
        let balancer = Datagrams::of(&net, V4.balancer());
        let header = |source| V2::datagram(source, frontend(V4)).to_bytes();
        balancer.send(gateway.address(V4), &header(client(V4)), b"question");
        gateway.expect_log(&["datagram dropped", "reason=client_denied"]);
        let neighbour = addr("192.0.2.8:4711");
        let answer = Echo::answer(neighbour, b"question");
        balancer.ask(gateway.address(V4), &header(neighbour), b"question", &answer);
        assert_eq!(echo.seen(), 1, "the denied client's never arrived");
    });
}
