//! The ways back that datagrams can take.

use std::net::SocketAddr;

use harness::{Datagrams, Echo, Family, Gateway, State, Topology, isolated};

use super::scene::{Scene, announce};
use crate::support::client;

#[test]
fn by_port_a_server_on_all_addresses_answers_too_and_nothing_is_left_behind() {
    isolated(|| {
        for family in Family::BOTH {
            let net = Topology::new();
            let before = State::of(&net.gateway);
            let echo = Echo::start(&net.gateway, SocketAddr::new(family.wildcard(), 0));
            for address in [family.loopback(), family.gateway()] {
                let target = SocketAddr::new(address, echo.address().port());
                let gateway = Gateway::to(&net, target).with(["-p", "udp"]).start();
                gateway.expect_log(&["rule add", " sport ", "[+] ADDED"]);
                answers_twice(&net, &gateway, family);
                gateway.stop();
            }
            State::of(&net.gateway).expect_unchanged_since(&before);
        }
    });
}

#[test]
fn by_source_a_server_on_the_loopback_address_answers() {
    isolated(|| {
        for family in Family::BOTH {
            let scene = Scene::with(family, |flags| flags.with(["--return-path", "source"]));
            scene.serves(&scene.balancer(), client(family), b"question");
        }
    });
}

#[test]
fn by_connmark_a_server_on_the_hosts_address_answers_with_the_mark() {
    isolated(|| {
        for family in Family::BOTH {
            let net = Topology::new();
            net.default_routes();
            let before = State::of(&net.gateway);
            for address in [family.loopback(), family.gateway()] {
                let echo = Echo::start(&net.gateway, SocketAddr::new(address, 0));
                let gateway = Gateway::to(&net, echo.address())
                    .with(["-p", "udp", "--return-path", "connmark"])
                    .start();
                answers_twice(&net, &gateway, family);
                gateway.stop();
            }
            State::of(&net.gateway).expect_unchanged_since(&before);
        }
    });
}

#[test]
fn by_socket_a_server_behind_this_host_answers_whichever_address_it_is_bound_to() {
    isolated(|| {
        for family in Family::BOTH {
            let net = Topology::new();
            let machine = net.behind();
            let before = State::of(&net.gateway);
            for bound in [family.behind(), family.wildcard()] {
                let echo = Echo::start(&machine, SocketAddr::new(bound, 0));
                let target = SocketAddr::new(family.behind(), echo.address().port());
                let gateway = Gateway::to(&net, target).with(["-p", "udp"]).start();
                gateway.expect_log(&["Return path: socket for"]);
                answers_twice(&net, &gateway, family);
                gateway.stop();
            }
            State::of(&net.gateway).expect_unchanged_since(&before);
        }
    });
}

/// Shows that a client's first datagram and its next are answered, and seen as its own.
#[track_caller]
fn answers_twice(net: &Topology, gateway: &Gateway, family: Family) {
    let balancer = Datagrams::of(net, family.balancer());
    for _ in 0..2 {
        let answer = Echo::answer(client(family), b"question");
        balancer.ask(gateway.address(family), &announce(client(family)), b"question", &answer);
    }
}
