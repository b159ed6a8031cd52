//! Descriptors of this process: how many are in use, how many there may be.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::Mode;

use super::ProcessSnapshot;

/// Looks at this process. Made before the process locks itself in: it opens a directory, and only reads it later.
#[derive(Debug)]
pub(crate) struct Process {
    /// `/proc/self/fd`; `None` where there is no /proc.
    descriptors: Option<Mutex<Dir>>,
    /// It does not change any more; to ask again is not allowed to a process that locked itself in.
    limit: u64,
    started: u64,
}

impl Process {
    pub(crate) fn new() -> Self {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let descriptors = Dir::open("/proc/self/fd", flags, Mode::empty()).ok().map(Mutex::new);
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        Self { descriptors, limit, started }
    }

    pub(crate) fn snapshot(&self) -> ProcessSnapshot {
        let used = self.descriptors.as_ref().map(|directory| {
            let mut directory = directory.lock().unwrap_or_else(PoisonError::into_inner);
            // Neither `.` nor `..`. Reading starts anew each time.
            let entries = directory.iter().filter(Result::is_ok).count();
            entries.saturating_sub(2) as u64
        });
        ProcessSnapshot { descriptors: used, descriptor_limit: self.limit, started: self.started }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn descriptors_are_counted_anew_each_time() {
        let process = Process::new();
        let before = process.snapshot().descriptors.unwrap();
        let held: Vec<_> = (0..50).map(|_| File::open("/dev/null").unwrap()).collect();
        let during = process.snapshot().descriptors.unwrap();
        // Other tests of this process open and close some, too.
        assert!(during >= before + 25, "{before} before, {during} with 50 more");
        drop(held);
        assert!(process.snapshot().descriptor_limit >= during);
    }
}
