//! Taking away what is ours.

use crate::change::Change;
use crate::diff::{Claims, to_settle};
use crate::error::RoutingError;
use crate::lease::{Instance, Lock, running};
use crate::observe::{Observed, Owner, State};
use crate::ours::Ours;
use crate::plan::Plan;
use crate::rtnl::Rtnl;
use crate::scene::Scene;
use crate::step::{Step, Sysctl};
use crate::sysctl;

/// Removes what mmproxy made of this plan, by `setup` or for an instance that is gone: `mmproxy teardown`.
///
/// Objects of somebody else are not touched. Switches are turned off that we turned on. What instances left behind
/// that were killed goes too, whatever their plan was. Needs CAP_NET_ADMIN if there is something to remove.
///
/// # Errors
///
/// [`RoutingError`], whose text names the step and the cure.
pub async fn remove(plan: &Plan, in_use: InUse) -> Result<Removal, RoutingError> {
    let _lock = Lock::take().await?;
    settle(plan, Some(in_use)).await
}

/// Removes all objects of ours that nobody claims, and says what became of those of `plan`. The caller holds the lock.
///
/// With `torn_down`, what `setup` made of the plan goes too.
pub(crate) async fn settle(plan: &Plan, torn_down: Option<InUse>) -> Result<Removal, RoutingError> {
    let rtnl = Rtnl::open()?;
    let instances = running().await?;
    let changes = sweep(&rtnl, &instances, torn_down.map(|in_use| (plan, in_use))).await?;
    let after = Scene::look(&rtnl, plan).await?;

    let stays =
        |step: &Step| after.observed.iter().any(|found| found.step == *step && found.state != State::Missing);
    let mut removed: Vec<Step> = Vec::new();
    for step in changes.iter().filter(|change| change.removes()).map(Change::step) {
        if !removed.contains(&step) && !stays(&step) && !still_ours(&step, &after.ours) {
            removed.push(step);
        }
    }
    let kept = after.observed.into_iter().filter_map(|found| Kept::read(found, &instances)).collect();
    Ok(Removal { removed, kept })
}

/// Removes all objects of ours that nobody claims. The caller holds the lock.
pub(crate) async fn sweep(
    rtnl: &Rtnl,
    instances: &[Instance],
    torn_down: Option<(&Plan, InUse)>,
) -> Result<Vec<Change>, RoutingError> {
    let force = torn_down.is_some_and(|(_, in_use)| in_use == InUse::Remove);
    if !force && instances.iter().any(|instance| instance.plan.is_none()) {
        // What an instance needs whose announcement we cannot read is unknown: nothing goes.
        return Ok(Vec::new());
    }
    let live: Vec<Plan> = instances.iter().filter_map(|instance| instance.plan.clone()).collect();
    let claims = Claims { live: &live, torn_down: torn_down.map(|(plan, _)| plan), force };
    let changes = to_settle(&Ours::find(rtnl).await?, &claims, as_we_left_it);
    // A failure ends it without putting anything back: what is still there is still on record.
    for change in &changes {
        change.make(rtnl).await?;
    }
    Ok(changes)
}

/// Whether a switch has the value we gave it. If it has another by now, somebody else cares about it.
fn as_we_left_it(switch: Sysctl) -> bool {
    matches!(sysctl::read(switch), Ok(Some(1)))
}

/// Whether an object of ours does the same job still: one of another lifetime, or with another record in it.
fn still_ours(step: &Step, ours: &Ours) -> bool {
    match step {
        Step::Sysctl(_) => false,
        Step::Rule(rule) => ours.rules.iter().any(|(kept, _)| kept == rule),
        Step::LocalRoute(route) => ours.routes.iter().any(|(kept, _)| kept == route),
        Step::Netfilter(table) => ours.tables.iter().any(|(kept, _)| kept == table),
    }
}

impl Kept {
    fn read(found: Observed, instances: &[Instance]) -> Option<Self> {
        let State::Present(owner) = found.state else { return None };
        let step = found.step;
        let users: Vec<i32> = instances
            .iter()
            .filter(|instance| instance.plan.as_ref().is_none_or(|plan| plan.steps().contains(&step)))
            .map(|instance| instance.pid)
            .collect();
        let reason = match owner {
            Owner::Foreign => KeptReason::Foreign,
            Owner::Leased | Owner::Permanent if !users.is_empty() => KeptReason::InUse(users),
            Owner::Leased | Owner::Permanent => KeptReason::Permanent,
        };
        Some(Self { step, reason })
    }
}

/// What to do with objects that a running instance needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum InUse {
    /// Leave them; [`Removal::kept`] names the instances.
    #[default]
    Keep,
    /// Remove them all the same: those instances' connections stop working.
    Remove,
}

/// What was removed and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// What is gone.
    pub removed: Vec<Step>,
    /// What is still there.
    pub kept: Vec<Kept>,
}

/// A step that was left in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The step.
    pub step: Step,
    /// Why.
    pub reason: KeptReason,
}

/// Why a step was left in place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeptReason {
    /// Running instances need it; their process numbers.
    InUse(Vec<i32>),
    /// `mmproxy setup` made it; only `mmproxy teardown` takes it away.
    Permanent,
    /// Not made by mmproxy.
    Foreign,
}
