//! What a process is forbidden about itself: core dumps, being looked into, gaining rights by starting programs.

use std::fs;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

use super::JailError;

/// Refuses to go on with more than one thread. Where /proc is not mounted nobody can tell, and that is no reason.
pub(super) fn require_single_thread() -> Result<(), JailError> {
    match fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(threads @ 2..) => Err(JailError::Threads(threads)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Memory may hold what clients sent: it is never written to a disk.
pub(super) fn forbid_core_dumps() -> Result<(), JailError> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(failed("set the limit on core dumps to 0"))
}

/// No program that this process starts has more rights than it: neither set-user-ID bits nor file capabilities count.
pub(super) fn forbid_new_privileges() -> Result<(), JailError> {
    prctl::set_no_new_privs().map_err(failed("set no_new_privs"))
}

/// Other processes of the same user may neither trace this one nor read its memory; and it dumps no core, once more.
pub(super) fn forbid_inspection() -> Result<(), JailError> {
    prctl::set_dumpable(false).map_err(failed("make the process undumpable"))
}

fn failed(action: &'static str) -> impl FnOnce(Errno) -> JailError {
    move |error| JailError::Process { action, error }
}
