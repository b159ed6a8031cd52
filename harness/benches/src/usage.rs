//! What processes use: CPU time, memory, descriptors, from /proc.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What a program's processes use at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// CPU time of all threads, in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// The parts of it, in the kernel's ticks of 10 ms.
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
    /// Resident memory, KiB.
    pub(crate) rss_kib: u64,
    pub(crate) descriptors: u64,
}

impl Usage {
    /// Of the process `root` and all below it; zero if it has ended.
    pub(crate) fn of(root: u32) -> Self {
        let mut sum = Self::default();
        for pid in family(root) {
            // A process that ends between two reads counts with what was read.
            sum.add(pid).unwrap_or_default();
        }
        sum
    }

    /// Of this process without those it has started.
    pub(crate) fn alone() -> Self {
        let mut own = Self::default();
        own.add(std::process::id()).unwrap_or_default();
        own
    }

    fn add(&mut self, pid: u32) -> Option<()> {
        for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            // Run time in nanoseconds is the first of three numbers; kernels without it have the ticks alone.
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            self.cpu_ns += text.split_whitespace().next().and_then(|run| run.parse().ok()).unwrap_or(0);
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<_> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
        self.user_ticks += fields.get(11)?.parse::<u64>().ok()?;
        self.system_ticks += fields.get(12)?.parse::<u64>().ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        self.rss_kib += rss?.split_whitespace().next()?.parse::<u64>().ok()?;
        self.descriptors += fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
        Some(())
    }

    /// CPU seconds between an earlier moment and this one: all, user's and system's.
    pub(crate) fn cpu_since(&self, earlier: &Self) -> Cpu {
        let ticks = |now: u64, then: u64| now.saturating_sub(then) as f64 / TICKS_PER_SECOND;
        let (user, system) =
            (ticks(self.user_ticks, earlier.user_ticks), ticks(self.system_ticks, earlier.system_ticks));
        let exact = self.cpu_ns.saturating_sub(earlier.cpu_ns) as f64 / 1e9;
        let seconds = if self.cpu_ns == 0 { user + system } else { exact };
        // The parts come in coarse ticks; only their proportion is taken.
        let share = if user + system > 0.0 { user / (user + system) } else { 0.0 };
        Cpu { seconds, user: seconds * share }
    }
}

/// CPU seconds, and how many of them were spent in the program itself rather than in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cpu {
    pub(crate) seconds: f64,
    pub(crate) user: f64,
}

/// `root` and its descendants.
fn family(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found
}

/// Nanoseconds on the clock that all processes of the machine share.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Since boot: never negative.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Lets this process, and those it starts, open as many descriptors as the hard limit allows.
pub(crate) fn raise_descriptor_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

/// The hard limit of descriptors for a process of this machine's.
pub(crate) fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// USER_HZ: part of Linux's interface to programs, 100 on every architecture that Rust's std runs on.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    fn thread_cpu_ns() -> u64 {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        used.tv_sec.unsigned_abs() * 1_000_000_000 + used.tv_nsec.unsigned_abs()
    }

    #[test]
    fn a_busy_processs_time_is_seen_and_its_parts_are_no_more_than_the_whole() {
        let me = std::process::id();
        let before = Usage::of(me);
        let start = thread_cpu_ns();
        let mut number = 1_u64;
        while thread_cpu_ns() - start < 100_000_000 {
            number = black_box(number.wrapping_mul(3));
        }
        let after = Usage::of(me);
        let cpu = after.cpu_since(&before);
        assert!(cpu.seconds > 0.08, "{cpu:?}");
        assert!(cpu.user <= cpu.seconds);
        assert!(after.rss_kib > 100);
        assert!(after.descriptors >= 3);
    }

    #[test]
    fn a_process_that_is_not_there_uses_nothing() {
        assert_eq!(Usage::of(u32::MAX / 2), Usage::default());
    }

    #[test]
    fn children_are_counted() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        assert!(family(std::process::id()).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
