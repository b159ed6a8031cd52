//! Which datagrams belong together, and where replies go.

use std::collections::HashSet;
use std::net::SocketAddr;

use harness::expect::eventually;
use harness::{Datagrams, Echo, Family, Gateway, Namespace, Topology, V2, addr, isolated, shell};

use nix::sys::signal::Signal;

use super::scene::{Scene, announce, numbered};
use crate::killed::kill_process;
use crate::support::client;
use Family::{V4, V6};

#[test]
fn a_thousand_clients_behind_one_balancer_are_each_seen_as_themselves_and_get_their_own_replies() {
    isolated(|| {
        let scene = Scene::new(V4);
        let one_socket = scene.balancer();
        let clients: Vec<SocketAddr> = (0..1000).map(|number| numbered(V4, number)).collect();
        // Fifty at a time through one socket: the replies come in any order, and each names its client.
        for (round, group) in clients.chunks(50).enumerate() {
            let question = |client: &SocketAddr| format!("round {round} of {client}");
            for client in group {
                one_socket.send(scene.address(), &announce(*client), question(client).as_bytes());
            }
            let mut expected: HashSet<Vec<u8>> =
                group.iter().map(|client| Echo::answer(*client, question(client).as_bytes())).collect();
            while !expected.is_empty() {
                let (answer, _) = one_socket.receive();
                assert!(expected.remove(&answer), "not expected: {}", String::from_utf8_lossy(&answer));
            }
        }
        // The same clients from sockets of their own: what one gets is its client's and nobody else's.
        let sockets: Vec<Datagrams> = clients.iter().take(200).map(|_| scene.balancer()).collect();
        for group in (0..sockets.len()).collect::<Vec<_>>().chunks(50) {
            for number in group {
                let question = format!("of socket {number}");
                sockets[*number].send(scene.address(), &announce(clients[*number]), question.as_bytes());
            }
            for number in group {
                let question = format!("of socket {number}");
                sockets[*number]
                    .expect(scene.address(), &Echo::answer(clients[*number], question.as_bytes()));
            }
        }
        scene.gateway.stop().expect_text(&["up=1200 down=1200 flows_evicted=0"]);
    });
}

#[test]
fn a_balancer_that_goes_on_from_another_port_is_followed() {
    isolated(|| {
        for family in Family::BOTH {
            // More workers than processors: were they to share clients by the balancer's port, it would show.
            let scene = Scene::with(family, |flags| flags.with(["--workers", "4"]));
            let sockets: Vec<Datagrams> = (0..6).map(|_| scene.balancer()).collect();
            for socket in &sockets {
                for number in 0..12 {
                    // The target sees the same address and port all along: it is the same flow.
                    scene.serves(socket, numbered(family, number), b"from here now");
                }
            }
            // A reply to what one socket sent goes to the socket that sent last.
            let (before, after) = (&sockets[0], &sockets[1]);
            scene.serves(before, client(family), b"first");
            scene.serves(after, client(family), b"second");
            scene.serves(before, client(family), b"third");
        }
    });
}

#[test]
fn datagrams_that_a_balancer_sends_in_one_piece_are_still_each_their_clients() {
    isolated(|| {
        // The kernel gives all of them to the worker of the first.
        let scene = Scene::with(V4, |flags| flags.with(["--workers", "4"]));
        let balancer = scene.balancer();
        let clients: Vec<SocketAddr> = (100..120).map(|number| numbered(V4, number)).collect();
        let mut expected: HashSet<Vec<u8>> =
            clients.iter().map(|client| Echo::answer(*client, b"together")).collect();
        let datagram = |client: &SocketAddr| [announce(*client), b"together".to_vec()].concat();
        balancer.send_together(scene.address(), &clients.iter().map(datagram).collect::<Vec<_>>());
        while !expected.is_empty() {
            let (answer, _) = balancer.receive();
            assert!(expected.remove(&answer), "not expected: {}", String::from_utf8_lossy(&answer));
        }
        // Each has its one flow: asked alone, from another port, it is where it was.
        let other = scene.balancer();
        for client in &clients {
            scene.serves(&other, *client, b"alone");
        }
    });
}

