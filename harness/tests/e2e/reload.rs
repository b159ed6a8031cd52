//! A life without downtime: reloads and upgrades.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use harness::expect::eventually;
use harness::{
    Balancer, Connection, Family, Gateway, Target, Topology, Version, addr, executable, isolated, scratch,
};
use nix::sys::signal::Signal;

use crate::support::{Scene, header, noise, talk};
use Family::V4;

#[test]
fn twenty_reloads_refuse_nobody_and_lose_no_byte_with_another_executable_in_between() {
    isolated(|| {
        let program = file("mmproxy");
        fs::copy(executable(), &program).expect("room for a copy");
        let list = write("balancers.txt", "10.0.0.0/24\n");
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let gateway = Gateway::before(&net, &target)
            .allowed_subnets(&list)
            .from_copy(program.clone())
            .with(["--drain", "5m"])
            .start();
        let (balancer, address) = (Balancer::of(&net), gateway.address(V4));
        // The clients' end comes before the target's: nobody is left waiting there.
        let (over, deserted) = (AtomicBool::new(false), AtomicBool::new(false));
        let served = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| echo_everybody(&target, &deserted, scope));
            let long: Vec<_> =
                (0..LONG).map(|number| LongSession::open(&balancer, address, number)).collect();
            let lanes = (0..LANES).map(|lane| {
                let (over, served, balancer) = (&over, &served, &balancer);
                scope.spawn(move || {
                    for number in 0.. {
                        if over.load(Ordering::Relaxed) {
                            return;
                        }
                        short_session(balancer, address, lane, number);
                        served.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(PACE);
                    }
                })
            });
            let lanes: Vec<_> = lanes.collect();
            for round in 1..=20 {
                if round == 10 {
                    replace(&program);
                }
                let before = served.load(Ordering::Relaxed);
                gateway.program().signal(Signal::SIGHUP);
                eventually("the reload", || (reloads(&gateway) == round).then_some(()));
                long.iter().for_each(|session| session.go_on(round));
                eventually("somebody to be served after it", || {
                    (served.load(Ordering::Relaxed) > before + 2 * LANES).then_some(())
                });
            }
            // What serves now is what is on the disk now.
            let serving = fs::metadata(format!("/proc/{}/exe", gateway.worker())).expect("it runs");
            assert_eq!(serving.len(), fs::metadata(&program).expect("it is there").len());
            over.store(true, Ordering::Relaxed);
            lanes.into_iter().for_each(|lane| lane.join().expect("the client has shown why"));
            long.into_iter().for_each(LongSession::finish);
            deserted.store(true, Ordering::Relaxed);
        });
        // Every session that was begun had the whole of its answer, and is accounted for once.
        let sessions = LONG + served.into_inner();
        eventually("every session to be accounted for", || {
            (gateway.program().count_lines(&["session closed", "reason=finished"]) == sessions).then_some(())
        });
        let finished = gateway.stop();
        assert!(!finished.stderr.contains("ERROR"), "{}", finished.stderr);
    });
}

#[test]
fn a_reload_with_mistakes_names_them_all_and_changes_nothing() {
    isolated(|| {
        let list = write("balancers.txt", "10.0.0.0/24\n");
        let scene = Scene::with(V4, |flags| flags.allowed_subnets(&list));
        let worker = scene.gateway.worker();
        write("balancers.txt", "10.0.0.0/33\nnobody\n");
        scene.gateway.program().signal(Signal::SIGHUP);
        scene.gateway.expect_log(&["ERROR", "balancers.txt:1: "]);
        scene.gateway.expect_log(&["ERROR", "balancers.txt:2: "]);
        scene.gateway.expect_log(&["not reloaded", "served on"]);
        scene.expect_alive();
        assert_eq!(scene.gateway.worker(), worker);

        // Corrected, it is taken: this balancer is not in it.
        write("balancers.txt", "192.0.2.0/24\n");
        scene.gateway.program().signal(Signal::SIGHUP);
        scene.gateway.expect_log(&["INFO", "reloaded"]);
        scene.balancer.expect_turned_away(scene.gateway.address(V4), &header(Version::V2, V4));
        scene.target.expect_untouched();
        scene.gateway.stop();
    });
}

