//! `mmproxy setup` and `mmproxy teardown`: the return path without a gateway.

use std::path::Path;

use mmproxy_routing::{Families, InUse, Kept, KeptReason, Plan, State, apply, observe, remove};

use crate::cli::{ReturnPathArgs, RoutingArgs, TargetArgs, TeardownArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::resolve;
use crate::return_path::{self, failure};
use crate::runtime;

/// Installs the return path until `teardown`; twice is the same as once.
pub(crate) fn setup(args: &RoutingArgs) -> Result<Exit, Failure> {
    let inside = args.netns.enter()?;
    let plan = chosen(args.path, args.targets, return_path::families(args.family))?;
    if args.dry_run {
        say_where(inside.as_deref());
        print!("{plan}");
        return Ok(Exit::Ok);
    }
    let applied = runtime::block_on(apply(&plan))?.map_err(failure)?;
    let mut console = Console::stdout(false);
    applied.iter().for_each(|applied| return_path::print(applied, &mut console));
    Ok(Exit::Ok)
}

/// Removes what mmproxy made, in both families; somebody else's objects stay.
pub(crate) fn teardown(args: &TeardownArgs) -> Result<Exit, Failure> {
    let inside = args.netns.enter()?;
    let plan = chosen(args.path, args.targets, Families::BOTH)?;
    if args.dry_run {
        say_where(inside.as_deref());
        return preview(&plan);
    }
    let in_use = if args.force { InUse::Remove } else { InUse::Keep };
    let removal = runtime::block_on(remove(&plan, in_use))?.map_err(failure)?;
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

/// The plan of the chosen mode. Only some modes look at the targets.
fn chosen(path: ReturnPathArgs, targets: TargetArgs, families: Families) -> Result<Plan, Failure> {
    let given = targets.target_v4.is_some() || targets.target_v6.is_some();
    let targets = given.then(|| resolve::targets(targets)).transpose()?;
    return_path::choose(path, targets.as_ref(), families)
}

/// Commands for another namespace would do harm in this one.
fn say_where(namespace: Option<&Path>) {
    if let Some(path) = namespace {
        println!("# inside another network namespace: nsenter --net={} sh", path.display());
    }
}

/// Prints the commands that would remove what is there and ours.
fn preview(plan: &Plan) -> Result<Exit, Failure> {
    let observed = runtime::block_on(observe(plan))?.map_err(failure)?;
    for observed in observed.iter().rev() {
        if matches!(observed.state, State::Present(owner) if owner.is_ours()) {
            println!("{}", observed.step.undo());
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
