//! What must be in a network namespace for replies to come back, as data.

mod written;

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::mode::{Families, Family, Mark, Mode, SettingError, Settings, Transport};
use crate::netfilter::{Job, Netfilter, Redirect};
use crate::step::{Device, LocalRoute, Rule, Selector, Step, Sysctl};

/// The objects of one return path, in the order in which an operator would make them.
///
/// A plan is pure data: it can be printed (one command a line), compared with what the kernel has
/// ([`observe`](crate::observe)), applied and removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    recipe: Recipe,
    settings: Settings,
    steps: Vec<Step>,
}

/// All that a plan is made from, beside its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recipe {
    Fwmark(Families),
    Source(Families),
    Connmark { families: Families, device: Option<Device> },
    Socket(Families),
    Port { transport: Transport, v4: Option<SocketAddrV4>, v6: Option<SocketAddrV6> },
    Tproxy { redirect: Redirect, families: Families },
}

impl Plan {
    /// The return path for targets on any address of this host: replies inherit the mark of the spoofed SYN.
    ///
    /// For TCP. A UDP socket inherits no mark.
    #[must_use]
    pub fn fwmark(settings: Settings, families: Families) -> Self {
        let mut steps = Vec::new();
        if families.v4 || families.v6 {
            // An IPv4 name, but it is the switch for IPv6 sockets too.
            steps.push(Step::Sysctl(Sysctl::TcpFwmarkAccept));
        }
        if families.v4 {
            steps.push(Step::Sysctl(Sysctl::FwmarkReflectV4));
        }
        if families.v6 {
            steps.push(Step::Sysctl(Sysctl::FwmarkReflectV6));
        }
        for family in families.iter() {
            steps.extend(rule_and_route(&settings, family, Selector::Fwmark(settings.mark), None));
        }
        Self { recipe: Recipe::Fwmark(families), settings, steps }
    }

    /// The return path for targets on the loopback addresses: whatever they send to somebody else comes back.
    ///
    /// For TCP, and for UDP where the target is bound to the loopback address. Needs no mark and no switch, and
    /// catches every packet from a loopback address to one that is not this host's.
    #[must_use]
    pub fn source(settings: Settings, families: Families) -> Self {
        let settings = settings.without_mark();
        let steps = families
            .iter()
            .flat_map(|family| rule_and_route(&settings, family, Selector::FromLoopback, None))
            .collect();
        Self { recipe: Recipe::Source(families), settings, steps }
    }

    /// The return path for one server in each family, known by its port: whatever is sent from that port comes back.
    ///
    /// For UDP, also where the server is bound to the wildcard address: it answers from the address of `v4` and `v6`
    /// then, as if it had been asked there. Its answers to clients that asked it directly are caught as well.
    ///
    /// # Errors
    ///
    /// [`SettingError::TargetUnspecified`], [`SettingError::TargetPortZero`].
    pub fn port(
        settings: Settings,
        transport: Transport,
        v4: Option<SocketAddrV4>,
        v6: Option<SocketAddrV6>,
    ) -> Result<Self, SettingError> {
        let settings = settings.without_mark();
        let mut steps = Vec::new();
        for target in v4.map(SocketAddr::V4).into_iter().chain(v6.map(SocketAddr::V6)) {
            if target.ip().is_unspecified() {
                return Err(SettingError::TargetUnspecified(target));
            }
            if target.port() == 0 {
                return Err(SettingError::TargetPortZero(target));
            }
            let selector = Selector::SourcePort { transport, port: target.port() };
            steps.extend(rule_and_route(&settings, target.ip().into(), selector, Some(target.ip())));
        }
        Ok(Self { recipe: Recipe::Port { transport, v4, v6 }, settings, steps })
    }

    /// The return path of the original mmproxy: the connection tracker brings the mark to the replies.
    ///
    /// A reply is routed once before it gets its mark, so that there must be a default route in each family.
    /// `default_device` is the interface of that in IPv4, which must let loopback addresses pass as far as that;
    /// without it, targets on 127.0.0.0/8 are not served. [`default_device`](crate::default_device) finds it.
    #[must_use]
    pub fn connmark(settings: Settings, families: Families, default_device: Option<Device>) -> Self {
        let device = default_device.filter(|_| families.v4);
        let mut steps: Vec<Step> =
            device.map(|device| Step::Sysctl(Sysctl::RouteLocalnet(device))).into_iter().collect();
        steps.extend(marked_by(&settings, families, Job::Connmark));
        Self { recipe: Recipe::Connmark { families, device }, settings, steps }
    }

