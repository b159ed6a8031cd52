//! How a header may arrive, and what stands behind it.

use harness::{Family, V2, Version, addr, isolated};

use crate::support::{Scene, client, frontend, header, talk};
use Family::V4;

#[test]
fn a_header_may_come_one_byte_at_a_time_and_nothing_happens_before_its_last() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--header-timeout", "300s"]));
        scene.net.acknowledge_at_once();
        for version in Version::BOTH {
            let header = header(version, V4);
            let (last, first) = header.split_last().expect("headers have bytes");
            let downstream = scene.open(b"");
            downstream.drip(first);
            scene.target.expect_untouched();
            downstream.send(&[*last]);
            let upstream = scene.target.accept();
            assert_eq!(upstream.peer(), client(V4));
            talk(&downstream, &upstream);
        }
    });
}

#[test]
fn a_header_may_be_cut_anywhere_with_payload_behind_the_rest() {
    isolated(|| {
        let scene = Scene::new();
        scene.net.acknowledge_at_once();
        for version in Version::BOTH {
            let header = header(version, V4);
            for cut in [1, 5, 8, 12, 13, 16, header.len() - 1, header.len()] {
                let downstream = scene.open(b"");
                downstream.send_cut_at(cut, &[header.as_slice(), b"payload"].concat());
                let upstream = scene.target.accept();
                upstream.expect(b"payload");
                talk(&downstream, &upstream);
            }
        }
    });
}

#[test]
fn payload_in_the_headers_own_segment_arrives_first_and_whole() {
    isolated(|| {
        let scene = Scene::new();
        for version in Version::BOTH {
            let downstream =
                scene.open(&[header(version, V4).as_slice(), b"GET / HTTP/1.0\r\n\r\n"].concat());
            let upstream = scene.target.accept();
            upstream.expect(b"GET / HTTP/1.0\r\n\r\n");
            talk(&downstream, &upstream);
        }
    });
}

#[test]
fn a_client_that_sends_everything_and_finishes_at_once_is_answered() {
    isolated(|| {
        let scene = Scene::new();
        for version in Version::BOTH {
            let downstream = scene.open(&[header(version, V4).as_slice(), b"all there is"].concat());
            downstream.finish();
            let upstream = scene.target.accept();
            assert_eq!(upstream.peer(), client(V4));
            upstream.expect(b"all there is");
            upstream.expect_end();
            upstream.send(b"answer");
            upstream.finish();
            downstream.expect(b"answer");
            downstream.expect_end();
        }
    });
}

#[test]
fn a_target_that_speaks_first_is_heard() {
    isolated(|| {
        let scene = Scene::new();
        let (downstream, upstream) = scene.session();
        upstream.send(b"220 ready\r\n");
        downstream.expect(b"220 ready\r\n");
        talk(&downstream, &upstream);
    });
}

#[test]
fn a_second_header_is_payload() {
    isolated(|| {
        let scene = Scene::new();
        for version in Version::BOTH {
            let second = Version::V1.header(addr("198.51.100.9:9"), frontend(V4));
            let downstream = scene.open(&[header(version, V4), second.clone()].concat());
            let upstream = scene.target.accept();
            assert_eq!(upstream.peer(), client(V4));
            upstream.expect(&second);
            talk(&downstream, &upstream);
        }
    });
}

#[test]
fn tlvs_are_no_payload() {
    isolated(|| {
        let scene = Scene::new();
        // PP2_TYPE_AUTHORITY, PP2_TYPE_NOOP as padding, and a type nobody has assigned.
        let header = V2::proxy(client(V4), frontend(V4))
            .tlv(0x02, b"example.com")
            .tlv(0x04, &[0; 500])
            .tlv(0xe7, b"?");
        let downstream = scene.open(&[header.to_bytes().as_slice(), b"payload"].concat());
        let upstream = scene.target.accept();
        assert_eq!(upstream.peer(), client(V4));
        upstream.expect(b"payload");
        talk(&downstream, &upstream);
    });
}

/// Expects that `header` leads to a connection from the gateway's own address, whatever else it says.
#[track_caller]
fn expect_not_spoofed(family: Family, header: &[u8]) {
    let scene = Scene::with(family, |flags| flags);
    let downstream = scene.open(&[header, b"health"].concat());
    let upstream = scene.target.accept();
    assert_eq!(upstream.peer().ip(), family.loopback());
    upstream.expect(b"health");
    talk(&downstream, &upstream);
}

#[test]
fn local_and_unknown_connect_from_the_gateways_own_address() {
    isolated(|| {
        for family in Family::BOTH {
            for version in Version::BOTH {
                expect_not_spoofed(family, &version.local());
            }
        }
    });
}

#[test]
fn addresses_in_a_local_header_are_never_used() {
    isolated(|| {
        // As AWS's and HAProxy's health checks may carry them.
        let with_addresses = V2 { command: 0, ..V2::proxy(client(V4), frontend(V4)) };
        expect_not_spoofed(V4, &with_addresses.to_bytes());
        let undefined_family = V2 { family: 9, transport: 7, ..with_addresses };
        expect_not_spoofed(V4, &undefined_family.to_bytes());
    });
}

#[test]
fn text_behind_unknown_is_never_used() {
    isolated(|| {
        expect_not_spoofed(V4, b"PROXY UNKNOWN 192.0.2.7 192.0.2.1 4711 22\r\n");
        expect_not_spoofed(V4, b"PROXY UNKNOWN \xff whatever\t \r\n");
    });
}

#[test]
fn a_family_that_tcp_does_not_carry_is_not_spoofed() {
    isolated(|| {
        let unspecified = V2 { family: 0, transport: 0, ..V2::proxy(client(V4), frontend(V4)) };
        expect_not_spoofed(V4, &unspecified.to_bytes());
        let unix = V2 { family: 3, addresses: vec![b'/'; 216], ..V2::proxy(client(V4), frontend(V4)) };
        expect_not_spoofed(V4, &unix.to_bytes());
    });
}

#[test]
fn a_format_that_is_not_accepted_is_refused_and_the_others_are_served() {
    isolated(|| {
        for [accepted, refused] in [[Version::V1, Version::V2], [Version::V2, Version::V1]] {
            let format = if accepted == Version::V1 { "v1" } else { "v2" };
            let scene = Scene::with(V4, |flags| flags.with(["--header", format]));
            scene.balancer.expect_turned_away(scene.gateway.address(V4), &header(refused, V4));
            scene.gateway.expect_log(&["session closed", "reason=header_invalid", "not accepted"]);
            scene.target.expect_untouched();
            let downstream = scene.open(&header(accepted, V4));
            let upstream = scene.target.accept();
            assert_eq!(upstream.peer(), client(V4));
            talk(&downstream, &upstream);
        }
    });
}
