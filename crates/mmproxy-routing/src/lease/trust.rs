//! Whether another process may change the routing of this network namespace.

use std::fs;

/// Whether a process of another user has CAP_NET_ADMIN or CAP_NET_RAW here: an instance that runs as a user of its
/// own, not just anybody who chose the name of one.
///
/// A process can get all capabilities in a user namespace of its own, which count for nothing here. Its `uid_map`
/// differs from ours then.
pub(super) fn may_route(pid: i32) -> bool {
    let same_users = || {
        let map = |pid: &str| fs::read(format!("/proc/{pid}/uid_map")).ok();
        map(&pid.to_string()).is_some_and(|theirs| Some(theirs) == map("self"))
    };
    let capable = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        permitted(&status) & (CAP_NET_ADMIN | CAP_NET_RAW) != 0
    };
    pid > 0 && same_users() && capable()
}

/// The capabilities that a process may use, from its `/proc/PID/status`.
fn permitted(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapPrm:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// capabilities(7)
const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_NET_RAW: u64 = 1 << 13;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_permitted_set_is_read_from_status() {
        assert_eq!(
            permitted("Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\t0000000000003000\n"),
            CAP_NET_ADMIN | CAP_NET_RAW
        );
        assert_eq!(permitted("Name:\tx\n"), 0);
        assert_eq!(permitted("CapPrm:\tnonsense\n"), 0);
    }

    #[test]
    fn a_process_outside_of_our_pid_namespace_is_not_trusted() {
        assert!(!may_route(0));
        assert!(!may_route(-1));
    }
}
