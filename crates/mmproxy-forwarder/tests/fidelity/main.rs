//! Thousands of random sessions: two ends that write, read, pause, finish and reset as a seed has it, through real
//! sockets and every kind of relay, and a verdict on what each saw of the other.
//!
//! What has to hold stands in `verdict`. A schedule that breaks a promise is printed with its seed, and
//! `MMPROXY_SCHEDULE_SEED=SEED` plays that one alone, again and again.

#![allow(
    clippy::unwrap_used,
    reason = "what goes wrong in a test ends it; helpers outside #[test] are not seen as tests"
)]

mod actor;
#[path = "../gateway/isolated.rs"]
#[allow(dead_code, reason = "other tests use all of it")]
mod isolated;
mod noise;
#[path = "../../src/sys/queue.rs"]
#[allow(unsafe_code, dead_code, reason = "the same file as the crate's, which uses all of it")]
mod queue;
mod schedule;
mod stage;
mod verdict;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::task::LocalSet;
use tokio::time::timeout;

use actor::Actor;
use isolated::{in_namespace, ip, return_path, sysctl};
use noise::Voice;
use schedule::{Random, Schedule};
use stage::{Crew, DEADLINE, Stage};

/// Segments of 64 KiB, as between programs of one machine.
#[test]
fn nothing_is_lost_or_made_up_on_one_machine() {
    in_namespace("nothing_is_lost_or_made_up_on_one_machine", &[], || {
        return_path();
        play("nothing_is_lost_or_made_up_on_one_machine", 5000);
    });
}

/// Segments of an Ethernet's size.
#[test]
fn nothing_is_lost_or_made_up_in_small_segments() {
    in_namespace("nothing_is_lost_or_made_up_in_small_segments", &[], || {
        return_path();
        ip("link set lo mtu 1500");
        play("nothing_is_lost_or_made_up_in_small_segments", 4000);
    });
}

/// The gateway's own sockets, toward the target too, hold no more than a page.
#[test]
fn nothing_is_lost_or_made_up_through_buffers_of_a_page() {
    in_namespace("nothing_is_lost_or_made_up_through_buffers_of_a_page", &[], || {
        return_path();
        ip("link set lo mtu 1500");
        sysctl("ipv4/tcp_rmem", "4096 4096 4096");
        sysctl("ipv4/tcp_wmem", "4096 4096 4096");
        play("nothing_is_lost_or_made_up_through_buffers_of_a_page", 1500);
    });
}

/// Plays `sessions` schedules, half of them on one worker, or the one that the environment names on each crew.
fn play(test: &str, sessions: u32) {
    let chosen = std::env::var("MMPROXY_SCHEDULE_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let base = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("{test}: {sessions} schedules from base {base}");
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let seed = |number| chosen.unwrap_or_else(|| Random(base ^ u64::from(number) << 40).next());
    let mut number = 0;
    for (crew, share) in [(Crew::Alone, 2), (Crew::Several, 4), (Crew::Moving, 4)] {
        // Another number is another client.
        let end = number + if chosen.is_some() { 500 } else { sessions / share };
        let broken = play_on(crew, (number..end).map(|number| (number, seed(number))).collect());
        if let Some(first) = broken.first() {
            panic!(
                "{} sessions of {crew:?} broke a promise; the first:\n{first}\nAgain: MMPROXY_SCHEDULE_SEED=… \
                 cargo test -p mmproxy-forwarder --test fidelity {test}",
                broken.len()
            );
        }
        number = end;
    }
}

/// Plays schedules, given by number and seed, and returns what was wrong.
fn play_on(crew: Crew, schedules: Vec<(u32, u64)>) -> Vec<String> {
    let sessions = schedules.len();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let stage = Rc::new(Stage::set(crew).await);
        let descriptors = open_descriptors();
        let next = Rc::new(RefCell::new(schedules.into_iter()));
        let lanes: Vec<_> = (0..LANES)
            .map(|_| {
                let (stage, next) = (Rc::clone(&stage), Rc::clone(&next));
                tokio::task::spawn_local(async move {
                    while let Some((number, seed)) = take(&next) {
                        session(&stage, &Schedule::of(seed), number).await?;
                    }
                    Ok(())
                })
            })
            .collect();
        let mut broken = Vec::new();
        for lane in lanes {
            broken.extend(lane.await.expect("no end of a session panics").err());
        }
        if broken.is_empty() {
            // Sockets are closed before sessions are reported; pipes may be kept for the next one.
            let kept = open_descriptors().saturating_sub(descriptors);
            assert!(kept <= KEPT, "{kept} descriptors more than before {sessions} sessions of {crew:?}");
            Rc::into_inner(stage).expect("every lane is done").strike();
        }
        broken
    })
}

fn take<T>(next: &RefCell<impl Iterator<Item = T>>) -> Option<T> {
    next.borrow_mut().next()
}

async fn session(stage: &Stage, schedule: &Schedule, number: u32) -> Result<(), String> {
    let (up, down) = (Voice(2 * u64::from(number)), Voice(2 * u64::from(number) + 1));
    let first = match schedule.peer.writes.first() {
        Some(step) if schedule.first_with_header => up.at(0, step.bytes.min(FIRST)),
        _ => &[],
    };
    let told = |what: String| format!("{what}\nMMPROXY_SCHEDULE_SEED={}\n{schedule:?}", schedule.seed);
    let opened = timeout(DEADLINE, stage.open(schedule, number, first)).await;
    let opened = opened.map_err(|_| told("no session came about".to_owned()))?;
    let opened = opened.map_err(|error| told(format!("no session came about: {error}")))?;

    let peer = Actor::new(&schedule.peer, up, down, first.len() as u64);
    let target = Actor::new(&schedule.target, down, up, 0);
    let played = async { tokio::join!(peer.play(opened.peer), target.play(opened.target)) };
    let accounts =
        || format!("peer: {:?}\ntarget: {:?}\n{:?}", peer.account(), target.account(), opened.place);
    if timeout(DEADLINE, played).await.is_err() {
        return Err(told(format!("the session does not end\n{}", accounts())));
    }
    let Ok(Ok(report)) = timeout(DEADLINE, opened.report).await else {
        return Err(told(format!("the session is not reported\n{}", accounts())));
    };
    match verdict::broken_promise(&peer.account(), &target.account(), &report) {
        None => Ok(()),
        Some(promise) => Err(told(format!("{promise}\n{}\n{report:?}", accounts()))),
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Sessions at a time.
const LANES: usize = 192;

/// What may leave with the header: less than the smallest buffer.
const FIRST: usize = 1024;

/// Descriptors that the gateways may keep: pooled pipes.
const KEPT: usize = 256;
