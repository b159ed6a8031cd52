//! The machine, the date and the state of the source.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::subject::first_line;

/// What a figure depends on besides the programs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) system: String,
    pub(crate) descriptor_limit: u64,
    /// TCP's congestion control in all namespaces; empty in records of when nobody chose it.
    #[serde(default)]
    pub(crate) congestion: String,
    /// Load average of the last minute before the run: what others were doing.
    pub(crate) load_average: String,
}

impl Machine {
    /// This one, with `congestion` in the namespaces.
    pub(crate) fn here(congestion: String) -> Self {
        let line = |path: &str, start: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(start).map(str::to_owned));
            line.unwrap_or_default().trim_start_matches([' ', '\t', ':', '=']).trim_matches('"').to_owned()
        };
        let memory = line("/proc/meminfo", "MemTotal:");
        let kib: u64 = memory.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        Self {
            cpu: line("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: (kib + (1 << 19)) >> 20,
            kernel: line("/proc/sys/kernel/osrelease", ""),
            system: line("/etc/os-release", "PRETTY_NAME"),
            descriptor_limit: crate::usage::descriptor_limit(),
            congestion,
            load_average: line("/proc/loadavg", "").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// The commit that the working tree is at, marked if it is changed.
pub(crate) fn commit() -> String {
    first_line(Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]))
}

/// `2026-01-02T03:04Z`
pub(crate) fn now_utc() -> String {
    first_line(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%MZ"]))
}
