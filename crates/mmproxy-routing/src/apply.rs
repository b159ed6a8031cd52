//! Installing what a plan lacks.

use crate::change::{make_all, take_back};
use crate::diff::to_install;
use crate::error::RoutingError;
use crate::family::ipv6_off;
use crate::lease::Lock;
use crate::ledger::Lifetime;
use crate::mode::Family;
use crate::observe::{Observed, State};
use crate::plan::Plan;
use crate::rtnl::Rtnl;
use crate::scene::Scene;
use crate::step::Step;

/// Installs what the plan lacks, to stay until [`remove`](crate::remove) takes it away: `mmproxy setup`.
///
/// Applying twice is the same as applying once. What a running instance had installed for itself becomes permanent.
/// Nothing is left behind when it fails. Needs CAP_NET_ADMIN if something is missing.
///
/// # Errors
///
/// [`RoutingError`], whose text names the step and the cure.
pub async fn apply(plan: &Plan) -> Result<Vec<Applied>, RoutingError> {
    let _lock = Lock::take().await?;
    install(plan, Lifetime::Permanent).await
}

/// Installs what the plan lacks. The caller holds the lock.
pub(crate) async fn install(plan: &Plan, lifetime: Lifetime) -> Result<Vec<Applied>, RoutingError> {
    if plan.steps().iter().any(|step| step.family() == Some(Family::V6))
        && let Some(off) = ipv6_off()
    {
        return Err(RoutingError::Ipv6Off(off));
    }
    let rtnl = Rtnl::open()?;
    if !rtnl.loopback_is_up().await? {
        return Err(RoutingError::LoopbackDown);
    }
    let before = Scene::look(&rtnl, plan).await?;
    refuse_conflicts(&before.observed)?;

    let changes = to_install(plan, &before.observed, &before.ours, lifetime);
    if !changes.is_empty() {
        make_all(changes.clone(), &rtnl).await?;
        if let Err(error) = confirm(plan, &rtnl).await {
            take_back(changes, &rtnl).await;
            return Err(error);
        }
    }
    Ok(before.observed.into_iter().map(Applied::added).collect())
}

/// Asks the kernel again, now that everything should be in place.
async fn confirm(plan: &Plan, rtnl: &Rtnl) -> Result<(), RoutingError> {
    let after = Scene::look(rtnl, plan).await?.observed;
    refuse_conflicts(&after)?;
    match after.into_iter().find(|observed| observed.state == State::Missing) {
        None => Ok(()),
        Some(Observed { step, .. }) => Err(RoutingError::Conflict {
            step: step.to_string(),
            found: "it was added, and is gone again".to_owned(),
            cure: "look for a program that manages rules and routes (systemd-networkd: \
                   `ManageForeignRoutingPolicyRules=no`, `ManageForeignRoutes=no`)",
        }),
    }
}

fn refuse_conflicts(observed: &[Observed]) -> Result<(), RoutingError> {
    observed.iter().try_for_each(|observed| match &observed.state {
        State::Different { found, cure } => {
            Err(RoutingError::Conflict { step: observed.step.to_string(), found: found.clone(), cure })
        }
        State::Present(_) | State::Missing => Ok(()),
    })
}

/// One step of a plan and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The step.
    pub step: Step,
    /// What became of it.
    pub outcome: Outcome,
}

impl Applied {
    /// A step after everything that was missing has been added.
    fn added(observed: Observed) -> Self {
        let outcome = match observed.state {
            State::Present(_) => Outcome::Verified,
            State::Missing => Outcome::Added,
            State::Different { found, cure } => Outcome::Different { found, cure },
        };
        Self { step: observed.step, outcome }
    }

    /// A step that was only looked at.
    pub(crate) fn looked_at(observed: Observed) -> Self {
        match observed.state {
            State::Missing => Self { step: observed.step, outcome: Outcome::Missing },
            State::Present(_) | State::Different { .. } => Self::added(observed),
        }
    }
}

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was there, or something that does the same job.
    Verified,
    /// It was missing and is there now.
    Added,
    /// It is missing, and nobody was asked to add it.
    Missing,
    /// Something else is in its place, and nobody was asked to change anything.
    Different {
        /// What is there and whose it is, as `ip` would print it.
        found: String,
        /// What to choose instead.
        cure: &'static str,
    },
}
