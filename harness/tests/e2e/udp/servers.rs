//! Real servers, which say themselves whom they saw.

use std::net::SocketAddr;
use std::process::Command;

use harness::{Datagrams, Family, Gateway, Program, Topology, installed, isolated};

use super::scene::{announce, announce_spp};
use crate::support::client;

/// The port it answers at.
const PORT: u16 = 5353;

/// dnsmasq, which knows one name and logs who asks for it.
fn dns_server(net: &Topology, bound: &[&str]) -> Program {
    let mut command = Command::new(installed("dnsmasq", "dnsmasq-base"));
    command
        .args(["--no-daemon", "--log-queries=extra", "--log-facility=-", "--conf-file=/dev/null"])
        .args(["--no-resolv", "--no-hosts", "--pid-file=", &format!("--port={PORT}")])
        .args(["--host-record=www.example.test,203.0.113.80,2001:db8::80"])
        .args(bound);
    let server = Program::start(&net.gateway, &mut command);
    server.expect_line(&["started"]);
    server
}

/// A question for the IPv4 address of www.example.test.
fn question(id: u16) -> Vec<u8> {
    let mut question = id.to_be_bytes().to_vec();
    // Recursion desired, one question.
    question.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in ["www", "example", "test", ""] {
        question.push(label.len() as u8);
        question.extend(label.as_bytes());
    }
    // A, IN.
    question.extend([0, 1, 0, 1]);
    question
}

/// Asks for the name with `header` in front; `back` is what has to be in front of the answer.
#[track_caller]
fn resolves(balancer: &Datagrams, gateway: SocketAddr, header: &[u8], back: &[u8], id: u16) {
    balancer.send(gateway, header, &question(id));
    let (answer, from) = balancer.receive();
    assert_eq!(from, gateway);
    let answer = answer.strip_prefix(back).expect("the header comes back");
    assert_eq!(answer[..2], id.to_be_bytes());
    // An answer, without error, one record, whose data is the address.
    assert_eq!((answer[2] & 0x80, answer[3] & 0x0F, &answer[6..8]), (0x80, 0, &[0, 1][..]));
    assert!(answer.ends_with(&[203, 0, 113, 80]), "{answer:02x?}");
}

/// A server bound in this way logs the client of each question, whichever header announced it.
fn logs_the_client(bound: &[&str]) {
    for family in Family::BOTH {
        let net = Topology::new();
        let server = dns_server(&net, bound);
        let target = SocketAddr::new(family.loopback(), PORT);
        for (number, format) in ["v2", "spp"].into_iter().enumerate() {
            let gateway = Gateway::to(&net, target).with(["-p", "udp", "--header", format]).start();
            let balancer = Datagrams::of(&net, family.balancer());
            let asking = SocketAddr::new(client(family).ip(), 4711 + number as u16);
            let (header, back) = match format {
                "v2" => (announce(asking), Vec::new()),
                _ => (announce_spp(asking), announce_spp(asking)),
            };
            resolves(&balancer, gateway.address(family), &header, &back, 7 + number as u16);
            let who = format!("{}/{}", asking.ip(), asking.port());
            server.expect_line(&["query[A] www.example.test", &who]);
            gateway.stop();
        }
    }
}

#[test]
fn a_dns_server_on_the_loopback_addresses_logs_the_client() {
    isolated(|| logs_the_client(&["--listen-address=127.0.0.1,::1", "--bind-interfaces"]));
}

#[test]
fn a_dns_server_on_all_addresses_logs_the_client() {
    isolated(|| logs_the_client(&[]));
}
