//! Who a datagram is from, and what stands in front of the replies.

use std::net::SocketAddr;

use harness::{Datagrams, Echo, Family, Gateway, Topology, V2, addr, isolated, shell};

use super::scene::{Scene, announce, announce_spp};
use crate::support::{client, frontend};
use Family::V4;

#[test]
fn the_target_sees_the_client_named_in_a_version_2_header_and_the_reply_is_bare() {
    isolated(|| {
        for family in Family::BOTH {
            let scene = Scene::new(family);
            scene.serves(&scene.balancer(), client(family), b"question");
        }
    });
}

#[test]
fn the_target_sees_the_client_named_in_an_spp_header_and_the_reply_carries_it_back() {
    isolated(|| {
        for family in Family::BOTH {
            let scene = Scene::with(family, |flags| flags.with(["--header", "spp"]));
            let header = announce_spp(client(family));
            let answer = Echo::answer(client(family), b"question");
            let balancer = scene.balancer();
            balancer.ask(scene.address(), &header, b"question", &[&header[..], &answer].concat());
            // Nothing in it is a datagram all the same, both ways.
            balancer.ask(scene.address(), &header, b"", &header);
        }
    });
}

#[test]
fn empty_datagrams_go_both_ways_and_end_nothing() {
    isolated(|| {
        for family in Family::BOTH {
            let scene = Scene::new(family);
            let balancer = scene.balancer();
            for _ in 0..3 {
                scene.serves(&balancer, client(family), b"");
                scene.serves(&balancer, client(family), b"question");
            }
            assert_eq!(scene.echo.seen(), 6);
        }
    });
}

#[test]
fn a_header_with_more_in_it_and_a_right_checksum_is_taken_off_and_one_changed_byte_drops_the_datagram() {
    isolated(|| {
        for family in Family::BOTH {
            let scene = Scene::new(family);
            let balancer = scene.balancer();
            let header =
                V2::datagram(client(family), frontend(family)).tlv(5, b"unique").checksum().to_bytes();
            let answer = Echo::answer(client(family), b"question");
            balancer.ask(scene.address(), &header, b"question", &answer);
            // The checksum is the header's alone: the payload may be anything.
            balancer.ask(scene.address(), &header, b"", &Echo::answer(client(family), b""));
            let mut changed = header;
            changed[16] ^= 1;
            balancer.send(scene.address(), &changed, b"question");
            scene.gateway.expect_log(&["datagram dropped", "reason=header_checksum"]);
            assert_eq!(scene.echo.seen(), 2);
        }
    });
}

#[test]
fn datagrams_go_both_ways_up_to_the_largest_there_are() {
    isolated(|| {
        let scene = Scene::new(V4);
        let balancer = scene.balancer();
        let header = announce(client(V4)).len();
        for size in [1, 1200, 1472 - header, 1473 - header, 9000, 65_507 - header] {
            scene.serves(&balancer, client(V4), &vec![b'x'; size]);
        }
    });
}

#[test]
fn a_reply_that_does_not_fit_with_its_spp_header_goes_in_fragments_or_is_counted() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--header", "spp"]));
        let (balancer, header) = (scene.balancer(), announce_spp(client(V4)));
        let told = Echo::answer(client(V4), b".").len() - 1;
        // One byte more than the cable takes in one piece, and one byte less.
        for size in [1473 - 38 - told, 1472 - 38 - told] {
            let question = vec![b'x'; size];
            let answer = [&header[..], &Echo::answer(client(V4), &question)].concat();
            balancer.ask(scene.address(), &header, &question, &answer);
        }
        // The server answers with the largest datagram there is, which leaves no room for a header.
        balancer.send(scene.address(), &header, &[b'x'; 65_507 - 38]);
        scene.gateway.expect_log(&["datagram dropped", "reason=reply_too_large"]);
        balancer.ask(scene.address(), &header, b"", &header);
        scene.gateway.stop().expect_text(&[
            "replies_fragmented=1",
            "reason=reply_too_large datagrams=1",
            "up=4 down=3",
        ]);
    });
}

#[test]
fn a_balancers_own_datagrams_come_from_the_gateway_itself() {
    isolated(|| {
        for family in Family::BOTH {
            let scene = Scene::new(family);
            let (one, other) = (scene.balancer(), scene.balancer());
            // An address inside such a header means nothing.
            let addresses = V2::datagram(client(family), frontend(family)).addresses;
            let with_addresses = V2 { addresses, ..V2::local() };
            let unspecified = V2 { command: 1, ..V2::local() };
            for header in [V2::local(), with_addresses, unspecified] {
                let header = header.to_bytes();
                for balancer in [&one, &other] {
                    balancer.send(scene.address(), &header, b"health");
                    let (answer, from) = balancer.receive();
                    assert_eq!(from, scene.address());
                    let answer = String::from_utf8(answer).expect("text");
                    let seen: SocketAddr = answer.strip_suffix(" health").expect("echoed").parse().unwrap();
                    assert_eq!(seen.ip(), family.loopback());
                }
            }
        }
    });
}