#[test]
fn two_balancers_with_the_same_client_get_their_own_replies() {
    isolated(|| {
        let scene = Scene::new(V4);
        shell(&scene.net.balancer, "ip address add 10.0.0.3/24 dev gw0");
        let (one, other) = (scene.balancer(), Datagrams::of(&scene.net, "10.0.0.3".parse().unwrap()));
        scene.serves(&one, client(V4), b"of the first");
        // The client's port is in use; the target sees its address with another one.
        other.send(scene.address(), &announce(client(V4)), b"of the second");
        let (answer, _) = other.receive();
        let answer = String::from_utf8(answer).expect("text");
        let seen: SocketAddr = answer.strip_suffix(" of the second").expect("echoed").parse().unwrap();
        assert_eq!(seen.ip(), client(V4).ip());
        assert_ne!(seen.port(), client(V4).port());
        for _ in 0..3 {
            scene.serves(&one, client(V4), b"of the first");
            other.ask(scene.address(), &announce(client(V4)), b"again", format!("{seen} again").as_bytes());
        }
        scene.gateway.expect_log(&["client port not kept", "the same connection lives already"]);
    });
}

#[test]
fn one_client_at_two_of_a_balancers_addresses_is_two_flows() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--source-port", "keep"]));
        let balancer = scene.balancer();
        scene.serves(&balancer, client(V4), b"question");
        let elsewhere = V2::datagram(client(V4), addr("192.0.2.2:22")).to_bytes();
        balancer.send(scene.address(), &elsewhere, b"question");
        scene.gateway.expect_log(&["datagram dropped", "reason=port_unavailable"]);
        scene.serves(&balancer, client(V4), b"question");
    });
}

#[test]
fn replies_leave_from_the_address_that_was_asked() {
    isolated(|| {
        let scene = Scene::new(V4);
        shell(&scene.net.gateway, "ip address add 10.0.0.9/24 dev lb0");
        let balancer = scene.balancer();
        let second = SocketAddr::new("10.0.0.9".parse().unwrap(), scene.address().port());
        let others = SocketAddr::new(client(V4).ip(), 4712);
        for _ in 0..2 {
            scene.serves(&balancer, client(V4), b"at the first");
            balancer.ask(
                second,
                &announce(others),
                b"at the second",
                &Echo::answer(others, b"at the second"),
            );
        }
    });
}

#[test]
fn a_flow_outlives_a_target_that_is_down_for_a_while() {
    isolated(|| {
        // By source the target's kernel says that nobody is there; by port its word does not come back.
        for (family, mode) in [(V4, "source"), (V6, "source"), (V4, "port")] {
            let scene = Scene::with(family, |flags| flags.with(["--return-path", mode]));
            let balancer = scene.balancer();
            scene.serves(&balancer, client(family), b"before");
            let Scene { net, echo, gateway, .. } = scene;
            let target = echo.address();
            drop(echo);
            for _ in 0..3 {
                balancer.send(gateway.address(family), &announce(client(family)), b"anybody?");
            }
            if mode == "source" {
                gateway.expect_log(&["datagram dropped", "reason=target_refused"]);
            }
            let echo = Echo::start(&net.gateway, target);
            let answer = Echo::answer(client(family), b"after");
            balancer.send(gateway.address(family), &announce(client(family)), b"after");
            // Those sent before may have been on their way still.
            while balancer.receive().0 != answer {}
            assert!(echo.seen() > 0);
            gateway.stop().expect_text(&["flow closed service=default id=1 "]);
        }
    });
}

#[test]
fn a_server_that_says_more_than_it_is_asked_is_heard_to_the_end_and_in_order() {
    isolated(|| {
        for when in ["auto", "never"] {
            let net = Topology::new();
            let server = Datagrams::bind(&net.gateway, addr("127.0.0.1:0"));
            let gateway =
                Gateway::to(&net, server.address()).with(["-p", "udp", "--udp-io-uring", when]).start();
            let balancer = Datagrams::of(&net, V4.balancer());
            balancer.send(gateway.address(V4), &announce(client(V4)), b"tell me");
            assert_eq!(server.receive(), (b"tell me".to_vec(), client(V4)));
            // No more at a time than the balancer's socket has room for.
            for number in 0..100 {
                server.send(client(V4), b"", format!("part {number}").as_bytes());
            }
            for number in 0..100 {
                balancer.expect(gateway.address(V4), format!("part {number}").as_bytes());
            }
            gateway.stop().expect_text(&["up=1 down=100"]);
        }
    });
}

