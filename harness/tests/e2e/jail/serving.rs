//! What a worker must be able to do, and does.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::thread;

use harness::{
    Balancer, Connection, Datagrams, Echo, Family, Gateway, Namespace, Target, Topology, V2, Version,
    isolated, run,
};

use super::{Outcome, SIGABRT, attempt, field, machine_root, probe};
use crate::support::{both_ways_at_once, client, frontend, header, noise, talk};

#[test]
fn inside_there_are_threads_and_time_and_the_hosts_addresses() {
    isolated(|| {
        let here = Namespace::new("here");
        for need in ["threads", "timers", "own-addresses"] {
            assert_eq!(attempt(&here, &[], &[need]), Outcome::Worked, "{need}");
        }
    });
}

#[test]
fn a_panic_ends_its_thread_and_not_the_worker_with_and_without_a_backtrace() {
    isolated(|| {
        let here = Namespace::new("here");
        for backtrace in ["0", "1", "full"] {
            let mut command = probe(&[], &["try", "panic"]);
            let finished =
                run(&here, command.env("RUST_BACKTRACE", backtrace), b"").expect_text(&["told to"]);
            assert_eq!(Outcome::of(&finished), Outcome::Worked, "RUST_BACKTRACE={backtrace}");
        }
        assert_eq!(attempt(&here, &[], &["abort"]), Outcome::Killed(SIGABRT));
    });
}

/// A gateway, whose worker is in the jail, before a target that the test plays.
fn jailed(net: &Topology, family: Family) -> (Target, Gateway) {
    let target = Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0));
    let gateway = Gateway::before(net, &target).with(["--workers", "2"]).start();
    (target, gateway)
}

#[test]
fn connections_are_served_inside_short_ones_and_bulk() {
    isolated(|| {
        for family in Family::BOTH {
            let net = Topology::new();
            let (target, gateway) = jailed(&net, family);
            let balancer = Balancer::of(&net);
            let open = || {
                let header = header(Version::V2, family);
                let downstream = balancer.announce(gateway.address(family), &header, b"");
                let upstream = target.accept();
                assert_eq!(upstream.peer(), client(family));
                (downstream, upstream)
            };
            let (downstream, upstream) = open();
            talk(&downstream, &upstream);
            // Enough for splice(2), through pipes that are made, filled and closed.
            let (downstream, upstream) = open();
            both_ways_at_once(&downstream, &upstream, 16 << 20, Connection::receive_all);
            let (downstream, upstream) = open();
            downstream.reset();
            upstream.expect_reset();
            gateway.stop();
        }
    });
}

#[test]
fn datagrams_are_served_inside() {
    isolated(|| {
        for family in Family::BOTH {
            let net = Topology::new();
            let echo = Echo::start(&net.gateway, SocketAddr::new(family.loopback(), 0));
            let target = SocketAddr::new(family.loopback(), echo.address().port());
            let gateway = Gateway::to(&net, target).with(["-p", "udp", "--workers", "2"]).start();
            let balancer = Datagrams::of(&net, family.balancer());
            for number in 0..64 {
                let client = SocketAddr::new(family.client(), 20_000 + number);
                let header = V2::datagram(client, frontend(family)).to_bytes();
                balancer.ask(
                    gateway.address(family),
                    &header,
                    b"question",
                    &Echo::answer(client, b"question"),
                );
            }
            gateway.stop();
        }
    });
}

#[test]
fn a_serving_worker_has_one_capability_no_groups_no_dumps_and_a_filter_on_every_thread() {
    isolated(|| {
        let net = Topology::new();
        let (_target, gateway) = jailed(&net, Family::V4);
        let folder = format!("/proc/{}", gateway.worker());
        let threads: Vec<_> =
            fs::read_dir(format!("{folder}/task")).expect("a running process").flatten().collect();
        assert!(threads.len() > 2, "two workers beside the main thread");
        for thread in threads {
            let status = fs::read_to_string(thread.path().join("status")).expect("a running thread");
            let is = |name, value: &str| assert_eq!(field(&status, name), value, "{name} in:\n{status}");
            for (set, bits) in [
                ("CapEff", NET_RAW),
                ("CapPrm", NET_RAW),
                ("CapInh", NONE),
                ("CapAmb", NONE),
                ("CapBnd", NONE),
            ] {
                is(set, bits);
            }
            is("NoNewPrivs", "1");
            is("Seccomp", "2");
            if machine_root() {
                is("Uid", "65534 65534 65534 65534");
                is("Gid", "65534 65534 65534 65534");
                is("Groups", "");
            }
        }
        let limits = fs::read_to_string(format!("{folder}/limits")).expect("a running process");
        let cores: Vec<_> = limits.lines().filter(|line| line.starts_with("Max core file size")).collect();
        assert_eq!(cores[0].split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"]);
        if machine_root() {
            // proc(5): the files of a process that must not be looked into are root's.
            assert_eq!(fs::metadata(format!("{folder}/environ")).expect("a running process").uid(), 0);
        }
        gateway.stop();
    });
}

/// Bit 13, as /proc shows it.
const NET_RAW: &str = "0000000000002000";
const NONE: &str = "0000000000000000";

#[test]
fn a_hundred_thousand_malformed_connections_make_no_worker_leave_its_list() {
    isolated(|| {
        let net = Topology::new();
        let (target, gateway) = jailed(&net, Family::V4);
        let (address, worker) = (gateway.address(Family::V4), gateway.worker());
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let balancer = Balancer::of(&net);
                scope.spawn(move || {
                    for number in (sender..CONNECTIONS).step_by(SENDERS) {
                        let connection = balancer.announce(address, &malformed(number), b"");
                        match number % 3 {
                            // A reset, an end in order, and waiting for what the gateway does about it.
                            0 => connection.reset(),
                            1 => drop(connection),
                            _ => connection.expect_closed(),
                        }
                    }
                });
            }
        });
        target.expect_untouched();
        let downstream = Balancer::of(&net).announce(address, &header(Version::V2, Family::V4), b"");
        talk(&downstream, &target.accept());
        assert_eq!(gateway.worker(), worker, "no other one had to be started");
        gateway.stop();
    });
}

const CONNECTIONS: usize = 100_000;
const SENDERS: usize = 4;

/// Bytes that no header begins with, or that end one in the wrong way; each number has its own.
fn malformed(number: usize) -> Vec<u8> {
    let mut bytes = header(if number.is_multiple_of(2) { Version::V1 } else { Version::V2 }, Family::V4);
    let noise = noise(number as u64 + 1, 64);
    // A position in the signature, and another byte there.
    let at = usize::from(noise[0]) % 5;
    bytes[at] ^= noise[1] | 1;
    bytes.extend_from_slice(&noise[2..2 + usize::from(noise[0]) % 62]);
    bytes
}
