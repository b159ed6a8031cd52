//! The return path as the start-up lines and the `setup`, `teardown` and `check` commands speak of it.

use std::fmt;

use mmproxy_forwarder::{Family, Targets};
use mmproxy_routing::{
    Applied, Blame, Families, Lease, Observed, Outcome, Plan, Policy, RoutingError, Settings, State,
    families_available, ipv6_off,
};

use crate::console::Console;
use crate::exit::{Exit, Failure};

/// The plan that serves `families`. A host without IPv6 is served for IPv4 alone, and told so.
pub(crate) fn plan(settings: Settings, mut families: Families, console: &mut Console) -> Plan {
    if families.v6
        && let Some(off) = ipv6_off()
    {
        console.always(format_args!("[!] No return path for IPv6 clients: {off}."));
        families.v6 = false;
    }
    Plan::fwmark(settings, families)
}

/// The families of these targets.
pub(crate) fn families_of(targets: &Targets) -> Families {
    Families { v4: targets.of(Family::V4).is_some(), v6: targets.of(Family::V6).is_some() }
}

/// The families a command works on: those of this host, or what it was told.
pub(crate) fn families(wanted: crate::cli::FamilyArg) -> Families {
    match wanted {
        crate::cli::FamilyArg::Available => families_available(),
        crate::cli::FamilyArg::Ipv4 => Families::V4,
        crate::cli::FamilyArg::Ipv6 => Families::V6,
    }
}

/// Claims the return path for this run and prints what became of each of its objects.
pub(crate) async fn acquire(plan: Plan, policy: Policy, console: &mut Console) -> Result<Lease, Failure> {
    let lease = Lease::acquire(plan, policy).await.map_err(|error| match policy {
        Policy::Install => failure(error)
            .hint("or install it beforehand with `mmproxy setup` and start with --routing check"),
        Policy::CheckOnly => failure(error),
    })?;
    for applied in lease.applied() {
        print(applied, console);
    }
    Ok(lease)
}

/// One object, as a command an operator could type and what became of it.
pub(crate) fn print(applied: &Applied, console: &mut Console) {
    let step = Padded(&applied.step);
    match &applied.outcome {
        Outcome::Verified => console.fine(format_args!("{step} [+] VERIFIED")),
        Outcome::Added => console.fine(format_args!("{step} [+] ADDED")),
        Outcome::Missing => console.always(format_args!("{step} [!] MISSING")),
        Outcome::Different { found, cure } => {
            console.always(format_args!("{step} [!] MISSING: {found}; {cure}"));
        }
    }
}

/// The same for what was only looked at.
pub(crate) fn print_observed(observed: &Observed, console: &mut Console) {
    let step = Padded(&observed.step);
    match &observed.state {
        State::Present(_) => console.fine(format_args!("{step} [+] VERIFIED")),
        State::Missing => console.always(format_args!("{step} [!] MISSING")),
        State::Different { found, cure } => {
            console.always(format_args!("{step} [!] MISSING: {found}; {cure}"));
        }
    }
}

/// The failure that a routing error makes.
pub(crate) fn failure(error: RoutingError) -> Failure {
    let exit = match error.blame() {
        Blame::Permission => Exit::NoPermission,
        Blame::Configuration => Exit::Config,
        Blame::Kernel => Exit::Unavailable,
    };
    Failure::new(exit, error)
}

/// Commands in a column of their own, so that the verdicts line up.
struct Padded<T>(T);

impl<T: fmt::Display> fmt::Display for Padded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<COLUMN$}", self.0.to_string())
    }
}

const COLUMN: usize = 58;
