//! Which address families this network namespace has.

use std::fmt;
use std::fs;
use std::io;

use crate::mode::Families;

/// The families that a return path can be installed for here, in the calling thread's network namespace.
///
/// IPv4 is always there. Where IPv6 is not, [`ipv6_off`] says why.
#[must_use]
pub fn families_available() -> Families {
    Families { v4: true, v6: ipv6_off().is_none() }
}

/// Why there is no IPv6 in the calling thread's network namespace; `None` if there is.
#[must_use]
pub fn ipv6_off() -> Option<Ipv6Off> {
    match fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6") {
        Ok(value) if value.trim() == "0" => None,
        Ok(_) => Some(Ipv6Off::OnLoopback),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Ipv6Off::InKernel),
        // /proc is hidden from us; the kernel itself will say what is wrong, if anything is.
        Err(_) => None,
    }
}

/// Why a network namespace has no IPv6, and how it could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ipv6Off {
    /// The kernel was built or started without it.
    InKernel,
    /// Switched off on the loopback interface, where the replies have to pass.
    OnLoopback,
}

impl fmt::Display for Ipv6Off {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InKernel => {
                "this kernel has none (no module ipv6, or started with ipv6.disable=1): use IPv4 targets only"
            }
            Self::OnLoopback => {
                "it is switched off on the loopback interface: use IPv4 targets only, or run \
                 `sysctl -w net.ipv6.conf.lo.disable_ipv6=0`"
            }
        })
    }
}
