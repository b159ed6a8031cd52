//! `mmproxy setup` and `mmproxy teardown`: the return path without a gateway.

use std::path::Path;

use mmproxy_routing::{
    Families, InUse, Kept, KeptReason, Plan, Removal, State, Step, apply, families_available, observe, remove,
};

use crate::cli::{FamilyArg, ReturnPathArgs, RoutingArgs, TargetArgs, TeardownArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::resolve;
use crate::return_path::{self, ReturnPath, Served, failure};
use crate::runtime;
use crate::target_netns::TargetNetnsArgs;

/// Installs the return path until `teardown`; twice is the same as once.
pub(crate) fn setup(args: &RoutingArgs) -> Result<Exit, Failure> {
    let inside = args.netns.enter()?;
    let mut console = Console::stdout(false);
    let families = match args.family {
        FamilyArg::Available => available(args.targets),
        FamilyArg::Ipv4 => Families::V4,
        FamilyArg::Ipv6 => Families::V6,
    };
    let path = chosen(args.path, args.targets, families, &args.netns)?;
    path.refuse_unfit()?;
    runtime::block_on(async {
        let plans = path.plans().await?;
        let obstacle = path.obstacle().await?;
        if args.dry_run {
            say_where(inside.as_deref());
            path.reasons().iter().for_each(|reason| println!("# {reason}"));
            obstacle.iter().for_each(|obstacle| println!("# it would not work: {obstacle}"));
            plans.iter().flat_map(Plan::steps).for_each(print_step);
            return Ok(Exit::Ok);
        }
        if let Some(obstacle) = obstacle {
            return Err(return_path::obstructed(obstacle));
        }
        path.reasons().iter().for_each(|reason| console.fine(format_args!("[+] Return path: {reason}.")));
        for plan in &plans {
            let applied = apply(plan).await.map_err(failure)?;
            applied.iter().for_each(|applied| return_path::print(applied, &mut console));
        }
        Ok(Exit::Ok)
    })?
}

/// The families of the targets as far as this host has them; one that it lacks is tried if it is the only one, which
/// fails with the reason.
fn available(targets: TargetArgs) -> Families {
    let wanted = targets.families();
    let available = wanted.intersection(families_available());
    if available.iter().next().is_some() { available } else { wanted }
}

/// A step as an operator would type it, and as comments what else would do the same.
fn print_step(step: &Step) {
    println!("{step}");
    step.alternatives().iter().for_each(|other| println!("# or: {other}"));
}

/// Removes what mmproxy made, in the families of the targets or in both; somebody else's objects stay.
pub(crate) fn teardown(args: &TeardownArgs) -> Result<Exit, Failure> {
    let inside = args.netns.enter()?;
    let path = chosen(args.path, args.targets, args.targets.families(), &args.netns)?;
    let plans = runtime::block_on(path.plans())??;
    if args.dry_run {
        say_where(inside.as_deref());
        return preview(&plans);
    }
    let in_use = if args.force { InUse::Remove } else { InUse::Keep };
    let mut removal = Removal::default();
    for plan in plans.iter().rev() {
        let Removal { removed, kept } = runtime::block_on(remove(plan, in_use))?.map_err(failure)?;
        removal.removed.extend(removed);
        removal.kept.extend(kept);
    }
    for step in &removal.removed {
        println!("{} [+] REMOVED", step.undo());
    }
    let mut exit = Exit::Ok;
    for kept in &removal.kept {
        match why(kept) {
            Some(reason) => {
                println!("{} [!] KEPT: {reason}", kept.step.undo());
                exit = Exit::Unavailable;
            }
            None => println!("{} [+] KEPT: not made by mmproxy", kept.step.undo()),
        }
    }
    if removal.removed.is_empty() && removal.kept.is_empty() {
        println!("[+] Nothing to remove.");
    }
    Ok(exit)
}

/// The return path that was asked for. Only some modes look at the targets.
fn chosen(
    path: ReturnPathArgs,
    targets: TargetArgs,
    families: Families,
    netns: &TargetNetnsArgs,
) -> Result<ReturnPath, Failure> {
    let given = targets.target_v4.is_some() || targets.target_v6.is_some();
    let targets = given.then(|| resolve::targets(targets)).transpose()?;
    let elsewhere = netns.is_given();
    let served = Served { families, targets: targets.as_ref(), allowed: None, elsewhere };
    runtime::block_on(ReturnPath::choose(path, served))?
}

/// Commands for another namespace would do harm in this one.
fn say_where(namespace: Option<&Path>) {
    if let Some(path) = namespace {
        println!("# inside another network namespace: nsenter --net={} sh", path.display());
    }
}

/// Prints the commands that would remove what is there and ours.
fn preview(plans: &[Plan]) -> Result<Exit, Failure> {
    for plan in plans.iter().rev() {
        let observed = runtime::block_on(observe(plan))?.map_err(failure)?;
        for observed in observed.iter().rev() {
            if matches!(observed.state, State::Present(owner) if owner.is_ours()) {
                println!("{}", observed.step.undo());
            }
        }
    }
    Ok(Exit::Ok)
}

/// Why something of ours stayed although it was to go; `None` for what is somebody else's.
fn why(kept: &Kept) -> Option<String> {
    match &kept.reason {
        KeptReason::InUse(processes) => {
            let processes: Vec<String> = processes.iter().map(ToString::to_string).collect();
            Some(format!("process {} uses it; stop it first, or use --force", processes.join(", ")))
        }
        // A sysctl that `setup` turned on for another mark or table, which still needs it.
        KeptReason::Permanent => Some("another `mmproxy setup` needs it".to_owned()),
        KeptReason::Foreign => None,
        _ => Some("it is still needed".to_owned()),
    }
}
