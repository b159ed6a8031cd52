//! What a worker keeps once it serves, and that nothing else is left to it.
//!
//! `mmproxy jail-probe` confines itself as a worker does. It then tries one thing and says how that went, or is a gateway.

mod forbidden;
mod service;
mod serving;
mod starting;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use harness::{Finished, Namespace, mmproxy, run};

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It can be done.
    Worked,
    /// The kernel refused with this error.
    Refused(String),
    /// By this signal the process ended.
    Killed(i32),
}

/// The signal of a system call that the filter does not let through.
const SIGSYS: i32 = 31;
/// The signal of abort(3).
const SIGABRT: i32 = 6;

impl Outcome {
    #[track_caller]
    fn of(finished: &Finished) -> Self {
        if let Some(signal) = finished.status.signal() {
            return Self::Killed(signal);
        }
        match (
            finished.status.code(),
            finished.stdout.lines().find_map(|line| line.strip_prefix("refused: ")),
        ) {
            // A program that was started in the place of the probe says nothing.
            (Some(0), None) => Self::Worked,
            (Some(77), Some(error)) => Self::Refused(error.to_owned()),
            _ => panic!("the probe did not get to its attempt ({}); {finished}", finished.status),
        }
    }
}

/// The probe with `flags`, and then what it is to do.
fn probe(flags: &[&str], action: &[&str]) -> Command {
    mmproxy(["jail-probe"].iter().chain(flags).chain(action).copied())
}

/// Tries `what` under `flags`.
#[track_caller]
fn attempt(namespace: &Namespace, flags: &[&str], what: &[&str]) -> Outcome {
    Outcome::of(&run(namespace, &mut probe(flags, &[&["try"], what].concat()), b""))
}

/// The line of a file of proc(5) that begins with `name`, without it.
#[track_caller]
fn field(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in:\n{text}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether user 0 here is the machine's, so that there are other users to become.
fn machine_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").expect("proc is mounted");
    map.split_whitespace().eq(["0", "0", "4294967295"])
}
