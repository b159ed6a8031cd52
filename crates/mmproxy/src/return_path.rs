//! The return path as the start-up lines and the `setup`, `teardown` and `check` commands speak of it.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use mmproxy_forwarder::{Family, TargetAddr, Targets};
use mmproxy_routing::{
    Applied, Blame, Families, Lease, Observed, Outcome, Plan, Policy, RoutingError, State, Transport,
    families_available, ipv6_off,
};

use crate::cli::{FamilyArg, ReturnPathArgs, ReturnPathMode};
use crate::console::Console;
use crate::exit::{Exit, Failure};

/// The plan that serves `families` of `targets`. A host without IPv6 is served for IPv4 alone, and told so.
pub(crate) fn plan(
    path: ReturnPathArgs,
    targets: Option<&Targets>,
    mut families: Families,
    console: &mut Console,
) -> Result<Plan, Failure> {
    if families.v6
        && let Some(off) = ipv6_off()
    {
        console.always(format_args!("[!] No return path for IPv6 clients: {off}."));
        families.v6 = false;
    }
    let plan = choose(path, targets, families)?;
    if path.return_path == ReturnPathMode::Auto {
        console.fine(format_args!(
            "[+] Return path: {}, which serves TCP targets on any address of this host.",
            plan.mode()
        ));
    }
    Ok(plan)
}

/// The plan of the mode that was asked for.
pub(crate) fn choose(
    path: ReturnPathArgs,
    targets: Option<&Targets>,
    families: Families,
) -> Result<Plan, Failure> {
    let settings = path.settings();
    let target = |family| targets.and_then(|targets| targets.of(family)).map(TargetAddr::addr);
    match path.return_path {
        ReturnPathMode::Auto | ReturnPathMode::Fwmark => Ok(Plan::fwmark(settings, families)),
        ReturnPathMode::Source => {
            let elsewhere =
                [Family::V4, Family::V6].into_iter().filter_map(target).find(|addr| !addr.ip().is_loopback());
            match elsewhere {
                None => Ok(Plan::source(settings, families)),
                Some(address) => Err(Failure::new(
                    Exit::Usage,
                    format!("--return-path source serves loopback targets only, and {address} is none"),
                )
                .hint("use --return-path fwmark, which serves any address of this host")),
            }
        }
        ReturnPathMode::Port => {
            let (mut v4, mut v6) = (None, None);
            for address in [Family::V4, Family::V6].into_iter().filter_map(target) {
                match address {
                    SocketAddr::V4(address) => v4 = families.v4.then_some(address),
                    SocketAddr::V6(address) => v6 = families.v6.then_some(address),
                }
            }
            if v4.is_none() && v6.is_none() {
                return Err(Failure::new(Exit::Usage, "--return-path port needs the targets' ports")
                    .hint("give -4 or -6"));
            }
            Plan::port(settings, Transport::Tcp, v4, v6).map_err(|error| Failure::new(Exit::Usage, error))
        }
    }
}

/// The mark of spoofed connections, where the mode knows its packets by one.
pub(crate) fn mark(path: ReturnPathArgs) -> Option<NonZeroU32> {
    match path.return_path {
        ReturnPathMode::Auto | ReturnPathMode::Fwmark => NonZeroU32::new(path.mark.get()),
        ReturnPathMode::Source | ReturnPathMode::Port => None,
    }
}

/// The families of these targets.
pub(crate) fn families_of(targets: &Targets) -> Families {
    Families { v4: targets.of(Family::V4).is_some(), v6: targets.of(Family::V6).is_some() }
}

/// The families a command works on: those of this host, or what it was told.
pub(crate) fn families(wanted: FamilyArg) -> Families {
    match wanted {
        FamilyArg::Available => families_available(),
        FamilyArg::Ipv4 => Families::V4,
        FamilyArg::Ipv6 => Families::V6,
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
