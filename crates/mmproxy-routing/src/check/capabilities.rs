//! Whether this process may make spoofed connections.

use std::fs;

use super::fact::Fact;
use super::finding::{ExitKind, Finding, Subject};

/// Looks at the capabilities of the calling thread.
pub(super) fn examine() -> Finding {
    judge(&fs::read_to_string("/proc/thread-self/status").unwrap_or_default())
}

fn judge(status: &str) -> Finding {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let Some(effective) = effective else {
        return Finding::warning(Subject::Privileges, Fact::Unknown, "/proc does not tell the capabilities")
            .because("a spoofed connection takes CAP_NET_RAW");
    };
    let has = |capability: u32| effective & 1 << capability != 0;
    match (has(CAP_NET_RAW), has(CAP_NET_ADMIN)) {
        (true, _) => Finding::ok(Subject::Privileges, Fact::MaySpoof, "CAP_NET_RAW is there"),
        (false, true) => Finding::ok(Subject::Privileges, Fact::MaySpoof, "CAP_NET_ADMIN is there"),
        (false, false) => Finding::failed(
            Subject::Privileges,
            Fact::MayNotSpoof,
            ExitKind::Permission,
            "neither CAP_NET_RAW nor CAP_NET_ADMIN is there",
        )
        .because("a socket may take a client's address and carry a mark only with one of them")
        .cured_by(
            "run it as root, with `AmbientCapabilities=CAP_NET_RAW` in the systemd unit, or after \
             `setcap cap_net_raw+ep` on the program",
        ),
    }
}

// linux/capability.h
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_capability_is_enough() {
        for (status, fact, exit) in [
            ("Name:\tx\nCapEff:\t0000000000002000\n", Fact::MaySpoof, None),
            ("CapEff:\t0000000000001000\n", Fact::MaySpoof, None),
            ("CapEff:\t000001ffffffffff\n", Fact::MaySpoof, None),
            (
                "CapPrm:\t0000000000003000\nCapEff:\t0000000000000400\n",
                Fact::MayNotSpoof,
                Some(ExitKind::Permission),
            ),
            ("", Fact::Unknown, None),
        ] {
            let finding = judge(status);
            assert_eq!((finding.fact, finding.exit), (fact, exit), "{status}");
        }
    }
}
