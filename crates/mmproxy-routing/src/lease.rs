//! The return path for as long as an instance runs.

mod announce;
mod knock;
mod lock;
mod trust;

use self::announce::Announcement;
pub(crate) use self::announce::{Instance, running};
pub(crate) use self::lock::Lock;
use crate::apply::{Applied, install};
use crate::error::RoutingError;
use crate::ledger::Lifetime;
use crate::observe::observe;
use crate::plan::Plan;
use crate::remove::{Removal, settle, sweep};
use crate::rtnl::Rtnl;

/// A running instance's claim on the objects of its plan.
///
/// As long as it lives, no other instance that stops and no `teardown` removes them. A lease that is dropped without
/// [`release`](Lease::release), or whose process is killed, leaves its objects in place: the next instance takes
/// them over and removes them when it stops.
#[derive(Debug)]
#[must_use = "a dropped lease leaves its objects in place, without protection"]
pub struct Lease {
    plan: Plan,
    applied: Vec<Applied>,
    announcement: Announcement,
}

impl Lease {
    /// Announces an instance and makes sure of its return path, in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// [`RoutingError`], whose text names the step and the cure. Nothing is left behind then.
    pub async fn acquire(plan: Plan, policy: Policy) -> Result<Self, RoutingError> {
        let _lock = Lock::take().await?;
        let announcement = Announcement::make(&plan)?;
        let applied = match policy {
            Policy::Install => {
                // First what killed instances left behind and nobody needs, this one included: it may be in the way.
                sweep(&Rtnl::open()?, &running().await?, None).await?;
                install(&plan, Lifetime::Leased).await?
            }
            Policy::CheckOnly => observe(&plan).await?.into_iter().map(Applied::looked_at).collect(),
        };
        Ok(Self { plan, applied, announcement })
    }

    /// What became of each step of the plan, in its order.
    #[must_use]
    pub fn applied(&self) -> &[Applied] {
        &self.applied
    }

    /// The plan it holds.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Gives the claim up and removes what no other running instance needs.
    ///
    /// What `mmproxy setup` or somebody else made stays. Needs CAP_NET_ADMIN if there is something to remove.
    ///
    /// # Errors
    ///
    /// [`RoutingError`], whose text names the step and the cure.
    pub async fn release(self) -> Result<Removal, RoutingError> {
        let _lock = Lock::take().await?;
        self.announcement.withdraw().await;
        settle(&self.plan, None).await
    }
}

/// What a lease may do about missing objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Install them, and remove them at the end.
    #[default]
    Install,
    /// Only look.
    CheckOnly,
}
