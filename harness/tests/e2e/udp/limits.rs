//! Floods: what is bounded, and who pays.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use harness::{Datagrams, Echo, Family, isolated};

use super::scene::{Scene, announce, numbered};
use Family::V4;

/// Honest clients, from a network of their own each.
fn honest(number: u32) -> SocketAddr {
    SocketAddr::new(std::net::Ipv4Addr::new(203, 0, number as u8, 7).into(), 4711)
}

fn descriptors(scene: &Scene) -> usize {
    fs::read_dir(format!("/proc/{}/fd", scene.gateway.worker())).expect("it runs").count()
}

#[test]
fn a_hundred_thousand_invented_clients_do_not_push_out_a_hundred_honest_ones() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--udp-max-flows", "1000"]));
        let (flood, balancer) = (scene.balancer(), scene.balancer());
        let ask = |number: u32| {
            let client = honest(number);
            balancer.send(scene.address(), &announce(client), b"question");
            let answered = balancer.try_receive(Duration::from_secs(10));
            answered.is_some_and(|(answer, _)| answer == Echo::answer(client, b"question"))
        };
        let all = |round: usize| (0..100).filter(|number| ask(*number)).count() * usize::from(round > 0);
        all(0);
        let (mut answered, mut asked) = (0, 0);
        for round in 1..=100 {
            for group in 0..20 {
                // Fifty at a time: what the gateway has not taken the kernel would throw away, and prove nothing.
                let invented = (0..50).map(|member| (round as u32 * 20 + group) * 50 + member);
                for number in invented.clone() {
                    flood.send(scene.address(), &announce(numbered(V4, number)), b"flood");
                }
                for _ in invented {
                    if flood.try_receive(Duration::from_secs(10)).is_none() {
                        break;
                    }
                }
            }
            answered += all(round);
            asked += 100;
            assert!(descriptors(&scene) < 1200, "{} descriptors are open", descriptors(&scene));
        }
        assert!(answered * 100 >= asked * 99, "{answered} of {asked} honest questions were answered");
        let finished = scene.gateway.stop();
        let evicted = finished.stderr.split("flows_evicted=").nth(1).and_then(|rest| rest.split(' ').next());
        let evicted: u32 = evicted.and_then(|number| number.parse().ok()).expect("it counts them");
        assert!(evicted >= 90_000, "{evicted} flows were evicted");
        // A line for each of them would be a weapon of its own.
        assert!(
            finished.stderr.lines().count() < 2000,
            "{} lines were logged",
            finished.stderr.lines().count()
        );
    });
}

/// Resident memory of the gateway in KiB.
fn resident(scene: &Scene) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", scene.gateway.program().pid()));
    let status = status.expect("it runs");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    resident.expect("proc(5) has VmRSS")
}

#[test]
fn ten_thousand_flows_that_do_nothing_cost_little_memory_and_a_descriptor_each() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--udp-max-flows", "15000"]));
        let balancer = scene.balancer();
        let open = |numbers: std::ops::Range<u32>| {
            for group in numbers.collect::<Vec<_>>().chunks(50) {
                for number in group {
                    balancer.send(scene.address(), &announce(numbered(V4, *number)), b"here I am");
                }
                for _ in group {
                    balancer.receive();
                }
            }
            (resident(&scene), descriptors(&scene))
        };
        // The first ones bring in what is there once and for all.
        let (memory, open_before) = open(0..500);
        let (with_flows, open_with_flows) = open(500..10_500);
        assert_eq!(open_with_flows - open_before, 10_000);
        // 1.5 KiB where it is measured (docs/benchmarks.md); here it is a bound that only a mistake breaks.
        let each = (with_flows - memory) as f64 / 10_000.0;
        assert!(each < 4.0, "{each} KiB for each flow");
        scene.gateway.stop().expect_text(&["up=10500 down=10500 flows_evicted=0"]);
    });
}

#[test]
fn one_network_of_clients_has_no_more_than_its_share() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| {
            flags.with(["--udp-max-flows", "64", "--udp-max-flows-per-network", "4", "--workers", "1"])
        });
        let balancer = scene.balancer();
        let client = |number: u8| SocketAddr::from(([192, 0, 2, 100 + number], 4711));
        scene.serves(&balancer, client(0), b"question");
        let with_one = descriptors(&scene);
        for number in 1..40 {
            scene.serves(&balancer, client(number), b"question");
        }
        assert!(descriptors(&scene) <= with_one + 3);
        scene.gateway.stop().expect_text(&["flows_evicted=36"]);
    });
}

#[test]
fn one_balancer_has_no_more_than_its_share_and_the_others_have_theirs() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| {
            flags.with(["--udp-max-flows", "64", "--udp-max-flows-per-balancer", "4", "--workers", "1"])
        });
        harness::shell(&scene.net.balancer, "ip address add 10.0.0.3/24 dev gw0");
        let (greedy, modest) = (scene.balancer(), Datagrams::of(&scene.net, "10.0.0.3".parse().unwrap()));
        scene.serves(&modest, honest(1), b"question");
        for number in 2..42 {
            scene.serves(&greedy, honest(number), b"question");
        }
        scene.serves(&modest, honest(1), b"question");
        scene.gateway.stop().expect_text(&["flows_evicted=36"]);
    });
}

#[test]
fn flows_that_are_in_use_do_not_give_way_to_new_ones() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| {
            flags.with(["--udp-max-flows", "2", "--udp-max-flows-per-network", "2", "--workers", "1"])
        });
        let balancer = scene.balancer();
        for number in [1, 2, 1, 2] {
            scene.serves(&balancer, honest(number), b"question");
        }
        balancer.send(scene.address(), &announce(honest(3)), b"question");
        scene.gateway.expect_log(&["datagram dropped", "reason=flow_limit"]);
        for number in [1, 2] {
            scene.serves(&balancer, honest(number), b"question");
        }
        scene.gateway.stop().expect_text(&["flows_evicted=0", "reason=flow_limit datagrams=1"]);
    });
}