#[test]
fn sessions_from_before_a_reload_end_in_their_own_time() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--drain", "5m"]));
        let (downstream, upstream) = scene.session();
        scene.gateway.program().signal(Signal::SIGHUP);
        scene.gateway.expect_log(&["INFO", "reloaded"]);
        let next = scene.open(&Version::V2.header(addr("192.0.2.8:4711"), addr("192.0.2.1:22")));
        talk(&next, &scene.target.accept());
        talk(&downstream, &upstream);
        scene.gateway.stop();
    });
}

#[test]
fn a_second_gateway_cannot_have_the_address_while_workers_hold_it() {
    isolated(|| {
        let scene = Scene::new();
        let address = scene.gateway.listening();
        let refused = Gateway::to(&scene.net, scene.target.address()).listen(address).run().expect_code(69);
        assert!(refused.stderr.contains(&format!("cannot listen on {address}")), "{}", refused.stderr);
        scene.gateway.stop();
    });
}

/// A session that lives through everything, and the bytes that were sent on it.
struct LongSession {
    connection: Connection,
    number: usize,
}

impl LongSession {
    fn open(balancer: &Balancer, gateway: SocketAddr, number: usize) -> Self {
        let client = SocketAddr::from(([192, 0, 2, 9], 10_000 + u16::try_from(number).expect("small")));
        let connection = balancer.announce(gateway, &Version::V2.header(client, addr("192.0.2.1:22")), b"");
        let session = Self { connection, number };
        session.go_on(0);
        session
    }

    /// Some bytes there and back.
    fn go_on(&self, round: usize) {
        let bytes = noise((self.number * 100 + round + 1) as u64, 1000);
        self.connection.send(&bytes);
        self.connection.expect(&bytes);
    }

    fn finish(self) {
        self.go_on(99);
        self.connection.finish();
        self.connection.expect_end();
    }
}

/// Connects, sends and receives, and ends, as most clients do.
fn short_session(balancer: &Balancer, gateway: SocketAddr, lane: usize, number: usize) {
    let port = 1024 + u16::try_from(number % 60_000).expect("small");
    let client = SocketAddr::from(([192, 0, 2, 20 + u8::try_from(lane).expect("few")], port));
    let bytes = noise((lane * 1_000_000 + number + 1) as u64, 300);
    let connection = balancer.announce(gateway, &Version::V2.header(client, addr("192.0.2.1:22")), &bytes);
    connection.expect(&bytes);
    connection.finish();
    connection.expect_end();
}

/// A server that sends everybody what it gets, until it is `deserted`.
pub(crate) fn echo_everybody<'scope>(
    target: &Target,
    deserted: &AtomicBool,
    scope: &'scope thread::Scope<'scope, '_>,
) {
    while !deserted.load(Ordering::Relaxed) {
        if let Some(connection) = target.accept_within(Duration::from_millis(100)) {
            scope.spawn(move || connection.echo());
        }
    }
}

/// How often the gateway said that it has reloaded.
fn reloads(gateway: &Gateway) -> usize {
    gateway.program().count_lines(&["INFO", "reloaded"])
}

/// Puts another executable into the place of this one, as a package manager does: the old one is not written to.
fn replace(executable: &Path) {
    let next = executable.with_extension("new");
    fs::copy(executable, &next).expect("room for a copy");
    // What stands behind the last section is nobody's.
    let mut file = fs::OpenOptions::new().append(true).open(&next).expect("it is there");
    file.write_all(b"another one").expect("room");
    drop(file);
    fs::rename(next, executable).expect("one file system");
}

/// A file of this test's own.
fn file(name: &str) -> PathBuf {
    scratch().join(name)
}

fn write(name: &str, text: &str) -> String {
    let path = file(name);
    fs::write(&path, text).expect("room");
    path.to_str().expect("UTF-8").to_owned()
}

/// Sessions that live through all reloads.
const LONG: usize = 200;

/// Clients that come one after the other, each on a thread of its own, [`PACE`] apart: 200 connections a second.
const LANES: usize = 4;
const PACE: Duration = Duration::from_millis(20);
