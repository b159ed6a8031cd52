//! What a process uses.

use std::fs::{read_dir, read_link, read_to_string};
use std::time::Duration;

/// Descriptors and memory of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Descriptors that are open.
    pub descriptors: usize,
    /// Ends of pipes among them.
    pub pipes: usize,
    /// Resident memory, in KiB.
    pub resident_kib: usize,
    /// Processor time since its start, its own and the kernel's for it.
    pub cpu: Duration,
}

impl Usage {
    /// Of process `pid`; `None` if it has ended.
    pub fn of(pid: u32) -> Option<Self> {
        let links = read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        // One that was closed while the folder was read is no longer a link.
        let names: Vec<_> = links.filter_map(|link| read_link(link.path()).ok()).collect();
        let pipes = names.iter().filter(|name| name.to_string_lossy().starts_with("pipe:")).count();
        let status = read_to_string(format!("/proc/{pid}/status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident_kib = resident.split_whitespace().next()?.parse().ok()?;
        let times = read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may have anything in it: proc_pid_stat(5), fields 14 and 15.
        let times = times.rsplit_once(')')?.1.split_whitespace().skip(11).take(2);
        let ticks: u64 = times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        let cpu = Duration::from_millis(ticks * 1000 / TICKS);
        Some(Self { descriptors: names.len(), pipes, resident_kib, cpu })
    }
}

/// In which the kernel tells times to programs, a second (`USER_HZ`), on every architecture that Rust has for Linux.
const TICKS: u64 = 100;
