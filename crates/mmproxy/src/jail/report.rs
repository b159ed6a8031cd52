//! What is in force, and what a kernel has, as lines for the operator.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Sandbox;
use super::capabilities::Capabilities;
use super::identity::Identity;
use super::landlock::{self, Restricted};
use super::seccomp::{self, Filtering};

/// What is in force for a worker; its `Display` is one line for the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Confined {
    pub(super) user: Identity,
    pub(super) capabilities: Capabilities,
    pub(super) landlock: Restricted,
    pub(super) seccomp: Filtering,
    pub(super) sandbox: Sandbox,
    /// Whether the ports that may be connected to are known.
    pub(super) ports_are_known: bool,
}

impl Confined {
    /// What is less than it could be, a line each: for warnings.
    pub(crate) fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        if let Some(reason) = &self.user.kept_because {
            gaps.push(format!(
                "the worker keeps user {} and group {}: {reason}",
                self.user.uid, self.user.gid
            ));
        }
        match self.sandbox {
            Sandbox::Off => gaps.push("the worker is not sandboxed: --sandbox off".to_owned()),
            Sandbox::Log => gaps.push("the sandbox of the worker is a dry run: --sandbox log".to_owned()),
            Sandbox::Kill => {
                if self.seccomp == Filtering::Off {
                    gaps.push("system calls are not filtered: the kernel refuses the filter".to_owned());
                }
                if let Some(lack) = self.landlock.lack(self.ports_are_known) {
                    gaps.push(format!("this kernel cannot {lack}"));
                }
            }
        }
        gaps
    }
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {} group {}", self.user.uid, self.user.gid)?;
        if !self.user.groups.is_empty() {
            write!(f, " supplementary groups {:?}", self.user.groups)?;
        }
        write!(f, ", {}", self.capabilities.names().join(" "))?;
        if self.capabilities.locked {
            f.write_str(" with an empty bounding set")?;
        }
        f.write_str(", no_new_privs, seccomp ")?;
        f.write_str(match self.seccomp {
            Filtering::Kill => "kill",
            Filtering::Log => "log",
            Filtering::Off => "off",
        })?;
        let Restricted { abi, files, ports, scopes } = self.landlock;
        if abi == 0 {
            return f.write_str(", Landlock off");
        }
        write!(f, ", Landlock {abi}")?;
        let parts = [("files", files), ("ports", ports), ("signals and abstract sockets", scopes)];
        let parts: Vec<_> = parts.iter().filter(|(_, used)| *used).map(|(part, _)| *part).collect();
        write!(f, " ({})", parts.join(", "))
    }
}

/// What this kernel has of what a worker is confined with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Available {
    /// seccomp filters that kill, log, and fail calls.
    pub(crate) seccomp: bool,
    /// Version of Landlock's interface, as far as this program knows it; 0: none.
    pub(crate) landlock: u32,
}

impl Available {
    /// Asks the kernel, and changes nothing. Not for use inside the jail.
    pub(crate) fn here() -> Self {
        Self { seccomp: seccomp::available(), landlock: landlock::available() }
    }

    /// Whether a worker can be kept from other ports than the targets'.
    pub(crate) const fn keeps_ports(self) -> bool {
        self.landlock >= landlock::PORTS
    }

    /// Whether it can be kept from signals and abstract Unix sockets.
    pub(crate) const fn keeps_scopes(self) -> bool {
        self.landlock >= landlock::SCOPES
    }
}

/// One line for each.
impl fmt::Display for Available {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no_new_privs: available; capability sets: permitted, bounding, ambient\n")?;
        writeln!(f, "seccomp filters: {}", if self.seccomp { "available" } else { "not available" })?;
        match self.landlock {
            0 => f.write_str("Landlock: not available"),
            version => {
                write!(f, "Landlock: version {version}, keeps workers from files")?;
                if self.keeps_ports() {
                    f.write_str(", from other ports than the targets'")?;
                }
                if self.keeps_scopes() {
                    f.write_str(", from signals and abstract Unix sockets")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confined() -> Confined {
        Confined {
            user: Identity { uid: 65534, gid: 65534, groups: Vec::new(), kept_because: None },
            capabilities: Capabilities::of_net_raw(),
            landlock: Restricted { abi: 7, files: true, ports: true, scopes: true },
            seccomp: Filtering::Kill,
            sandbox: Sandbox::Kill,
            ports_are_known: true,
        }
    }

    #[test]
    fn what_is_in_force_is_one_line() {
        assert_eq!(
            confined().to_string(),
            "user 65534 group 65534, CAP_NET_RAW with an empty bounding set, no_new_privs, seccomp kill, \
             Landlock 7 (files, ports, signals and abstract sockets)"
        );
        assert!(confined().gaps().is_empty());
    }

    #[test]
    fn what_is_not_in_force_is_named() {
        let mut less = confined();
        less.user = Identity { uid: 0, gid: 0, groups: vec![4], kept_because: Some("not mapped".to_owned()) };
        less.landlock = Restricted { abi: 2, files: true, ports: false, scopes: false };
        assert_eq!(
            less.gaps(),
            [
                "the worker keeps user 0 and group 0: not mapped",
                "this kernel cannot keep connections to the targets' ports: that takes Linux 6.7",
            ]
        );
        assert!(less.to_string().starts_with("user 0 group 0 supplementary groups [4], CAP_NET_RAW"));
        // A header may name any port: then nothing is missing there.
        less.ports_are_known = false;
        less.landlock = Restricted { abi: 6, files: true, ports: false, scopes: true };
        assert_eq!(less.gaps().len(), 1);
    }

    #[test]
    fn a_report_survives_the_way_from_the_worker_to_whoever_logs_it() {
        let sent = serde_json::to_string(&confined()).unwrap();
        assert_eq!(serde_json::from_str::<Confined>(&sent).unwrap(), confined());
    }
}
