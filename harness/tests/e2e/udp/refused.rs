//! What is dropped: each for its reason, counted, and told once.

use harness::{Datagrams, Family, V2, addr, header, isolated, shell};

use super::scene::{Scene, announce, announce_spp};
use crate::support::{client, frontend};
use Family::{V4, V6};

/// A datagram that is dropped, and why.
fn bad() -> Vec<(Vec<u8>, &'static str)> {
    let good = V2::datagram(client(V4), frontend(V4));
    let mut short = good.to_bytes();
    short.truncate(20);
    let from = |source: &str| V2::datagram(addr(source), frontend(Family::of(addr(source).ip()))).to_bytes();
    vec![
        (b"what header?".to_vec(), "header_missing"),
        (Vec::new(), "header_missing"),
        (short, "header_truncated"),
        (V2 { length: Some(2000), ..good.clone() }.to_bytes(), "header_truncated"),
        (good.clone().tlv(3, &[1, 2, 3, 4]).to_bytes(), "header_checksum"),
        (header::v1(client(V4), frontend(V4)), "header_invalid"),
        (announce_spp(client(V4)), "header_invalid"),
        (V2 { version: 3, ..good.clone() }.to_bytes(), "header_invalid"),
        (V2 { length: Some(8), ..good.clone() }.to_bytes(), "header_invalid"),
        (V2 { transport: 1, ..good.clone() }.to_bytes(), "wrong_family"),
        (V2 { family: 3, addresses: vec![0; 216], ..good }.to_bytes(), "wrong_family"),
        (from("127.0.0.1:4711"), "source_refused"),
        (from("10.0.0.1:4711"), "source_refused"),
        (from("224.0.0.1:4711"), "source_refused"),
        (from("[2001:db8::7]:4711"), "no_target"),
    ]
}

#[test]
fn a_datagram_that_cannot_be_handed_on_is_dropped_and_counted_by_reason() {
    isolated(|| {
        let scene = Scene::new(V4);
        let balancer = scene.balancer();
        for (datagram, reason) in bad() {
            balancer.send(scene.address(), &datagram, b"");
            scene.gateway.expect_log(&["datagram dropped", &format!("reason={reason}")]);
        }
        scene.expect_alive();
        // Nothing came back, and nothing came through.
        assert!(balancer.try_receive(std::time::Duration::from_millis(1)).is_none());
        assert_eq!(scene.echo.seen(), 1);
        for (_, reason) in bad() {
            assert_eq!(
                scene.gateway.program().count_lines(&["datagram dropped", &format!("reason={reason} ")]),
                1,
                "a second line within a minute about {reason}"
            );
        }
        scene.gateway.stop().expect_text(&[
            "reason=header_missing datagrams=2",
            "reason=header_truncated datagrams=2",
            "reason=header_checksum datagrams=1",
            "reason=header_invalid datagrams=4",
            "reason=wrong_family datagrams=2",
            "reason=source_refused datagrams=3",
            "reason=no_target datagrams=1",
            "up=1 down=1",
        ]);
    });
}

#[test]
fn an_spp_listener_takes_nothing_else() {
    isolated(|| {
        let scene = Scene::with(V6, |flags| flags.with(["--header", "spp"]));
        let balancer = scene.balancer();
        let mut swapped = announce_spp(client(V6));
        swapped.swap(0, 1);
        for (datagram, reason) in [
            (announce(client(V6)), "header_invalid"),
            (swapped, "header_missing"),
            (announce_spp(client(V6))[..37].to_vec(), "header_truncated"),
            (announce_spp(addr("[::1]:4711")), "source_refused"),
            (announce_spp(client(V4)), "no_target"),
        ] {
            balancer.send(scene.address(), &datagram, b"");
            scene.gateway.expect_log(&["datagram dropped", &format!("reason={reason}")]);
        }
        assert_eq!(scene.echo.seen(), 0);
    });
}

#[test]
fn a_stranger_is_not_listened_to() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.allow("10.0.0.3"));
        let stranger = scene.balancer();
        stranger.send(scene.address(), &announce(client(V4)), b"let me in");
        scene.gateway.expect_log(&["datagram dropped", "reason=peer_not_allowed", "peer=10.0.0.2"]);
        shell(&scene.net.balancer, "ip address add 10.0.0.3/24 dev gw0");
        let allowed = Datagrams::of(&scene.net, "10.0.0.3".parse().unwrap());
        scene.serves(&allowed, client(V4), b"question");
        assert_eq!(scene.echo.seen(), 1);
    });
}

#[test]
fn a_second_gateway_on_the_same_address_does_not_start() {
    isolated(|| {
        let scene = Scene::new(V4);
        let address = scene.gateway.listening();
        harness::Gateway::to(&scene.net, scene.echo.address())
            .with(["-p", "udp"])
            .listen(address)
            .run()
            .expect_code(69)
            .expect_text(&["cannot listen on"]);
        scene.expect_alive();
    });
}
