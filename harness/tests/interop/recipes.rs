//! The files of deploy/recipes: each is right, and those whose server is a Debian package serve it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{
    Connection, Datagrams, Family, Program, Topology, V2, Version, installed, isolated, mmproxy, run,
};

use crate::haproxy::{HaProxy, frontend};
use crate::sshd::start_sshd;

fn recipes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").join("deploy/recipes")
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs the gateway of a recipe, as it is in the tree, until it listens on `port`.
#[track_caller]
fn serve(net: &Topology, recipe: &str, port: u16) -> Program {
    let path = recipes().join(recipe);
    let mut command = mmproxy(["run", "--config", path.to_str().expect("ASCII")]);
    let program = Program::start(&net.gateway, &mut command);
    program.expect_line(&[&format!("Listening on [::]:{port}")]);
    program
}

#[test]
fn every_recipe_is_a_right_configuration_and_is_described() {
    isolated(|| {
        let net = Topology::new();
        let page = text(&recipes().join("../../docs/recipes.md"));
        let mut names = Vec::new();
        for entry in fs::read_dir(recipes()).expect("deploy/recipes is there") {
            let path = entry.expect("an entry").path();
            let shown = path.to_str().expect("ASCII");
            run(&net.gateway, &mut mmproxy(["config", "check", "--config", shown]), b"").expect_code(0);
            let name = path.file_name().expect("a file").to_str().expect("ASCII").to_owned();
            assert!(page.contains(&format!("(../deploy/recipes/{name})")), "docs/recipes.md: {name}");
            names.push(name);
        }
        assert!(names.len() >= 12, "{names:?}");
    });
}

#[test]
fn the_recipe_for_sshd_serves_it_behind_haproxy() {
    isolated(|| sshd_logs_the_client_of_the_recipe("sshd.toml", "send-proxy-v2"));
}

#[test]
fn the_recipe_for_haproxy_serves_it_and_its_health_checks() {
    isolated(|| {
        let options = "send-proxy-v2 check check-send-proxy inter 200ms";
        sshd_logs_the_client_of_the_recipe("haproxy.toml", options);
    });
}

/// Clients of both families, announced by a real HAProxy, are in the log of a real sshd.
#[track_caller]
fn sshd_logs_the_client_of_the_recipe(recipe: &str, options: &str) {
    let net = Topology::new();
    let clients = net.clients();
    let sshd = start_sshd(&net);
    let gateway = serve(&net, recipe, 2222);
    let _haproxy =
        HaProxy::start(&net, &format!("{} {options}", SocketAddr::new(Family::V4.gateway(), 2222)));
    for family in Family::BOTH {
        let client = Connection::open(&clients, frontend(family));
        client.expect(b"SSH-2.0-");
        let (ip, port) = (client.local().ip(), client.local().port());
        let on = format!("on {} port 22", family.loopback());
        sshd.expect_line(&[&format!("Connection from {ip} port {port} "), &on]);
    }
    gateway.stop().expect_code(0);
}

#[test]
fn the_recipe_for_dns_serves_it_over_udp_and_tcp() {
    isolated(|| {
        let net = Topology::new();
        let server = dns_server(&net);
        let gateway = serve(&net, "dns.toml", 5300);
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
