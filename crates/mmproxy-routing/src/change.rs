//! One change to the network namespace, and how to take it back.

use std::fmt;

use rtnetlink::packet_route::RouteNetlinkMessage;

use crate::error::RoutingError;
use crate::ledger::{Ledger, Lifetime};
use crate::netfilter::Netfilter;
use crate::nft;
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
    /// A table of ours, for which lifetime it was there before, and for which it is there afterwards.
    Table(Netfilter, Option<Lifetime>, Option<Lifetime>),
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
                let message =
                    local_route(route, *ledger).map_err(|source| RoutingError::change(self, source))?;
                rtnl.add(RouteNetlinkMessage::NewRoute(message), self).await
            }
            Self::DeleteRoute(route, ledger) => match local_route(route, *ledger) {
                Ok(message) => rtnl.delete(RouteNetlinkMessage::DelRoute(message), self).await,
                // The interface is gone, and the route with it.
                Err(_) => Ok(()),
            },
            Self::Switch(switch, on) => sysctl::write(*switch, *on),
            Self::Table(table, _, Some(lifetime)) => nft::make(table, *lifetime).await,
            Self::Table(table, _, None) => nft::delete(table).await,
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
            Self::Table(table, before, after) => Self::Table(table, after, before),
        }
    }

    /// The object that this change is about.
    pub(crate) fn step(&self) -> Step {
        match self {
            Self::AddRule(rule, _) | Self::DeleteRule(rule, _) => Step::Rule(rule.clone()),
            Self::AddRoute(route, _) | Self::DeleteRoute(route, _) => Step::LocalRoute(route.clone()),
            Self::Switch(sysctl, _) => Step::Sysctl(*sysctl),
            Self::Table(table, ..) => Step::Netfilter(*table),
        }
    }

    /// Whether it adds what is there already.
    pub(crate) fn is_made(&self, ours: &Ours) -> bool {
        match self {
            Self::AddRule(rule, lifetime) => ours.rules.contains(&(rule.clone(), *lifetime)),
            Self::AddRoute(route, ledger) => ours.routes.contains(&(route.clone(), *ledger)),
            Self::Table(table, _, Some(lifetime)) => ours.tables.contains(&(*table, *lifetime)),
            Self::DeleteRule(..) | Self::DeleteRoute(..) | Self::Switch(..) | Self::Table(..) => false,
        }
    }

    /// Whether it takes something away.
    pub(crate) const fn removes(&self) -> bool {
        match self {
            Self::DeleteRule(..)
            | Self::DeleteRoute(..)
            | Self::Switch(_, false)
            | Self::Table(_, _, None) => true,
            Self::AddRule(..) | Self::AddRoute(..) | Self::Switch(_, true) | Self::Table(_, _, Some(_)) => {
                false
            }
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
