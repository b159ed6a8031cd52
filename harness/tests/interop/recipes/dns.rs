//! The recipe for DNS, before dnsmasq.

use std::net::SocketAddr;
use std::process::Command;

use harness::{Connection, Datagrams, Family, Program, Topology, V2, Version, installed, isolated};

use super::serve;
use crate::haproxy::frontend;

#[test]
fn the_recipe_for_dns_serves_it_over_udp_and_tcp() {
    isolated(|| {
        let net = Topology::new();
        let server = dns_server(&net);
        let gateway = serve(&net, "dns.toml", &[], &["[::]:5300"]);
        for family in Family::BOTH {
            let client = SocketAddr::new(family.client(), 4711);
            let at = SocketAddr::new(family.gateway(), 5300);
            let question = question();

            let balancer = Datagrams::of(&net, family.balancer());
            balancer.send(at, &V2::datagram(client, frontend(family)).to_bytes(), &question);
            let (answer, _) = balancer.receive();
            assert!(answer.ends_with(&ANSWER), "{answer:02x?}");
            server.expect_line(&["query[A] www.example.test", &format!("{}/4711", client.ip())]);

            let client = SocketAddr::new(family.client(), 4712);
            let connection = Connection::open(&net.balancer, at);
            let length = u16::try_from(question.len()).expect("short").to_be_bytes();
            connection.send(&Version::V2.header(client, frontend(family)));
            connection.send(&[&length[..], &question].concat());
            let length = connection.receive(2);
            let answer = connection.receive(usize::from(u16::from_be_bytes([length[0], length[1]])));
            assert!(answer.ends_with(&ANSWER), "{answer:02x?}");
            server.expect_line(&["query[A] www.example.test", &format!("{}/4712", client.ip())]);
        }
        gateway.stop().expect_code(0);
    });
}

/// dnsmasq on port 53 of both loopback addresses, which knows one name and logs who asks for it.
#[track_caller]
fn dns_server(net: &Topology) -> Program {
    let mut command = Command::new(installed("dnsmasq", "dnsmasq-base"));
    command
        .args([
            "--no-daemon",
            "--log-queries=extra",
            "--log-facility=-",
            "--conf-file=/dev/null",
            "--no-resolv",
        ])
        .args(["--no-hosts", "--pid-file=", "--listen-address=127.0.0.1,::1", "--bind-interfaces"])
        .arg("--host-record=www.example.test,203.0.113.80,2001:db8::80");
    let server = Program::start(&net.gateway, &mut command);
    server.expect_line(&["started"]);
    server
}

/// A question for the IPv4 address of www.example.test, with recursion desired.
fn question() -> Vec<u8> {
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["www", "example", "test", ""] {
        question.push(label.len() as u8);
        question.extend(label.as_bytes());
    }
    // A, IN.
    question.extend([0, 1, 0, 1]);
    question
}

/// What an answer to it ends with.
const ANSWER: [u8; 4] = [203, 0, 113, 80];
