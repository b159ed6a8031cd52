//! Bad weather on the way: what is sent arrives all the same, whole and in order.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use harness::expect::eventually;
use harness::{
    Balancer, Connection, End, Family, Gateway, Namespace, Target, Topology, Version, isolated, shell,
};

use crate::support::{Scene, both_ways_at_once, client, header, noise};

const MEBIBYTE: usize = 1 << 20;

/// Drops `percent` of the packets that come in by `device`.
fn lose(namespace: &Namespace, device: &str, percent: u32) {
    shell(namespace, "nft add table inet weather");
    shell(
        namespace,
        "nft 'add chain inet weather input { type filter hook input priority 0; policy accept; }'",
    );
    let rule = format!("iifname {device} numgen random mod 100 < {percent} counter drop");
    shell(namespace, &format!("nft 'add rule inet weather input {rule}'"));
}

/// How many packets were dropped.
fn lost(namespace: &Namespace) -> u64 {
    let listed = shell(namespace, "nft list chain inet weather input").stdout;
    let (_, behind) =
        listed.split_once("counter packets ").unwrap_or_else(|| panic!("no counter in {listed}"));
    let count = behind.split_whitespace().next().and_then(|count| count.parse().ok());
    count.unwrap_or_else(|| panic!("no number in {listed}"))
}

fn holds_when_lost(percent: u32, family: Family) {
    let scene = Scene::with(family, |flags| flags);
    let ends = [(&scene.net.gateway, "lb0"), (&scene.net.balancer, "gw0")];
    for (namespace, device) in ends {
        // Else one packet carries up to 64 KiB, and few could be lost.
        shell(namespace, &format!("ip link set dev {device} gso_max_segs 1"));
        lose(namespace, device, percent);
    }
    let (downstream, upstream) = scene.session();
    both_ways_at_once(&downstream, &upstream, MEBIBYTE, Connection::receive_all);
    for (namespace, device) in ends {
        let lost = lost(namespace);
        assert!(lost > 0, "nothing was lost on {device}");
    }
    scene.gateway.expect_log(&[
        "session closed",
        "bytes_up=1048576",
        "bytes_down=1048576",
        "reason=finished",
    ]);
}

#[test]
fn a_packet_in_a_hundred_lost_loses_no_byte() {
    isolated(|| holds_when_lost(1, Family::V4));
}

#[test]
fn three_packets_in_a_hundred_lost_lose_no_byte() {
    isolated(|| holds_when_lost(3, Family::V6));
}

#[test]
fn five_packets_in_a_hundred_lost_lose_no_byte() {
    isolated(|| holds_when_lost(5, Family::V4));
}

#[test]
fn packets_as_small_as_the_protocols_allow_carry_everything() {
    isolated(|| {
        for (family, mtu) in [(Family::V6, 1280), (Family::V4, 128)] {
            let scene = Scene::with(family, |flags| flags);
            for (namespace, device) in
                [(&scene.net.gateway, "lb0"), (&scene.net.balancer, "gw0"), (&scene.net.gateway, "lo")]
            {
                shell(namespace, &format!("ip link set dev {device} mtu {mtu}"));
            }
            let (downstream, upstream) = scene.session();
            both_ways_at_once(&downstream, &upstream, MEBIBYTE / 2, Connection::receive_all);
        }
    });
}

#[test]
fn a_target_that_stops_for_a_tenth_of_a_second_again_and_again_gets_everything() {
    isolated(|| {
        let scene = Scene::new();
        let (downstream, upstream) = scene.session();
        let bytes = noise(5, 4 * MEBIBYTE);
        thread::scope(|scope| {
            scope.spawn(|| {
                downstream.send(&bytes);
                downstream.finish();
            });
            for piece in bytes.chunks(MEBIBYTE / 2) {
                // Long enough for every buffer on the way to be full; nothing is inferred from it having passed.
                thread::sleep(Duration::from_millis(100));
                upstream.expect(piece);
            }
            upstream.expect_end();
        });
        upstream.finish();
        downstream.expect_end();
    });
}

#[test]
fn a_window_that_was_shut_is_filled_once_it_opens() {
    isolated(|| {
        for reader_is_target in [true, false] {
            let net = Topology::new();
            for namespace in [&net.gateway, &net.balancer] {
                // New kernels let one socket hold as much as is sent here.
                namespace.set_sysctl("net.ipv4.tcp_rmem", "4096 131072 2097152");
                namespace.set_sysctl("net.ipv4.tcp_wmem", "4096 16384 2097152");
            }
            let target =
                Target::listen(&net.gateway, SocketAddr::new(Family::V4.loopback(), 0)).with_small_buffers();
            let gateway = Gateway::before(&net, &target).start();
            let downstream = Balancer::of(&net).connect_with_small_buffer(gateway.address(Family::V4));
            downstream.send(&header(Version::V2, Family::V4));
            let upstream = target.accept();
            assert_eq!(upstream.peer(), client(Family::V4));
            let (reader, writer) =
                if reader_is_target { (&upstream, &downstream) } else { (&downstream, &upstream) };
            // Far more than all buffers on the way hold.
            let bytes = noise(6, 16 * MEBIBYTE);
            let taken = AtomicUsize::new(0);
            thread::scope(|scope| {
                scope.spawn(|| {
                    for piece in bytes.chunks(MEBIBYTE / 16) {
                        writer.send(piece);
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                    writer.finish();
                });
                let mut before = usize::MAX;
                eventually("the writer to be held up by a reader that does not read", || {
                    thread::sleep(Duration::from_millis(300));
                    let now = taken.load(Ordering::Relaxed);
                    (std::mem::replace(&mut before, now) == now).then_some(())
                });
                assert!(taken.load(Ordering::Relaxed) < bytes.len() / (MEBIBYTE / 16), "nothing held it up");
                let (received, end) = reader.receive_all();
                assert_eq!((received.len(), end), (bytes.len(), End::Finished));
                assert!(received == bytes);
            });
        }
    });
}
