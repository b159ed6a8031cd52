//! What datagrams cost in system calls is nobody's business but the gateway's: clients and targets see no difference.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;

use harness::{Datagrams, Echo, Family, isolated};

use super::scene::{Scene, announce, numbered};
use Family::{V4, V6};

/// How many io_urings the gateway has open.
fn rings(scene: &Scene) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", scene.gateway.worker())).expect("it runs");
    let targets = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter(|target| target.as_os_str() == "anon_inode:[io_uring]").count()
}

#[test]
fn whether_datagrams_share_system_calls_or_not_each_is_its_clients_own() {
    isolated(|| {
        for (family, when, expected) in [(V4, "auto", 2), (V6, "auto", 2), (V4, "never", 0), (V6, "never", 0)]
        {
            let scene = Scene::with(family, |flags| flags.with(["--udp-io-uring", when, "--workers", "2"]));
            assert_eq!(rings(&scene), expected, "--udp-io-uring {when}");
            let clients: Vec<SocketAddr> = (0..300).map(|number| numbered(family, number)).collect();
            let sockets: Vec<Datagrams> = (0..10).map(|_| scene.balancer()).collect();
            // Of every size from none on, several of a client behind each other, and all of them at once.
            let question =
                |number: usize, round: usize| vec![number as u8; (number * 7 + round * 650) % 1400];
            for round in 0..3 {
                for (many, socket) in clients.chunks(30).zip(&sockets) {
                    let mut expected = HashSet::new();
                    for (number, client) in many.iter().enumerate() {
                        let question = question(number, round);
                        socket.send(scene.address(), &announce(*client), &question);
                        expected.insert(Echo::answer(*client, &question));
                    }
                    while !expected.is_empty() {
                        let (answer, _) = socket.receive();
                        assert!(
                            expected.remove(&answer),
                            "not expected: {}",
                            String::from_utf8_lossy(&answer)
                        );
                    }
                }
            }
            scene.gateway.stop().expect_text(&["up=900 down=900"]);
        }
    });
}
