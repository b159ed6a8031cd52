//! A server that speaks first: who waits for it must not have to send anything.

use std::net::SocketAddr;

use harness::{Balancer, Connection, Family, Gateway, Target, Topology, Version, isolated};

use crate::haproxy::{HaProxy, frontend};

#[test]
fn a_server_that_speaks_first_greets_a_client_that_has_said_nothing_by_its_address() {
    isolated(|| {
        let net = Topology::new();
        let clients = net.clients();
        let targets =
            Family::BOTH.map(|family| Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0)));
        let gateway = Gateway::before(&net, &targets[0]).and_before(&targets[1]).start();
        let _haproxy = HaProxy::start(&net, &format!("{} send-proxy-v2", gateway.address(Family::V4)));
        for (family, target) in Family::BOTH.into_iter().zip(&targets) {
            let client = Connection::open(&clients, frontend(family));
            let server = target.accept();
            for round in 0..3 {
                let greeting = format!("220 hello {} for the {round}. time\r\n", server.peer());
                server.send(greeting.as_bytes());
                client.expect(format!("220 hello {} for the {round}. time\r\n", client.local()).as_bytes());
                client.send(b"NOOP\r\n");
                server.expect(b"NOOP\r\n");
            }
            // The server ends it, as FTP servers do.
            server.finish();
            client.expect_end();
            client.finish();
            server.expect_end();
        }
    });
}

/// A header of one sender alone, with nothing behind it: the greeting comes without a byte of payload.
#[test]
fn a_greeting_comes_as_soon_as_the_header_is_whole() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, SocketAddr::new(Family::V4.loopback(), 0));
        let gateway = Gateway::before(&net, &target).start();
        for version in Version::BOTH {
            let client = SocketAddr::new(Family::V4.client(), 4711);
            let header = version.header(client, frontend(Family::V4));
            let downstream = Balancer::of(&net).announce(gateway.address(Family::V4), &header, b"");
            let server = target.accept();
            assert_eq!(server.peer(), client);
            server.send(b"220 hello\r\n");
            downstream.expect(b"220 hello\r\n");
        }
    });
}