#[test]
fn with_the_header_in_the_first_datagram_the_others_belong_to_the_same_client() {
    isolated(|| {
        for family in Family::BOTH {
            let scene = Scene::with(family, |flags| flags.with(["--udp-header", "first-datagram"]));
            let (one, other) = (scene.balancer(), scene.balancer());
            let others_client = SocketAddr::new(client(family).ip(), 4712);
            scene.serves(&one, client(family), b"first");
            scene.serves(&other, others_client, b"first");
            for _ in 0..2 {
                one.ask(scene.address(), b"", b"next", &Echo::answer(client(family), b"next"));
                other.ask(scene.address(), b"", b"next", &Echo::answer(others_client, b"next"));
            }
            // A port that is used anew begins with a header again.
            scene.serves(&one, others_client, b"first");
            one.ask(scene.address(), b"", b"next", &Echo::answer(others_client, b"next"));
            // One that never sent any is nobody's.
            scene.balancer().send(scene.address(), b"", b"whose?");
            scene.gateway.expect_log(&["datagram dropped", "reason=header_missing"]);
        }
    });
}

#[test]
fn without_headers_the_peer_is_the_client_and_every_byte_is_payload() {
    isolated(|| {
        for family in Family::BOTH {
            let scene = Scene::with(family, |flags| flags.with(["--source", "peer"]));
            let (one, other) = (scene.balancer(), scene.balancer());
            let payload = [announce(client(family)), b"question".to_vec()].concat();
            for balancer in [&one, &other, &one] {
                let answer = Echo::answer(balancer.address(), &payload);
                balancer.ask(scene.address(), b"", &payload, &answer);
            }
        }
    });
}

#[test]
fn the_header_chooses_the_target_where_that_is_allowed() {
    isolated(|| {
        let net = Topology::new();
        let [one, other] = [1, 2].map(|_| Echo::start(&net.gateway, addr("10.0.0.1:0")));
        let ports = [one.address().port(), other.address().port()];
        let allowed = format!("10.0.0.1:{}-{}", ports[0].min(ports[1]), ports[0].max(ports[1]));
        let gateway = Gateway::to(&net, one.address())
            .without_targets()
            .with(["-p", "udp", "--target-from-header", "--allow-target", &allowed, "--return-path", "port"])
            .with(["-4", &one.address().to_string(), "--routing", "off"]);
        for port in ports {
            shell(&net.gateway, &format!("ip rule add iif lo ipproto udp sport {port} lookup 100"));
        }
        shell(&net.gateway, "ip route add local default dev lo table 100");
        let gateway = gateway.start();
        let balancer = Datagrams::of(&net, V4.balancer());
        // One client port toward both at a time, and each answer is the right server's.
        for round in 0..3 {
            for echo in [&one, &other] {
                let header = V2::datagram(client(V4), echo.address()).to_bytes();
                balancer.ask(gateway.address(V4), &header, b"?", &Echo::answer(client(V4), b"?"));
            }
            assert_eq!((one.seen(), other.seen()), (round + 1, round + 1));
        }
        let header = V2::datagram(client(V4), addr("10.0.0.1:1")).to_bytes();
        balancer.send(gateway.address(V4), &header, b"?");
        gateway.expect_log(&["datagram dropped", "reason=destination_refused"]);
    });
}

#[test]
fn flags_that_make_no_sense_together_are_refused_with_what_to_do() {
    isolated(|| {
        let net = Topology::new();
        for (flags, said) in [
            ("--header spp", "add -p udp"),
            ("--udp-max-flows 5", "add -p udp"),
            ("-p udp --listen-transparent", "listen on each port"),
            ("-p udp --header spp --udp-header first-datagram", "leave --udp-header out"),
            ("-p udp --source peer --header v2", "leave out one"),
            ("-p udp --udp-idle-timeout 500ms", "--udp-idle-timeout"),
        ] {
            Gateway::to(&net, addr("127.0.0.1:53"))
                .with(flags.split_whitespace())
                .run()
                .expect_code(64)
                .expect_text(&[said]);
        }
        Gateway::to(&net, addr("127.0.0.1:53"))
            .with(["-p", "udp", "--udp-max-flows", "4000000000"])
            .run()
            .expect_code(78)
            .expect_text(&["limit on open files"]);
    });
}
