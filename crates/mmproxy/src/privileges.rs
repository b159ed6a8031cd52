//! What the process must be allowed to do, and the exact cure where it is not.

use caps::{CapSet, Capability};

use crate::exit::{Exit, Failure};

/// Whether the process has `capability` in its effective set.
pub(crate) fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// Refuses to go on without what a transparent, marked socket needs: CAP_NET_RAW, or CAP_NET_ADMIN.
///
/// IP_TRANSPARENT takes either (ip(7)); SO_MARK takes CAP_NET_RAW since Linux 5.17 (socket(7)).
pub(crate) fn require_spoofing() -> Result<(), Failure> {
    if has(Capability::CAP_NET_RAW) || has(Capability::CAP_NET_ADMIN) {
        return Ok(());
    }
    Err(missing("CAP_NET_RAW", "connections from the clients' addresses cannot be made"))
}

/// The failure for a missing capability, with the lines that grant what the gateway needs.
pub(crate) fn missing(capability: &str, consequence: &str) -> Failure {
    let failure = Failure::new(Exit::NoPermission, format!("{capability} is missing: {consequence}"));
    grant(failure, "cap_net_admin,cap_net_raw")
}

/// Adds the lines that grant `capabilities`, written as setcap(8) takes them.
pub(crate) fn grant(failure: Failure, capabilities: &str) -> Failure {
    failure.hint(format!("run it as root, or: sudo setcap {capabilities}+ep {}", executable())).hint(format!(
        "or, in a systemd unit: AmbientCapabilities={}",
        capabilities.to_uppercase().replace(',', " ")
    ))
}

fn executable() -> String {
    std::env::current_exe().map_or_else(|_| "mmproxy".to_owned(), |path| path.display().to_string())
}
