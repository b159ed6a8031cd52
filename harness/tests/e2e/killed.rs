//! Processes that are killed: what is lost with them, and that nothing else is.

use std::fs;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::expect::eventually;
use harness::{Balancer, End, Family, Version, addr, isolated};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::control::Asked;
use crate::host::Host;
use crate::reload::echo_everybody;
use crate::support::{Scene, noise};
use Family::V4;

#[test]
fn a_worker_that_is_killed_is_replaced_and_who_waits_is_served() {
    isolated(|| {
        let scene = Scene::new();
        let (downstream, upstream) = scene.session();
        let worker = scene.gateway.worker();
        kill_process(worker);
        // Their sessions end with it: the kernel resets both sides.
        downstream.expect_closed();
        upstream.expect_closed();
        // This one may come while nobody accepts.
        scene.expect_alive();
        scene.gateway.expect_log(&["ERROR", "a worker ended", "SIGKILL"]);
        assert_ne!(scene.gateway.worker(), worker);
        scene.gateway.stop();
    });
}

#[test]
fn a_worker_that_is_killed_again_and_again_is_replaced_each_time() {
    isolated(|| {
        let scene = Scene::new();
        for _ in 0..4 {
            let worker = scene.gateway.worker();
            kill_process(worker);
            eventually("another worker", || (scene.gateway.worker() != worker).then_some(()));
            scene.expect_alive();
        }
        scene.gateway.stop();
    });
}

#[test]
fn what_was_installed_goes_at_the_end_also_after_a_worker_was_killed() {
    isolated(|| {
        let host = Host::new();
        let gateway = host.start();
        let worker = gateway.worker();
        kill_process(worker);
        gateway.expect_log(&["INFO", "another worker serves"]);
        host.expect_changed();
        host.expect_served(&gateway);
        gateway.stop();
        host.expect_as_before();
        // And where there is nobody to put in its place.
        let gateway = host.start();
        kill_process(gateway.worker());
        gateway.stop();
        host.expect_as_before();
    });
}

#[test]
fn a_worker_that_is_killed_under_load_is_back_within_a_second_and_whoever_comes_then_is_served() {
    isolated(|| {
        // The second is about the pause before another one is started, which is none. How long the machine takes to start
        // it is not the program's affair, so the quickest of some counts.
        let mut took = Vec::new();
        while took.len() < TRIES && took.iter().all(|took| *took >= A_SECOND) {
            took.push(killed_under_load());
        }
        assert!(took.iter().any(|took| *took < A_SECOND), "back after {took:?}");
    });
}

#[test]
fn workers_end_with_a_keeper_that_is_killed_and_the_next_one_takes_over_what_it_left() {
    isolated(|| {
        let host = Host::new();
        let gateway = host.start();
        let worker = gateway.worker();
        gateway.kill();
        eventually("the worker to end", || has_ended(worker).then_some(()));
        host.expect_changed();
        let next = host.start();
        host.expect_served(&next);
        next.stop();
        host.expect_as_before();
    });
}

/// How long after its worker was killed a gateway under load has served the first client who came afterwards.
fn killed_under_load() -> Duration {
    let asked = Asked::with(&[]);
    let Scene { target, gateway, balancer, .. } = &asked.scene;
    let address = gateway.address(V4);
    let (over, deserted) = (AtomicBool::new(false), AtomicBool::new(false));
    let sessions = Mutex::new(Vec::new());
    let done = |since: Option<Instant>| {
        let sessions = sessions.lock().expect("nobody has panicked");
        let since =
            sessions.iter().filter(|session: &&Session| since.is_none_or(|since| session.began > since));
        since.cloned().collect::<Vec<_>>()
    };
    let took = thread::scope(|scope| {
        scope.spawn(|| echo_everybody(target, &deserted, scope));
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let (over, sessions) = (&over, &sessions);
                scope.spawn(move || {
                    for number in (0..).take_while(|_| !over.load(Ordering::Relaxed)) {
                        let session = Session::run(balancer, address, lane, number);
                        sessions.lock().expect("nobody has panicked").push(session);
                    }
                })
            })
            .collect();
        eventually("the load to be there", || (done(None).len() > 20 * LANES).then_some(()));
        let worker = gateway.worker();
        let killed = Instant::now();
        kill_process(worker);
        eventually("the worker to end", || has_ended(worker).then_some(()));
        // Until now it could still have taken a connection with it.
        let gone = Instant::now();
        eventually("the load to go on", || (done(Some(gone)).len() > 20 * LANES).then_some(()));
        over.store(true, Ordering::Relaxed);
        lanes.into_iter().for_each(|lane| lane.join().expect("the client has shown why"));
        deserted.store(true, Ordering::Relaxed);
        let after = done(Some(gone));
        let failed = after.iter().filter(|session| !session.served).count();
        assert_eq!(failed, 0, "of {} clients who came afterwards", after.len());
        after.iter().map(|session| session.ended - killed).min().expect("many")
    });
    gateway.expect_log(&["ERROR", "a worker ended", "SIGKILL"]);
    let status = &asked.json(&["status"])[0];
    assert_eq!(status["counted"]["worker_restarts"], 1, "{status}");
    asked.scene.gateway.stop();
    took
}

/// A client who may be unlucky.
#[derive(Clone)]
struct Session {
    began: Instant,
    ended: Instant,
    served: bool,
}

impl Session {
    /// Connects, sends and receives, and ends.
    fn run(balancer: &Balancer, gateway: SocketAddr, lane: usize, number: usize) -> Self {
        let began = Instant::now();
        let port = 1024 + u16::try_from(number % 60_000).expect("small");
        let client = SocketAddr::from(([192, 0, 2, 20 + u8::try_from(lane).expect("few")], port));
        let bytes = noise((lane * 1_000_000 + number + 1) as u64, 300);
        let served = balancer.try_connect(gateway).is_ok_and(|connection| {
            connection.offer(&[Version::V2.header(client, addr("192.0.2.1:22")), bytes.clone()].concat());
            connection.offer_end();
            connection.receive_all() == (bytes, End::Finished)
        });
        Self { began, ended: Instant::now(), served }
    }
}

/// Whether nothing is left of a process but, perhaps, its status, which whoever inherited it may leave unread.
fn has_ended(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find(|line| line.starts_with("State:")).is_none_or(|state| state.contains('Z'))
}

pub(crate) fn kill_process(pid: u32) {
    kill(Pid::from_raw(pid.try_into().expect("small")), Signal::SIGKILL).expect("it runs");
}

/// Clients at a time, each of whom comes again at once.
const LANES: usize = 4;

const A_SECOND: Duration = Duration::from_secs(1);
const TRIES: usize = 10;