    /// The return path for targets elsewhere whose route back to any client leads through this machine: containers,
    /// virtual machines, hosts behind this one. TCP and UDP.
    #[must_use]
    pub fn socket(settings: Settings, families: Families) -> Self {
        let steps = marked_by(&settings, families, Job::Socket);
        Self { recipe: Recipe::Socket(families), settings, steps }
    }

    /// No return path, but the way in: what comes from elsewhere for a range of ports is handed to one transparent
    /// listener of this host (TPROXY).
    ///
    /// For a gateway that listens with `IP_TRANSPARENT`. `families` are those of a listener on the wildcard address; one on
    /// another address has that one's. `settings` have to name another mark and another table than
    /// the return path's: what is not for an address of this host is looked up in that table, once, on its way in.
    #[must_use]
    pub fn tproxy(settings: Settings, families: Families, redirect: Redirect) -> Self {
        let families = redirect.to.map_or(families, Redirect::families);
        let steps = marked_by(&settings, families, Job::Tproxy(redirect));
        Self { recipe: Recipe::Tproxy { redirect, families }, settings, steps }
    }

    /// The mode it was made for; `None` for the [way in](Self::tproxy), which brings nothing back.
    #[must_use]
    pub const fn mode(&self) -> Option<Mode> {
        match self.recipe {
            Recipe::Fwmark(_) => Some(Mode::Fwmark),
            Recipe::Source(_) => Some(Mode::Source),
            Recipe::Port { .. } => Some(Mode::Port),
            Recipe::Connmark { .. } => Some(Mode::Connmark),
            Recipe::Socket(_) => Some(Mode::Socket),
            Recipe::Tproxy { .. } => None,
        }
    }

    /// The numbers it was made with.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The mark that spoofed sockets have to carry (`SO_MARK`); `None` where they must not carry that of the settings.
    #[must_use]
    pub const fn socket_mark(&self) -> Option<Mark> {
        match self.mode() {
            Some(mode) if mode.marks_sockets() => Some(self.settings.mark),
            Some(_) | None => None,
        }
    }

    /// The families it serves.
    #[must_use]
    pub const fn families(&self) -> Families {
        match self.recipe {
            Recipe::Fwmark(families)
            | Recipe::Source(families)
            | Recipe::Socket(families)
            | Recipe::Connmark { families, .. }
            | Recipe::Tproxy { families, .. } => families,
            Recipe::Port { v4, v6, .. } => Families { v4: v4.is_some(), v6: v6.is_some() },
        }
    }

    /// Its objects, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The switches among its objects.
    pub(crate) fn sysctls(&self) -> impl Iterator<Item = Sysctl> {
        self.steps.iter().filter_map(|step| match step {
            Step::Sysctl(sysctl) => Some(*sysctl),
            Step::Rule(_) | Step::LocalRoute(_) | Step::Netfilter(_) => None,
        })
    }

    /// The policy rules among its objects.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.steps.iter().filter_map(|step| match step {
            Step::Rule(rule) => Some(rule),
            Step::Sysctl(_) | Step::LocalRoute(_) | Step::Netfilter(_) => None,
        })
    }

    /// The routes among its objects.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &LocalRoute> {
        self.steps.iter().filter_map(|step| match step {
            Step::LocalRoute(route) => Some(route),
            Step::Sysctl(_) | Step::Rule(_) | Step::Netfilter(_) => None,
        })
    }

    /// The nftables tables among its objects.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Netfilter> {
        self.steps.iter().filter_map(|step| match step {
            Step::Netfilter(table) => Some(table),
            Step::Sysctl(_) | Step::Rule(_) | Step::LocalRoute(_) => None,
        })
    }

    /// Whether both plans have a route in common.
    pub(crate) fn shares_routes(&self, other: &Self) -> bool {
        self.routes().any(|route| other.routes().any(|theirs| theirs == route))
    }
}

/// One command a line, each of which an operator could type.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

/// A table in nftables marks the replies, and what is marked is looked up in our table.
fn marked_by(settings: &Settings, families: Families, job: Job) -> Vec<Step> {
    let Settings { mark, table, .. } = *settings;
    let tables = families.iter().map(|family| Step::Netfilter(Netfilter { family, job, mark, table }));
    let marked =
        families.iter().flat_map(|family| rule_and_route(settings, family, Selector::Fwmark(mark), None));
    tables.chain(marked).collect()
}

/// What `selector` picks is looked up in our table, where everything is local.
fn rule_and_route(
    settings: &Settings,
    family: Family,
    selector: Selector,
    source: Option<IpAddr>,
) -> [Step; 2] {
    let Settings { table, priority, .. } = *settings;
    [
        Step::Rule(Rule { family, selector, table, priority }),
        Step::LocalRoute(LocalRoute { family, source, table }),
    ]
}

#[cfg(test)]
pub(crate) mod tests;
