//! What we changed, recorded in the kernel itself.
//!
//! A switch is either on or off, so nothing tells whether we turned it on. Our local route remembers it: its metric
//! holds one bit for each switch that was off before. The record lives exactly as long as what it is about (in the
//! same network namespace, beyond the end of a killed process), is written and read with the same permission, and
//! needs no file. Whoever removes the route for good turns those switches off again.

use std::fmt;

use crate::rtnl::KernelRoute;
use crate::step::Sysctl;

/// How long an object of ours is meant to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Lifetime {
    /// As long as a running instance needs it.
    Leased,
    /// From `setup` to `teardown`.
    Permanent,
}

impl Lifetime {
    /// The maker's number on rules and routes of ours: `proto 109` and `proto 77` in the output of `ip`.
    ///
    /// Private values, above those the kernel keeps for itself and not in `/etc/iproute2/rt_protos`; the letters m
    /// and M. Never change them: a newer version removes what an older one left behind.
    pub(crate) const fn protocol(self) -> u8 {
        match self {
            Self::Leased => b'm',
            Self::Permanent => b'M',
        }
    }

    /// What an object of this maker is meant for, if it is ours.
    pub(crate) const fn of_protocol(protocol: u8) -> Option<Self> {
        match protocol {
            b'm' => Some(Self::Leased),
            b'M' => Some(Self::Permanent),
            _ => None,
        }
    }

    /// The upper half of the metric of our routes: "mp" and "MP".
    const fn signature(self) -> u32 {
        match self {
            Self::Leased => 0x6d70_0000,
            Self::Permanent => 0x4d50_0000,
        }
    }
}

/// The record in one of our routes.
///
/// Such a metric is far behind any that people use, so that a route somebody made by hand is always preferred, and
/// ours beside it has no effect but to remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ledger {
    lifetime: Lifetime,
    changed: Switches,
}

impl Ledger {
    pub(crate) const fn new(lifetime: Lifetime, changed: Switches) -> Self {
        Self { lifetime, changed }
    }

    /// The record in a route, if it is one of ours.
    pub(crate) fn read(route: &KernelRoute) -> Option<Self> {
        let lifetime = Lifetime::of_protocol(route.protocol)?;
        (route.metric & 0xffff_0000 == lifetime.signature())
            .then_some(Self { lifetime, changed: Switches((route.metric & 0xffff) as u16) })
    }

    pub(crate) const fn lifetime(self) -> Lifetime {
        self.lifetime
    }

    /// The switches that we turned on.
    pub(crate) const fn changed(self) -> Switches {
        self.changed
    }

    pub(crate) const fn metric(self) -> u32 {
        self.lifetime.signature() | self.changed.0 as u32
    }
}

/// A set of kernel switches.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Switches(u16);

impl Switches {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn contains(self, sysctl: Sysctl) -> bool {
        self.0 & bit(sysctl) != 0
    }

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The switches in it. Bits of a newer version, which we cannot name, are left out.
    pub(crate) fn iter(self) -> impl Iterator<Item = Sysctl> {
        Sysctl::ALL.into_iter().filter(move |&sysctl| self.contains(sysctl))
    }
}

impl FromIterator<Sysctl> for Switches {
    fn from_iter<I: IntoIterator<Item = Sysctl>>(switches: I) -> Self {
        switches.into_iter().fold(Self::NONE, |set, sysctl| Self(set.0 | bit(sysctl)))
    }
}

impl fmt::Debug for Switches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The place of a switch in the record. Never change one: a newer version reads what an older one wrote.
const fn bit(sysctl: Sysctl) -> u16 {
    match sysctl {
        Sysctl::TcpFwmarkAccept => 1 << 0,
        Sysctl::FwmarkReflectV4 => 1 << 1,
        Sysctl::FwmarkReflectV6 => 1 << 2,
    }
}
