//! What a worker keeps once it has what it needs: one capability, its sockets, and a short list of system calls.
//!
//! [`confine`] is called once, while the process has a single thread, after everything that takes a file or a right
//! was done. What it takes away cannot be had back. The order matters, because each step needs what a later one takes:
//! user and groups first (they need CAP_SETUID and CAP_SETGID), then the capabilities, then `no_new_privs`, without
//! which an unprivileged process may install neither Landlock rules nor a seccomp filter, and the filter last.

mod capabilities;
mod error;
mod identity;
mod landlock;
mod process;
mod report;
mod seccomp;

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

pub(crate) use self::capabilities::lending;
pub(crate) use self::error::JailError;
pub(crate) use self::identity::{UserSpec, UserUnknown};
pub(crate) use self::report::{Available, Confined};
pub(crate) use self::seccomp::{listed, refuse_capset};

/// What a worker needs and may do; everything else is taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Confinement {
    /// Whom to become; `None` keeps the user.
    pub(crate) user: Option<UserSpec>,
    /// Keep CAP_NET_BIND_SERVICE: clients' ports below 1024 are to be kept.
    pub(crate) keep_bind_low_ports: bool,
    /// Keep CAP_NET_ADMIN: `SO_MARK` needs it before Linux 5.17, `TCP_REPAIR` always.
    pub(crate) keep_net_admin: bool,
    /// What happens to a system call that is not on the list.
    pub(crate) sandbox: Sandbox,
    /// Where connections may be made to. Linux 6.7 and later can keep to it.
    pub(crate) connect_ports: ConnectPorts,
    /// Whether datagrams are forwarded; if not, no UDP socket can be made.
    pub(crate) datagrams: bool,
    /// What may be left out where the kernel does not have it.
    pub(crate) may_lack: MayLack,
}

/// What happens to what is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sandbox {
    /// The process ends (SIGSYS), or the call fails where [`seccomp`] says so; Landlock refuses files and ports.
    Kill,
    /// The kernel writes a line and does it: a dry run. Landlock has no such mode, so it is not used.
    Log,
    /// Nothing: neither a filter nor Landlock. User and capabilities are dropped all the same.
    Off,
}

/// TCP ports that may be connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ConnectPorts {
    /// Those of the targets.
    Only(Vec<RangeInclusive<u16>>),
    /// All: a header may name any port.
    Any,
}

/// What a kernel may lack without that being a reason not to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MayLack {
    /// Nothing: seccomp filters, and Landlock with ports and scopes (Linux 6.12), have to be there.
    Nothing,
    /// Landlock, or the later parts of it. seccomp filters have to be there.
    Landlock,
    /// Anything.
    Anything,
}

/// Takes away everything that is not in `confinement`, for good, and tells what is in force then.
///
/// # Errors
///
/// More than one thread runs; CAP_NET_RAW is missing; a step failed that `confinement` insists on. What was taken away
/// before that stays away: the process is to end.
pub(crate) fn confine(confinement: &Confinement) -> Result<Confined, JailError> {
    process::require_single_thread()?;
    process::forbid_core_dumps()?;
    let user = identity::assume(confinement.user.as_ref())?;
    let capabilities = capabilities::settle(confinement.keep_bind_low_ports, confinement.keep_net_admin)?;
    process::forbid_new_privileges()?;
    // After the user was changed, which sets it anew.
    process::forbid_inspection()?;
    let landlock = match confinement.sandbox {
        Sandbox::Kill => landlock::restrict(&confinement.connect_ports, confinement.may_lack)?,
        Sandbox::Log | Sandbox::Off => landlock::Restricted::default(),
    };
    // Last, because it refuses what the steps above have done.
    let seccomp = seccomp::install(confinement.sandbox, confinement.datagrams, confinement.may_lack)?;
    let ports_are_known = landlock::only(&confinement.connect_ports).is_some();
    Ok(Confined { user, capabilities, landlock, seccomp, sandbox: confinement.sandbox, ports_are_known })
}
