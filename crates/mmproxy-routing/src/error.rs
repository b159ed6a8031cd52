//! Why a return path could not be looked at, installed or removed.

use std::fmt;
use std::io;

use crate::family::Ipv6Off;

/// What went wrong with the return path, and in its text what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoutingError {
    /// The process may not change the network namespace.
    #[error(
        "no permission to {action}: CAP_NET_ADMIN is missing (run as root, or give it with \
         `AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW` in the systemd unit or `setcap cap_net_admin,cap_net_raw+ep`)"
    )]
    Permission {
        /// What was tried: usually the command that would do the same.
        action: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// `/proc/sys` cannot be written, as in most containers.
    #[error(
        "cannot set sysctl {name}: /proc/sys is mounted read-only; set it from outside (docker: `--sysctl {name}=1`, \
         Kubernetes: `securityContext.sysctls`) and start again"
    )]
    SysctlReadOnly {
        /// The switch.
        name: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel has no such switch.
    #[error(
        "this kernel has no sysctl {name}: Linux 3.15 or newer is needed, with /proc mounted (and IPv6 built in, \
         where the name says ipv6)"
    )]
    SysctlAbsent {
        /// The switch.
        name: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The mode needs a program that is not there.
    #[error("this mode needs the program `nft`: install the package nftables")]
    NftMissing {
        /// Why it could not be started.
        #[source]
        source: io::Error,
    },
    /// The plan has IPv6 steps, but this network namespace has no IPv6.
    #[error("IPv6 is wanted but {0}")]
    Ipv6Off(Ipv6Off),
    /// Nothing can be delivered on this machine.
    #[error("the loopback interface is down: run `ip link set lo up`")]
    LoopbackDown,
    /// Something of somebody else's stands where ours has to be.
    #[error("`{step}` would not bring replies back: {found}; {cure}")]
    Conflict {
        /// The command that would be run.
        step: String,
        /// What is there, and whose it is.
        found: String,
        /// What to choose instead.
        cure: &'static str,
    },
    /// Another instance is starting or stopping, and does not come to an end.
    #[error(
        "the return path is locked by process {holder} for more than {seconds} s: wait for it, or end it if it hangs"
    )]
    Locked {
        /// Who holds the lock, as a process number in our pid namespace (0: outside of it).
        holder: i32,
        /// How long we waited.
        seconds: u64,
    },
    /// Anything else the kernel refused.
    #[error("cannot {action}")]
    Kernel {
        /// What was tried: usually the command that would do the same.
        action: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl RoutingError {
    /// A refusal whose errno says it all.
    pub(crate) fn kernel(action: impl Into<String>, source: io::Error) -> Self {
        Self::Kernel { action: action.into(), source }
    }

    /// The refusal of a change; `command` is what an operator would type for it.
    pub(crate) fn change(command: &impl fmt::Display, source: io::Error) -> Self {
        let action = format!("run `{command}`");
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::Permission { action, source }
        } else {
            Self::Kernel { action, source }
        }
    }

    /// Who can cure it.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Permission { .. } | Self::SysctlReadOnly { .. } => Blame::Permission,
            Self::NftMissing { .. } | Self::Ipv6Off(_) | Self::LoopbackDown | Self::Conflict { .. } => {
                Blame::Configuration
            }
            Self::SysctlAbsent { .. } | Self::Locked { .. } | Self::Kernel { .. } => Blame::Kernel,
        }
    }
}

/// Who can cure a [`RoutingError`]: decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// Whoever starts the process: it lacks a capability, or runs where nothing may be changed.
    Permission,
    /// Whoever configures it: another mark, table or family is needed.
    Configuration,
    /// The machine: its kernel cannot, or is busy.
    Kernel,
}
