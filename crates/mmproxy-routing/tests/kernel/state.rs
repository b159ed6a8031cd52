//! Everything that routing code could leave behind, as other programs see it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use crate::namespace::{ip, run};

/// All rules, all routes of all tables, all of nftables and all network switches of this namespace, by `ip`, `nft` and
/// the files of the kernel: none of the code under test has a part in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct State {
    lines: Vec<String>,
    switches: BTreeMap<String, String>,
}

impl State {
    pub(crate) fn now() -> Self {
        let mut lines = Vec::new();
        for family in ["-4", "-6"] {
            for what in ["rule", "route show table all"] {
                let listed = ip(&format!("-d {family} {what}"));
                lines.extend(listed.lines().map(|line| format!("{family} {what}: {}", line.trim())));
            }
        }
        // Without counters, which count, and handles, which are never used again.
        lines.extend(run("nft", "-s list ruleset").lines().map(|line| format!("nft: {}", line.trim())));
        let mut switches = BTreeMap::new();
        for tree in ["/proc/sys/net/ipv4", "/proc/sys/net/ipv6"] {
            read(Path::new(tree), &mut switches);
        }
        assert!(switches.contains_key("/proc/sys/net/ipv4/tcp_fwmark_accept"));
        Self { lines, switches }
    }

    /// How many rules and routes there are.
    pub(crate) fn objects(&self) -> usize {
        self.lines.len()
    }
}

/// Only what is worth reading when two of them differ.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        for (path, value) in self.switches.iter().filter(|(path, _)| path.contains("fwmark")) {
            writeln!(f, "{path} = {value}")?;
        }
        Ok(())
    }
}

/// Asserts that two states are the same, and shows the difference.
#[track_caller]
pub(crate) fn assert_same(now: &State, before: &State, when: &str) {
    for (path, value) in &now.switches {
        assert_eq!(Some(value), before.switches.get(path), "{when}: {path} differs");
    }
    assert!(now == before, "{when}\nnow:\n{now:?}\nbefore:\n{before:?}");
}

fn read(directory: &Path, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, into);
        } else if let Ok(value) = fs::read_to_string(&path)
            && !COUNTERS.iter().any(|counter| path.ends_with(counter))
        {
            into.insert(path.to_string_lossy().into_owned(), value);
        }
    }
}

/// Files below /proc/sys/net that change by themselves.
const COUNTERS: [&str; 2] = ["tcp_fastopen_key", "stable_secret"];
