//! The return path as the start-up lines and the `setup`, `teardown` and `check` commands speak of it.

mod choice;

use std::fmt;

use mmproxy_forwarder::{DialOptions, Family as TargetFamily, Targets};
use mmproxy_routing::{
    Applied, Blame, Families, Family, Lease, Observed, Outcome, Plan, Policy, RoutingError, State,
};

pub(crate) use self::choice::{ReturnPath, Served};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::spec::Marks;

/// The families of these targets.
pub(crate) fn families_of(targets: &Targets) -> Families {
    Families { v4: targets.of(TargetFamily::V4).is_some(), v6: targets.of(TargetFamily::V6).is_some() }
}

/// How this return path wants spoofed connections marked.
pub(crate) fn marks(path: &ReturnPath) -> Marks {
    Marks { v4: path.mark(Family::V4), v6: path.mark(Family::V6) }
}

/// Marks spoofed connections as this return path wants them marked.
pub(crate) fn mark(dial: DialOptions, path: &ReturnPath) -> DialOptions {
    let marks = marks(path);
    dial.mark_toward(TargetFamily::V4, marks.v4).mark_toward(TargetFamily::V6, marks.v6)
}

/// Claims the return path for this run, in the calling thread's network namespace, and prints what became of each of
/// its objects. What `held` has already is not claimed again.
pub(crate) async fn acquire(
    path: ReturnPath,
    policy: Policy,
    held: &[Lease],
    console: &mut Console,
) -> Result<Vec<Lease>, Failure> {
    let path = path.here(console);
    for reason in path.reasons() {
        console.fine(format_args!("[+] Return path: {reason}."));
    }
    if let Some(obstacle) = path.obstacle().await? {
        match policy {
            Policy::Install => return Err(obstructed(obstacle)),
            Policy::CheckOnly => console.always(format_args!("[!] No return path: {obstacle}.")),
        }
    }
    let mut plans = path.plans().await?;
    plans.retain(|plan| held.iter().all(|lease| lease.plan() != plan));
    claim_all(plans, policy, console).await
}

/// Claims every plan for this run, or none.
pub(crate) async fn claim_all(
    plans: Vec<Plan>,
    policy: Policy,
    console: &mut Console,
) -> Result<Vec<Lease>, Failure> {
    let mut leases = Vec::new();
    for plan in plans {
        match claim(plan, policy, console).await {
            Ok(lease) => leases.push(lease),
            Err(failure) => {
                release(leases).await;
                return Err(failure);
            }
        }
    }
    Ok(leases)
}

/// Claims one plan for this run and prints what became of each of its objects.
async fn claim(plan: Plan, policy: Policy, console: &mut Console) -> Result<Lease, Failure> {
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

/// Removes what this run added, unless another instance uses it.
pub(crate) async fn release(leases: Vec<Lease>) {
    for lease in leases.into_iter().rev() {
        if let Err(error) = lease.release().await {
            tracing::warn!(
                error = %crate::exit::Chain(&error),
                "the return path was not removed; `mmproxy teardown` removes it"
            );
        }
    }
}

/// The failure that an obstacle makes where something was to be installed.
pub(crate) fn obstructed(obstacle: String) -> Failure {
    Failure::new(Exit::Config, obstacle)
        .hint("add a default route, or use --return-path fwmark (TCP) or port (UDP), which need none")
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
    match (&observed.state, &observed.near_miss) {
        (State::Present(_), _) => console.fine(format_args!("{step} [+] VERIFIED")),
        (State::Missing, None) => console.always(format_args!("{step} [!] MISSING")),
        (State::Missing, Some(lack)) => console.always(format_args!("{step} [!] MISSING: {lack}")),
        (State::Different { found, cure }, _) => {
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
