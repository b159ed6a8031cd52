//! What we changed, recorded in the kernel itself.
//!
//! A switch is either on or off, so nothing tells whether we turned it on. Our local route remembers it: its metric
//! holds one bit for each switch that was off before. The record lives exactly as long as what it is about (in the
//! same network namespace, beyond the end of a killed process), is written and read with the same permission, and
//! needs no file. Whoever removes the route for good turns those switches off again.

use std::collections::BTreeSet;
use std::fmt;

use crate::rtnl::KernelRoute;
use crate::step::{Device, Sysctl};

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
///
/// A switch of one interface is recorded by a route that names the interface instead of lo. In IPv4, where there are
/// such switches, a local route does the same whatever interface it names; and it goes when the interface goes, as
/// the switch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ledger {
    lifetime: Lifetime,
    bits: u16,
    device: Option<Device>,
}

impl Ledger {
    /// The records that together hold these switches: one, or more if they are of several interfaces.
    pub(crate) fn holding(lifetime: Lifetime, changed: &Switches) -> Vec<Self> {
        let mut devices = changed.devices.iter().copied();
        let first = Self { lifetime, bits: changed.bits, device: devices.next() };
        let others = devices.map(|device| Self { lifetime, bits: 0, device: Some(device) });
        std::iter::once(first).chain(others).collect()
    }

    /// The record in a route, if it is one of ours.
    pub(crate) fn read(route: &KernelRoute) -> Option<Self> {
        let lifetime = Lifetime::of_protocol(route.protocol)?;
        if route.metric & 0xffff_0000 != lifetime.signature() {
            return None;
        }
        let bits = (route.metric & 0xffff) as u16;
        let device = match bits & ROUTE_LOCALNET {
            0 => None,
            _ => Some(route.device_name()?.parse().ok()?),
        };
        Some(Self { lifetime, bits: bits & !ROUTE_LOCALNET, device })
    }

    pub(crate) const fn lifetime(self) -> Lifetime {
        self.lifetime
    }

    /// The interface that the route has to name, if not lo.
    pub(crate) const fn device(self) -> Option<Device> {
        self.device
    }

    /// The switches that we turned on.
    pub(crate) fn changed(self) -> Switches {
        Switches { bits: self.bits, devices: self.device.into_iter().collect() }
    }

    pub(crate) const fn metric(self) -> u32 {
        let localnet = if self.device.is_some() { ROUTE_LOCALNET } else { 0 };
        self.lifetime.signature() | (self.bits | localnet) as u32
    }
}

/// A set of kernel switches, and what else there is to remember.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Switches {
    bits: u16,
    /// The interfaces whose `route_localnet` is in the set.
    devices: BTreeSet<Device>,
}

impl Switches {
    /// No switch, but that there is an nftables table of ours: without this, nobody looks for one.
    pub(crate) fn netfilter() -> Self {
        Self { bits: NETFILTER, devices: BTreeSet::new() }
    }

    pub(crate) const fn uses_netfilter(&self) -> bool {
        self.bits & NETFILTER != 0
    }

    pub(crate) fn contains(&self, sysctl: Sysctl) -> bool {
        match sysctl {
            Sysctl::RouteLocalnet(device) => self.devices.contains(&device),
            Sysctl::TcpFwmarkAccept | Sysctl::FwmarkReflectV4 | Sysctl::FwmarkReflectV6 => {
                self.bits & bit(sysctl) != 0
            }
        }
    }

    pub(crate) fn union(mut self, other: Self) -> Self {
        self.bits |= other.bits;
        self.devices.extend(other.devices);
        self
    }

    pub(crate) fn without(mut self, other: &Self) -> Self {
        self.bits &= !other.bits;
        self.devices.retain(|device| !other.devices.contains(device));
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The switches in it. Bits of a newer version, which we cannot name, are left out.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Sysctl> {
        let everywhere = [Sysctl::TcpFwmarkAccept, Sysctl::FwmarkReflectV4, Sysctl::FwmarkReflectV6];
        everywhere
            .into_iter()
            .filter(|&sysctl| self.contains(sysctl))
            .chain(self.devices.iter().copied().map(Sysctl::RouteLocalnet))
    }
}

impl FromIterator<Sysctl> for Switches {
    fn from_iter<I: IntoIterator<Item = Sysctl>>(switches: I) -> Self {
        let mut set = Self::default();
        for sysctl in switches {
            match sysctl {
                Sysctl::RouteLocalnet(device) => drop(set.devices.insert(device)),
                Sysctl::TcpFwmarkAccept | Sysctl::FwmarkReflectV4 | Sysctl::FwmarkReflectV6 => {
                    set.bits |= bit(sysctl);
                }
            }
        }
        set
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
        Sysctl::RouteLocalnet(_) => ROUTE_LOCALNET,
    }
}

/// The switch of the interface that the route names.
const ROUTE_LOCALNET: u16 = 1 << 3;
/// No switch: there is a table of ours in nftables.
const NETFILTER: u16 = 1 << 15;
