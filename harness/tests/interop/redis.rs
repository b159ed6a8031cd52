//! Redis lists its clients with their addresses, and its protected mode goes by them.

use std::net::SocketAddr;
use std::process::Command;

use harness::{Connection, Family, Program, Topology, installed, isolated};

use crate::scene::Scene;

/// The port it listens on.
pub(crate) const PORT: u16 = 6379;

/// Starts Redis, which keeps nothing on disk. With `protected` it serves clients of its own machine alone.
#[track_caller]
pub(crate) fn start(net: &Topology, protected: bool) -> Program {
    let mut redis = Command::new(installed("redis-server", "redis-server"));
    redis.args([
        "--port",
        &PORT.to_string(),
        "--bind",
        "127.0.0.1",
        "::1",
        "--save",
        "",
        "--appendonly",
        "no",
    ]);
    redis.args(["--protected-mode", if protected { "yes" } else { "no" }]);
    Program::start(&net.gateway, &mut redis)
}

/// What Redis says of the connection that asks: the fields of its line in CLIENT LIST.
#[track_caller]
pub(crate) fn own_line(client: &Connection) -> String {
    client.send(b"CLIENT INFO\r\n");
    // A bulk string: `$`, its length, CRLF, the text, CRLF.
    let mut length = Vec::new();
    while !length.ends_with(b"\r\n") {
        length.extend(client.receive(1));
    }
    let length = String::from_utf8(length).expect("ASCII");
    let length: usize = length.trim_start_matches('$').trim().parse().expect("a bulk string");
    String::from_utf8(client.receive(length + 2)).expect("ASCII")
}

#[test]
fn redis_lists_each_client_with_its_own_address_and_port() {
    isolated(|| {
        let scene = Scene::before(PORT, |net| start(net, false));
        let clients = Family::BOTH.map(|family| (family, scene.connect(family)));
        for (family, client) in &clients {
            let line = own_line(client);
            assert!(line.contains(&format!(" addr={} ", client.local())), "{line}");
            assert!(
                line.contains(&format!(" laddr={} ", SocketAddr::new(family.loopback(), PORT))),
                "{line}"
            );
        }
    });
}

/// Before a client's address was kept, every client would have been one of this machine.
#[test]
fn redis_in_protected_mode_takes_a_client_for_the_stranger_that_it_is() {
    isolated(|| {
        let scene = Scene::before(PORT, |net| start(net, true));
        for family in Family::BOTH {
            scene.connect(family).expect(b"-DENIED ");
        }
    });
}
