//! One change to the network namespace, and how to take it back.

use std::fmt;

use rtnetlink::packet_route::RouteNetlinkMessage;

use crate::error::RoutingError;
use crate::ledger::{Ledger, Lifetime};
use crate::ours::Ours;
use crate::rtnl::{Rtnl, local_route, rule_message};
use crate::step::{LocalRoute, Rule, Step, Sysctl};
use crate::sysctl;

/// One change. `Display` is the command an operator would type for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    AddRule(Rule, Lifetime),
    DeleteRule(Rule, Lifetime),
    AddRoute(LocalRoute, Ledger),
    DeleteRoute(LocalRoute, Ledger),
    Switch(Sysctl, bool),
}

impl Change {
    /// Makes the change. What is there or gone already is fine.
    pub(crate) async fn make(&self, rtnl: &Rtnl) -> Result<(), RoutingError> {
        match self {
            Self::AddRule(rule, lifetime) => {
                rtnl.add(RouteNetlinkMessage::NewRule(rule_message(rule, lifetime.protocol())), self).await
            }
            Self::DeleteRule(rule, lifetime) => {
                rtnl.delete(RouteNetlinkMessage::DelRule(rule_message(rule, lifetime.protocol())), self).await
            }
            Self::AddRoute(route, ledger) => {
                rtnl.add(RouteNetlinkMessage::NewRoute(local_route(route, *ledger)), self).await
            }
            Self::DeleteRoute(route, ledger) => {
                rtnl.delete(RouteNetlinkMessage::DelRoute(local_route(route, *ledger)), self).await
            }
            Self::Switch(switch, on) => sysctl::write(*switch, *on),
        }
    }

    /// The change that takes this one back.
    pub(crate) fn inverse(self) -> Self {
        match self {
            Self::AddRule(rule, lifetime) => Self::DeleteRule(rule, lifetime),
            Self::DeleteRule(rule, lifetime) => Self::AddRule(rule, lifetime),
            Self::AddRoute(route, ledger) => Self::DeleteRoute(route, ledger),
            Self::DeleteRoute(route, ledger) => Self::AddRoute(route, ledger),
            Self::Switch(sysctl, on) => Self::Switch(sysctl, !on),
        }
    }

    /// The object that this change is about.
    pub(crate) fn step(&self) -> Step {
        match self {
            Self::AddRule(rule, _) | Self::DeleteRule(rule, _) => Step::Rule(rule.clone()),
            Self::AddRoute(route, _) | Self::DeleteRoute(route, _) => Step::LocalRoute(route.clone()),
            Self::Switch(sysctl, _) => Step::Sysctl(*sysctl),
        }
    }

    /// Whether it adds what is there already.
    pub(crate) fn is_made(&self, ours: &Ours) -> bool {
        match self {
            Self::AddRule(rule, lifetime) => ours.rules.contains(&(rule.clone(), *lifetime)),
            Self::AddRoute(route, ledger) => ours.routes.contains(&(route.clone(), *ledger)),
            Self::DeleteRule(..) | Self::DeleteRoute(..) | Self::Switch(..) => false,
        }
    }

    /// Whether it takes something away.
    pub(crate) const fn removes(&self) -> bool {
        match self {
            Self::DeleteRule(..) | Self::DeleteRoute(..) | Self::Switch(_, false) => true,
            Self::AddRule(..) | Self::AddRoute(..) | Self::Switch(_, true) => false,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.step();
        if self.removes() { step.undo().fmt(f) } else { step.fmt(f) }
    }
}

/// Makes all changes, in order; when one fails, takes back those before it.
pub(crate) async fn make_all(changes: Vec<Change>, rtnl: &Rtnl) -> Result<(), RoutingError> {
    let mut made = Vec::new();
    for change in changes {
        if let Err(error) = change.make(rtnl).await {
            take_back(made, rtnl).await;
            return Err(error);
        }
        made.push(change);
    }
    Ok(())
}

/// Takes back changes that were made, the last one first.
pub(crate) async fn take_back(made: Vec<Change>, rtnl: &Rtnl) {
    for change in made.into_iter().rev() {
        // The first error is the one to report. What cannot be taken back is tagged as ours, and goes with the next
        // instance that stops or with `teardown`.
        change.inverse().make(rtnl).await.ok();
    }
}
