//! What is left of root's rights.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capability_is_in_ambient_set,
    capability_is_in_bounding_set, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
};
use serde::{Deserialize, Serialize};

/// The capabilities that are left, as the kernel says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Capabilities {
    /// Bits of the effective set, which is the permitted one too; inheritable and ambient sets are empty.
    effective: u64,
    /// Whether no program that this process could start can have any, and whether that is locked (securebits). Takes
    /// CAP_SETPCAP; without it `no_new_privs` has the same effect.
    pub(super) locked: bool,
}

impl Capabilities {
    /// Their names, such as `CAP_NET_RAW`.
    pub(super) fn names(&self) -> Vec<String> {
        let set = CapabilitySet::from_bits_retain(self.effective);
        set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
    }
}

#[cfg(test)]
impl Capabilities {
    /// What a worker is left with most often.
    pub(super) fn of_net_raw() -> Self {
        Self { effective: CapabilitySet::NET_RAW.bits(), locked: true }
    }
}

/// Why capabilities could not be reduced to the necessary.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CapabilityError {
    /// IP_TRANSPARENT takes CAP_NET_RAW or CAP_NET_ADMIN (ip(7)), SO_MARK the same (socket(7)).
    #[error("CAP_NET_RAW is missing: connections from the clients' addresses cannot be made")]
    Missing,
    #[error("cannot {action}")]
    Kernel {
        action: &'static str,
        #[source]
        error: Errno,
    },
}

/// Gives up everything but CAP_NET_RAW and what is asked for, of which only what is there can be kept.
pub(super) fn settle(bind_low_ports: bool, net_admin: bool) -> Result<Capabilities, CapabilityError> {
    let held = read()?;
    let kept = kept(held.permitted, bind_low_ports, net_admin).ok_or(CapabilityError::Missing)?;
    let locked = held.permitted.contains(CapabilitySet::SETPCAP);
    if locked {
        set(kept | CapabilitySet::SETPCAP).map_err(failed("drop capabilities"))?;
        empty_bounding_set()?;
        set_capabilities_secure_bits(LOCKED).map_err(failed("lock the securebits"))?;
    }
    match clear_ambient_capability_set() {
        // Before Linux 4.3 there is no such set.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(failed("clear the ambient capabilities")(error)),
    }
    match set(kept) {
        Ok(()) => {}
        // Whoever started this lets nobody change capabilities, and gave it the right ones. What is inheritable may be
        // left then; that takes a program with capabilities of its own, which no_new_privs rules out.
        Err(Errno::PERM) if (held.effective, held.permitted) == (kept, kept) => {}
        Err(error) => return Err(failed("drop capabilities")(error)),
    }
    Ok(Capabilities { effective: read()?.effective.bits(), locked })
}

/// Runs `start`, which starts a worker, so that the worker has no more ambient capabilities than it will keep.
///
/// That spares it from having to drop them, which a service manager's filter may refuse. The calling thread has them
/// again afterwards.
pub(crate) fn lending<T>(bind_low_ports: bool, net_admin: bool, start: impl FnOnce() -> T) -> T {
    let ambient =
        CapabilitySet::all().iter().filter(|one| capability_is_in_ambient_set(*one).unwrap_or(false));
    let ambient: CapabilitySet = ambient.collect();
    let lent = kept(ambient, bind_low_ports, net_admin).unwrap_or(ambient);
    let held_back = ambient.difference(lent);
    // Neither fails for what is in the set: and if it did, the worker would drop it itself, or refuse to start.
    let each = |enable| {
        for one in held_back.iter() {
            configure_capability_in_ambient_set(one, enable).ok();
        }
    };
    each(false);
    let started = start();
    each(true);
    started
}

/// What a worker keeps of `available`; `None` if that is not enough to spoof.
fn kept(available: CapabilitySet, bind_low_ports: bool, net_admin: bool) -> Option<CapabilitySet> {
    let mut kept = spoofing(available)?;
    kept.set(CapabilitySet::NET_BIND_SERVICE, bind_low_ports);
    kept.set(CapabilitySet::NET_ADMIN, net_admin || kept.contains(CapabilitySet::NET_ADMIN));
    Some(kept & available)
}

/// What a transparent, marked socket takes, of what there is: the smaller one first.
fn spoofing(permitted: CapabilitySet) -> Option<CapabilitySet> {
    [CapabilitySet::NET_RAW, CapabilitySet::NET_ADMIN].into_iter().find(|one| permitted.contains(*one))
}

fn read() -> Result<CapabilitySets, CapabilityError> {
    capabilities(None).map_err(failed("read the capabilities"))
}

fn set(kept: CapabilitySet) -> Result<(), Errno> {
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)
}

/// Up to the kernel's last one, whichever that is.
fn empty_bounding_set() -> Result<(), CapabilityError> {
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(one) {
            Ok(true) => remove_capability_from_bounding_set(one).map_err(failed("empty the bounding set"))?,
            Ok(false) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

fn failed(action: &'static str) -> impl FnOnce(Errno) -> CapabilityError {
    move |error| CapabilityError::Kernel { action, error }
}

/// User number 0 means nothing any more, and nothing brings that back.
const LOCKED: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_ROOT
    .union(CapabilitiesSecureBits::NO_ROOT_LOCKED)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED)
    .union(CapabilitiesSecureBits::KEEP_CAPS_LOCKED)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_capability_that_spoofs_is_chosen() {
        let (raw, admin) = (CapabilitySet::NET_RAW, CapabilitySet::NET_ADMIN);
        assert_eq!(spoofing(raw | admin | CapabilitySet::SYS_ADMIN), Some(raw));
        assert_eq!(spoofing(admin | CapabilitySet::SYS_ADMIN), Some(admin));
        assert_eq!(spoofing(CapabilitySet::SYS_ADMIN), None);
    }

    #[test]
    fn a_worker_keeps_what_it_was_given_and_needs_and_nothing_else() {
        let all = CapabilitySet::all();
        let (raw, admin, bind) =
            (CapabilitySet::NET_RAW, CapabilitySet::NET_ADMIN, CapabilitySet::NET_BIND_SERVICE);
        assert_eq!(kept(all, false, false), Some(raw));
        assert_eq!(kept(all, true, true), Some(raw | bind | admin));
        assert_eq!(kept(raw | CapabilitySet::SYS_ADMIN, true, true), Some(raw), "what is not there");
        assert_eq!(kept(admin | bind, false, false), Some(admin));
        assert_eq!(kept(bind, true, false), None);
    }

    #[test]
    fn capabilities_are_named_as_everybody_names_them() {
        let kept = CapabilitySet::NET_RAW | CapabilitySet::NET_BIND_SERVICE;
        let kept = Capabilities { effective: kept.bits(), locked: true };
        assert_eq!(kept.names(), ["CAP_NET_BIND_SERVICE", "CAP_NET_RAW"]);
    }
}
