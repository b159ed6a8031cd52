//! What a worker could be confined with on this kernel, for `mmproxy check`.

use std::fmt;

use mmproxy_routing::check::Level;
use serde::Serialize;

use crate::jail::Available;

/// One part of the sandbox on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    level: Level,
    /// From a closed set; never renamed.
    fact: &'static str,
    found: &'static str,
    cure: Option<&'static str>,
}

/// The same for another program.
#[derive(Debug, Serialize)]
pub(super) struct Described {
    level: &'static str,
    fact: &'static str,
    found: &'static str,
    cure: Option<&'static str>,
}

/// What `available` comes to. None of it keeps a spoofed connection from working.
pub(super) fn parts(available: Available) -> [Part; 2] {
    let seccomp = if available.seccomp {
        Part {
            level: Level::Ok,
            fact: "seccomp_available",
            found: "workers are kept to a short list of system calls (seccomp)",
            cure: None,
        }
    } else {
        Part {
            level: Level::Warning,
            fact: "seccomp_missing",
            found: "this kernel has no seccomp filters, and without them the gateway does not start",
            cure: Some("a kernel with CONFIG_SECCOMP_FILTER, or --sandbox-missing anything"),
        }
    };
    [seccomp, landlock(available)]
}

fn landlock(available: Available) -> Part {
    if available.landlock == 0 {
        return Part {
            level: Level::Warning,
            fact: "landlock_missing",
            found: "this kernel has no Landlock: nothing but system calls' numbers keeps workers from files and other ports",
            cure: Some(
                "Linux 5.13 with CONFIG_SECURITY_LANDLOCK, and `landlock` in lsm= on the kernel's command line",
            ),
        };
    }
    let (fact, found, cure) = match (available.keeps_ports(), available.keeps_scopes()) {
        (true, true) => (
            "landlock_whole",
            "workers are kept from files, from other ports than the targets', from signals and abstract Unix sockets (Landlock)",
            None,
        ),
        (true, false) => (
            "landlock_without_scopes",
            "workers are kept from files and from other ports than the targets' (Landlock), not from signals and abstract Unix sockets",
            Some("Linux 6.12"),
        ),
        (false, _) => (
            "landlock_without_ports",
            "workers are kept from files (Landlock), not from other ports than the targets'",
            Some("Linux 6.7 for ports, 6.12 for signals and abstract Unix sockets"),
        ),
    };
    let level = if cure.is_none() { Level::Ok } else { Level::Note };
    Part { level, fact, found, cure }
}

impl Part {
    pub(super) const fn described(self) -> Described {
        Described { level: self.level.label(), fact: self.fact, found: self.found, cure: self.cure }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, found, cure, .. } = self;
        match level {
            Level::Ok => write!(f, "[+] OK. Sandbox: {found}.")?,
            Level::Note => write!(f, "[+] NOTE: Sandbox: {found}.")?,
            Level::Warning | Level::Failed => write!(f, "[!] WARNING: Sandbox: {found}.")?,
        }
        match cure {
            Some(cure) => write!(f, " Cure: {cure}."),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_has_its_findings() {
        for (seccomp, landlock, facts, levels) in [
            (true, 6, ["seccomp_available", "landlock_whole"], [Level::Ok, Level::Ok]),
            (true, 4, ["seccomp_available", "landlock_without_scopes"], [Level::Ok, Level::Note]),
            (true, 1, ["seccomp_available", "landlock_without_ports"], [Level::Ok, Level::Note]),
            (false, 0, ["seccomp_missing", "landlock_missing"], [Level::Warning, Level::Warning]),
        ] {
            let parts = parts(Available { seccomp, landlock });
            assert_eq!(parts.map(|part| part.fact), facts);
            assert_eq!(parts.map(|part| part.level), levels);
            // What is less than whole has a cure, and nothing else has.
            assert!(parts.iter().all(|part| part.cure.is_some() == (part.level != Level::Ok)));
        }
    }

    #[test]
    fn a_part_is_one_line() {
        let [_, landlock] = parts(Available { seccomp: true, landlock: 5 });
        assert_eq!(
            landlock.to_string(),
            "[+] NOTE: Sandbox: workers are kept from files and from other ports than the targets' (Landlock), not from \
             signals and abstract Unix sockets. Cure: Linux 6.12."
        );
    }
}
