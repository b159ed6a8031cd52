//! The same for datagrams: `mmproxy setup -p udp` brings a server's answers back to a spoofed socket.

use std::net::IpAddr;

use harness::{Family, Namespace, State, Topology, isolated, mmproxy, run};

use crate::datagrams::{Question, server};

/// Where the server is, which address of it is asked, and where it is bound.
struct Place {
    asked: fn(Family) -> IpAddr,
    bound: fn(Family) -> IpAddr,
}

const LOOPBACK: Place = Place { asked: Family::loopback, bound: Family::loopback };
const OWN: Place = Place { asked: Family::gateway, bound: Family::gateway };
const WILDCARD: Place = Place { asked: Family::gateway, bound: Family::wildcard };
const WILDCARD_BY_LOOPBACK: Place = Place { asked: Family::loopback, bound: Family::wildcard };
const BEHIND: Place = Place { asked: Family::behind, bound: Family::behind };
const BEHIND_ON_ALL: Place = Place { asked: Family::behind, bound: Family::wildcard };

/// Exactly while the return path of `mode` is set up, servers in these places answer a spoofed client; and the namespace
/// is as it was afterwards.
#[track_caller]
fn answers_come_back(mode: &str, mark: u32, said: &str, places: &[Place]) {
    let net = Topology::new();
    net.default_routes();
    let machine = net.behind();
    let before = State::of(&net.gateway);
    for family in Family::BOTH {
        for place in places {
            let (asked, bound) = ((place.asked)(family), (place.bound)(family));
            let there: &Namespace = if asked == family.behind() { &machine } else { &net.gateway };
            let server = server(there, bound);
            let question = Question { gateway: &net.gateway, server: &server, target: asked, mark };
            let target =
                std::net::SocketAddr::new(asked, server.local_addr().expect("bound").port()).to_string();
            let flag = if asked.is_ipv4() { "-4" } else { "-6" };
            let command = |words: &[&str]| {
                let words = words.iter().copied().chain(["-p", "udp", "--return-path", mode, flag, &target]);
                run(&net.gateway, &mut mmproxy(words), b"")
            };
            question.expect_silence();
            command(&["check"]).expect_code(78);
            command(&["setup"]).expect_code(0).expect_text(&[said]);
            question.expect_answer();
            command(&["check"]).expect_code(0).expect_text(&["[+] OK. reply from"]);
            question.expect_answer();
            command(&["teardown"]).expect_code(0);
            State::of(&net.gateway).expect_unchanged_since(&before);
        }
    }
}

#[test]
fn by_source_a_server_on_a_loopback_address_answers_a_spoofed_client() {
    isolated(|| answers_come_back("source", 0, "rule add from ", &[LOOPBACK]));
}

#[test]
fn by_port_a_server_answers_a_spoofed_client_wherever_it_is_bound() {
    isolated(|| answers_come_back("port", 0, " sport ", &[LOOPBACK, OWN, WILDCARD, WILDCARD_BY_LOOPBACK]));
}

#[test]
fn by_connmark_a_server_on_its_own_address_answers_a_spoofed_client() {
    isolated(|| answers_come_back("connmark", 123, "mmproxy_connmark_", &[LOOPBACK, OWN]));
}

#[test]
fn by_socket_a_server_behind_this_host_answers_a_spoofed_client() {
    isolated(|| answers_come_back("socket", 0, "mmproxy_socket_", &[BEHIND, BEHIND_ON_ALL]));
}

#[test]
fn auto_is_by_port_on_this_host() {
    isolated(|| answers_come_back("auto", 0, "Return path: port for", &[WILDCARD, LOOPBACK]));
}

#[test]
fn auto_is_by_socket_behind_this_host() {
    isolated(|| answers_come_back("auto", 0, "Return path: socket for", &[BEHIND_ON_ALL]));
}
