//! What of a plan is there already, and whose it is.

use std::fmt;

use crate::error::RoutingError;
use crate::plan::Plan;
use crate::rtnl::Rtnl;
use crate::scene::Scene;
use crate::step::Step;

/// Compares a plan with what the kernel has, in the calling thread's network namespace. Needs no privilege.
///
/// The comparison is by effect: a rule or route that somebody made by hand and that does the job is present, and one
/// that another rule overrides is not. Where both rule and route are there, the kernel is asked what it would do.
///
/// # Errors
///
/// [`RoutingError::Kernel`] if the kernel does not answer.
pub async fn observe(plan: &Plan) -> Result<Vec<Observed>, RoutingError> {
    let rtnl = Rtnl::open()?;
    Ok(Scene::look(&rtnl, plan).await?.observed)
}

/// One step of a plan and what was found of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The step.
    pub step: Step,
    /// What was found.
    pub state: State,
    /// What somebody made for the same purpose and does not serve it, and why not.
    pub near_miss: Option<String>,
}

/// What was found of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is there, or something that does the same job.
    Present(Owner),
    /// It is not there.
    Missing,
    /// Something else is in its place, so that adding it would not bring replies back.
    Different {
        /// What is there and whose it is, as `ip` would print it.
        found: String,
        /// What to choose instead.
        cure: &'static str,
    },
}

/// Whose an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Made by a running gateway; goes when the last one that needs it stops.
    Leased,
    /// Made by `mmproxy setup`; goes with `mmproxy teardown`.
    Permanent,
    /// Somebody else's. Never touched.
    Foreign,
}

impl Owner {
    /// Whether mmproxy made it, and may remove it.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        match self {
            Self::Leased | Self::Permanent => true,
            Self::Foreign => false,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leased => "a running mmproxy",
            Self::Permanent => "mmproxy setup",
            Self::Foreign => "somebody else",
        })
    }
}