#[test]
fn a_silent_flow_ends_when_its_time_is_over_and_not_much_later() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--udp-idle-timeout", "3s"]));
        let balancer = scene.balancer();
        for _ in 0..2 {
            scene.serves(&balancer, client(V4), b"question");
        }
        let line = scene.gateway.expect_log(&["flow closed", "reason=idle"]);
        let (_, rest) = line.split_once("duration_ms=").expect("it says how long the flow lived");
        let lived: u64 = rest.split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number");
        assert!((3000..6000).contains(&lived), "the flow lived {lived} ms");
        scene.expect_alive();
    });
}

#[test]
fn targets_in_another_namespace_are_followed_to_the_next_one() {
    isolated(|| {
        let net = Topology::new();
        let elsewhere = Namespace::new("web");
        elsewhere.publish();
        let target = addr("127.0.0.1:5300");
        let echo = Echo::start(&elsewhere, target);
        let gateway = Gateway::to(&net, target).with(["-p", "udp", "--target-netns", "web"]).start();
        let balancer = Datagrams::of(&net, V4.balancer());
        let ask = |question: &[u8]| {
            let answer = Echo::answer(client(V4), question);
            balancer.ask(gateway.address(V4), &announce(client(V4)), question, &answer);
        };
        ask(b"here?");
        ask(b"here?");
        drop(echo);
        elsewhere.unpublish();
        gateway.expect_log(&["flow closed", "reason=namespace_gone"]);
        let next = Namespace::new("web");
        next.publish();
        let _echo = Echo::start(&next, target);
        gateway.expect_log(&["the target's network namespace is back"]);
        ask(b"and here?");
    });
}

#[test]
fn after_a_reload_or_the_death_of_its_worker_a_flow_goes_on_with_its_next_datagram() {
    isolated(|| {
        for family in Family::BOTH {
            let scene = Scene::with(family, |flags| flags.with(["--workers", "2", "--drain", "5m"]));
            let balancer = scene.balancer();
            let clients: Vec<SocketAddr> = (0..8).map(|number| numbered(family, number)).collect();
            // The server sees the same address and port, and its answer finds the way back.
            let all_are_served = || clients.iter().for_each(|it| scene.serves(&balancer, *it, b"on and on"));
            all_are_served();
            for reloads in 1..=2 {
                scene.gateway.program().signal(Signal::SIGHUP);
                eventually("the reload", || {
                    (scene.gateway.program().count_lines(&["INFO", "reloaded"]) == reloads).then_some(())
                });
                all_are_served();
            }
            kill_process(scene.gateway.worker());
            scene.gateway.expect_log(&["another worker serves"]);
            all_are_served();
            scene.gateway.stop();
        }
    });
}

#[test]
fn a_gateway_that_is_told_to_stop_lets_flows_finish_and_takes_no_new_ones() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--drain", "30s", "--workers", "1"]));
        let (balancer, latecomer) = (scene.balancer(), scene.balancer());
        scene.serves(&balancer, client(V4), b"before");
        scene.gateway.program().signal(Signal::SIGTERM);
        let mut number = 0;
        eventually("a new client to be turned away", || {
            number += 1;
            latecomer.send(scene.address(), &announce(numbered(V4, number)), b"too late");
            // Whoever is there already goes on.
            scene.serves(&balancer, client(V4), b"still");
            (scene.gateway.program().count_lines(&["datagram dropped", "reason=stopping"]) > 0).then_some(())
        });
        scene.gateway.expect_log(&["flow closed service=default id=1 ", "reason=stopped"]);
        scene.gateway.wait().expect_code(0).expect_text(&["cut=0"]);
    });
}
