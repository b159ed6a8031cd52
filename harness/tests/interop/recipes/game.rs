//! The recipe for a game server over TCP: Minecraft's handshake and status, as a client's first connection has them.

use std::net::SocketAddr;

use harness::{Balancer, Family, Target, Topology, Version, isolated};

use super::serve;
use crate::haproxy::frontend;

/// A packet: its length in front.
fn packet(body: &[u8]) -> Vec<u8> {
    [&[u8::try_from(body.len()).expect("short")], body].concat()
}

/// Version 765 of the protocol, the server's name and port, "status next"; then the request for it.
fn question() -> Vec<u8> {
    let name = b"play.example.org";
    let handshake =
        [&[0x00, 0xFD, 0x05, name.len() as u8], &name[..], &25_565u16.to_be_bytes(), &[1]].concat();
    [packet(&handshake), packet(&[0x00])].concat()
}

#[test]
fn the_recipe_for_a_game_server_serves_one_that_sees_its_players_addresses() {
    isolated(|| {
        let net = Topology::new();
        let targets = Family::BOTH
            .map(|family| Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 25_565)));
        let gateway = serve(&net, "game-tcp.toml", &[], &["[::]:25577"]);
        // The gateway's look at its targets, which comes before it listens.
        for target in &targets {
            while target.try_accept().is_some() {}
        }
        let filter = Balancer::of(&net);
        let answer = packet(br#"{"version":{"protocol":765},"players":{"online":2}}"#);
        for (family, target) in Family::BOTH.into_iter().zip(&targets) {
            let at = SocketAddr::new(family.gateway(), 25_577);
            // Two players whose ports are one: behind different addresses of the filter, that can be.
            let player = SocketAddr::new(family.client(), 50_000);
            let players = Version::BOTH.map(|version| {
                let connection = filter.announce(at, &version.header(player, frontend(family)), &question());
                let upstream = target.accept();
                assert_eq!(upstream.peer().ip(), player.ip());
                upstream.expect(&question());
                upstream.send(&answer);
                connection.expect(&answer);
                (connection, upstream)
            });
            drop(players);
            gateway.expect_line(&["session closed", &format!("client={player}"), "client_port=ephemeral"]);
        }
        gateway.stop().expect_code(0);
    });
}
