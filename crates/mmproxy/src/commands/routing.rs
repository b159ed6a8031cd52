//! `mmproxy setup` and `mmproxy teardown`: the return path without a gateway.

use std::path::Path;

use mmproxy_routing::{
    Families, InUse, Kept, KeptReason, Plan, Removal, State, Step, apply, families_available, observe, remove,
};

use crate::cli::{FamilyArg, ListenerArgs, ReturnPathArgs, RoutingArgs, TargetArgs, TeardownArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::resolve;
use crate::return_path::{self, ReturnPath, Served, failure};
use crate::runtime;
use crate::target_netns::TargetNetnsArgs;
use crate::way_in::WayIn;

/// Installs the return path until `teardown`; twice is the same as once.
pub(crate) fn setup(args: &RoutingArgs) -> Result<Exit, Failure> {
    let mut console = Console::stdout(false);
    // The listeners are here, wherever the targets are.
    let ways_in = ways_in(&args.about.listener, args.about.path)?;
    if args.dry_run {
        print_steps(&ways_in, &mut console);
    } else {
        runtime::block_on(install(&ways_in, &mut console))??;
    }
    let inside = args.about.netns.enter()?;
    let families = match args.family {
        FamilyArg::Available => available(args.about.targets),
        FamilyArg::Ipv4 => Families::V4,
        FamilyArg::Ipv6 => Families::V6,
    };
    let path = chosen(args.about.path, args.about.targets, families, &args.about.netns)?;
    path.refuse_unfit()?;
    runtime::block_on(async {
        let plans = path.plans().await?;
        let obstacle = path.obstacle().await?;
        if args.dry_run {
            say_where(inside.as_deref(), &mut console);
            path.reasons().iter().for_each(|reason| console.always(format_args!("# {reason}")));
            obstacle
                .iter()
                .for_each(|obstacle| console.always(format_args!("# it would not work: {obstacle}")));
            print_steps(&plans, &mut console);
            return Ok(Exit::Ok);
        }
        if let Some(obstacle) = obstacle {
            return Err(return_path::obstructed(obstacle));
        }
        path.reasons().iter().for_each(|reason| console.fine(format_args!("[+] Return path: {reason}.")));
        install(&plans, &mut console).await?;
        Ok(Exit::Ok)
    })?
}

async fn install(plans: &[Plan], console: &mut Console) -> Result<(), Failure> {
    for plan in plans {
        let applied = apply(plan).await.map_err(failure)?;
        applied.iter().for_each(|applied| return_path::print(applied, console));
    }
    Ok(())
}

/// The plans that hand ports to the gateway's listeners, if any are named.
pub(super) fn ways_in(args: &ListenerArgs, path: ReturnPathArgs) -> Result<Vec<Plan>, Failure> {
    let way = WayIn::new(&args.tproxy, path)?;
    if way.is_wanted() && args.listen.is_empty() {
        return Err(Failure::new(Exit::Usage, "--tproxy-ports needs to know which listener gets them")
            .hint("give the gateway's own --listen ADDR:PORT"));
    }
    way.plans(&args.listen)
}

/// The families of the targets as far as this host has them; one that it lacks is tried if it is the only one, which
/// fails with the reason.
fn available(targets: TargetArgs) -> Families {
    let wanted = targets.families();
    let available = wanted.intersection(families_available());
    if available.iter().next().is_some() { available } else { wanted }
}

/// Steps as an operator would type them, and as comments what else would do the same. What two plans share is typed
/// once: a rule that is added twice is there twice.
fn print_steps(plans: &[Plan], console: &mut Console) {
    let mut printed: Vec<&Step> = Vec::new();
    for step in plans.iter().flat_map(Plan::steps) {
        if !printed.contains(&step) {
            console.always(format_args!("{step}"));
            step.alternatives().iter().for_each(|other| console.always(format_args!("# or: {other}")));
            printed.push(step);
        }
    }
}

/// Removes what mmproxy made, in the families of the targets or in both; somebody else's objects stay.
pub(crate) fn teardown(args: &TeardownArgs) -> Result<Exit, Failure> {
    let mut console = Console::stdout(false);
    let ways_in = ways_in(&args.about.listener, args.about.path)?;
    let in_use = if args.force { InUse::Remove } else { InUse::Keep };
    let mut removal = Removal::default();
    if args.dry_run {
        preview(&ways_in, &mut console)?;
    } else {
        take_away(&ways_in, in_use, &mut removal)?;
    }
    let inside = args.about.netns.enter()?;
    let path = chosen(args.about.path, args.about.targets, args.about.targets.families(), &args.about.netns)?;
    let plans = runtime::block_on(path.plans())??;
    if args.dry_run {
        say_where(inside.as_deref(), &mut console);
        preview(&plans, &mut console)?;
        return Ok(Exit::Ok);
    }
    take_away(&plans, in_use, &mut removal)?;
    for step in &removal.removed {
        console.always(format_args!("{} [+] REMOVED", step.undo()));
    }
    let mut exit = Exit::Ok;
    for kept in &removal.kept {
        match why(kept) {
            Some(reason) => {
                console.always(format_args!("{} [!] KEPT: {reason}", kept.step.undo()));
                exit = Exit::Unavailable;
            }
            None => console.always(format_args!("{} [+] KEPT: not made by mmproxy", kept.step.undo())),
        }
    }
    if removal.removed.is_empty() && removal.kept.is_empty() {
        console.always(format_args!("[+] Nothing to remove."));
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
fn say_where(namespace: Option<&Path>, console: &mut Console) {
    if let Some(path) = namespace {
        console
            .always(format_args!("# inside another network namespace: nsenter --net={} sh", path.display()));
    }
}

/// Removes plans, the last one first.
fn take_away(plans: &[Plan], in_use: InUse, all: &mut Removal) -> Result<(), Failure> {
    for plan in plans.iter().rev() {
        let Removal { removed, kept } = runtime::block_on(remove(plan, in_use))?.map_err(failure)?;
        // What two plans share goes with the second.
        all.kept.retain(|kept| !removed.contains(&kept.step));
        all.removed.extend(removed);
        all.kept.extend(kept);
    }
    Ok(())
}

/// Prints the commands that would remove what is there and ours.
fn preview(plans: &[Plan], console: &mut Console) -> Result<(), Failure> {
    let mut printed: Vec<Step> = Vec::new();
    for plan in plans.iter().rev() {
        let observed = runtime::block_on(observe(plan))?.map_err(failure)?;
        for observed in observed.into_iter().rev() {
            let is_ours = matches!(observed.state, State::Present(owner) if owner.is_ours());
            if is_ours && !printed.contains(&observed.step) {
                console.always(format_args!("{}", observed.step.undo()));
                printed.push(observed.step);
            }
        }
    }
    Ok(())
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
