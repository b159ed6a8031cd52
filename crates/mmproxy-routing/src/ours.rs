//! The objects in the network namespace that mmproxy made.

use crate::error::RoutingError;
use crate::ledger::{Ledger, Lifetime, Switches};
use crate::mode::{Families, Table};
use crate::netfilter::Netfilter;
use crate::nft::Ruleset;
use crate::rtnl::{Filter, KernelRoute, KernelRule, Rtnl};
use crate::step::{LocalRoute, Rule, Sysctl};

/// Every rule and route of ours in the network namespace, whichever instance and plan it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ours {
    pub(crate) rules: Vec<(Rule, Lifetime)>,
    pub(crate) routes: Vec<(LocalRoute, Ledger)>,
    pub(crate) tables: Vec<(Netfilter, Lifetime)>,
}

impl Ours {
    /// Looks through the whole network namespace.
    pub(crate) async fn find(rtnl: &Rtnl) -> Result<Self, RoutingError> {
        Self::among(&rtnl.all_rules().await?, rtnl).await
    }

    /// The same where the caller has listed the rules already.
    ///
    /// Without tables, which take a program to list: only where a record says that there are any.
    pub(crate) async fn among(rules: &[KernelRule], rtnl: &Rtnl) -> Result<Self, RoutingError> {
        let mut ours = Self { rules: rules.iter().filter_map(our_rule).collect(), ..Self::default() };
        for family in Families::BOTH.iter() {
            for lifetime in [Lifetime::Leased, Lifetime::Permanent] {
                let routes = rtnl.routes(family, Filter::Protocol(lifetime.protocol())).await?;
                ours.routes.extend(routes.iter().filter_map(our_route));
            }
        }
        if ours.changed().uses_netfilter() {
            ours.tables = Ruleset::read().await?.ours();
        }
        Ok(ours)
    }

    /// The records in our routes that do this job.
    pub(crate) fn ledgers(&self, route: &LocalRoute) -> impl Iterator<Item = Ledger> {
        self.routes.iter().filter(move |(ours, _)| ours == route).map(|(_, ledger)| *ledger)
    }

    /// Every switch that we turned on and have not turned off yet.
    pub(crate) fn changed(&self) -> Switches {
        union(self.routes.iter().map(|(_, ledger)| *ledger))
    }

    /// What kind of object of ours remembers that we turned this switch on.
    pub(crate) fn turned_on(&self, sysctl: Sysctl) -> Option<Lifetime> {
        self.routes
            .iter()
            .filter(|(_, ledger)| ledger.changed().contains(sysctl))
            .map(|(_, ledger)| ledger.lifetime())
            .max()
    }
}

/// The switches that any of these records names.
pub(crate) fn union(ledgers: impl IntoIterator<Item = Ledger>) -> Switches {
    ledgers.into_iter().fold(Switches::default(), |all, ledger| all.union(ledger.changed()))
}

/// The planned rule that this is, if it is one of ours.
pub(crate) fn our_rule(rule: &KernelRule) -> Option<(Rule, Lifetime)> {
    Some((rule.as_planned()?, Lifetime::of_protocol(rule.protocol)?))
}

/// The planned route that this is, if it is one of ours.
pub(crate) fn our_route(route: &KernelRoute) -> Option<(LocalRoute, Ledger)> {
    let planned = LocalRoute {
        family: route.family,
        source: route.preferred_source,
        table: Table::new(route.table).ok()?,
    };
    if !route.serves(&planned) {
        return None;
    }
    Some((planned, Ledger::read(route)?))
}
