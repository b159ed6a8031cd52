//! What has to change: pure decisions, from what is there to what should be.

use crate::change::Change;
use crate::ledger::{Ledger, Lifetime, Switches};
use crate::observe::{Observed, State};
use crate::ours::{Ours, union};
use crate::plan::Plan;
use crate::step::{LocalRoute, Rule, Step, Sysctl};

/// The steps that [`apply`](crate::apply) would add, in order.
pub fn diff(observed: &[Observed]) -> impl Iterator<Item = &Step> {
    observed.iter().filter(|observed| observed.state == State::Missing).map(|observed| &observed.step)
}

/// What to do so that all steps are present for `lifetime`.
///
/// Records come first and are complete before anything else changes, so that a process that is killed in between
/// leaves nothing that the next one could not undo. A record of a switch that is still off does no harm.
pub(crate) fn to_install(plan: &Plan, observed: &[Observed], ours: &Ours, lifetime: Lifetime) -> Vec<Change> {
    let missing = |step: &Step| diff(observed).any(|missing| missing == step);
    // What only a running instance holds must outlive it when `setup` is asked for the same.
    let converts = lifetime == Lifetime::Permanent;
    let turned_on: Switches = plan.sysctls().filter(|&sysctl| missing(&Step::Sysctl(sysctl))).collect();
    let taken_over: Switches =
        plan.sysctls().filter(|&sysctl| converts && ours.turned_on(sysctl).is_some()).collect();
    let mut record = turned_on.union(taken_over);

    let mut changes = Vec::new();
    let mut obsolete = Vec::new();
    for route in plan.routes() {
        // More than one if somebody was killed while rewriting the record.
        let old: Vec<Ledger> =
            ours.ledgers(route).filter(|ledger| converts || ledger.lifetime() == lifetime).collect();
        // The plan's first route records for the whole plan.
        let changed = union(old.iter().copied()).union(std::mem::take(&mut record));
        let wanted = Ledger::new(lifetime, changed);
        if !old.is_empty() || missing(&Step::LocalRoute(route.clone())) || !changed.is_empty() {
            changes.push(Change::AddRoute(route.clone(), wanted));
            let others = old.into_iter().filter(|&ledger| ledger != wanted);
            obsolete.extend(others.map(|ledger| Change::DeleteRoute(route.clone(), ledger)));
        }
    }
    changes.extend(turned_on.iter().map(|sysctl| Change::Switch(sysctl, true)));
    for rule in plan.rules() {
        let leased = converts && ours.rules.contains(&(rule.clone(), Lifetime::Leased));
        if leased || missing(&Step::Rule(rule.clone())) {
            changes.push(Change::AddRule(rule.clone(), lifetime));
        }
        if leased {
            obsolete.push(Change::DeleteRule(rule.clone(), Lifetime::Leased));
        }
    }
    changes.append(&mut obsolete);
    // Somebody who was killed half-way may have made a part of it.
    changes.retain(|change| !change.is_made(ours));
    changes
}

/// Which objects of ours are to stay.
pub(crate) struct Claims<'a> {
    /// The plans of all running instances that count.
    pub(crate) live: &'a [Plan],
    /// The plan that is being torn down, if one is.
    pub(crate) torn_down: Option<&'a Plan>,
    /// Whether the plan that is being torn down goes even where running instances need it.
    pub(crate) force: bool,
}

impl Claims<'_> {
    fn keeps_rule(&self, rule: &Rule, lifetime: Lifetime) -> bool {
        self.keeps(lifetime, |plan| plan.rules().any(|planned| planned == rule))
    }

    /// `kept` are the rules that stay: a route goes only when none of them leads to it any more.
    fn keeps_route(&self, route: &LocalRoute, lifetime: Lifetime, kept: &[&(Rule, Lifetime)]) -> bool {
        self.keeps(lifetime, |plan| plan.routes().any(|planned| planned == route))
            || kept.iter().any(|(rule, of)| *of == lifetime && rule.leads_to(route))
    }

    fn keeps(&self, lifetime: Lifetime, contains: impl Fn(&Plan) -> bool) -> bool {
        let live = self.live.iter().any(&contains);
        let torn_down = self.torn_down.is_some_and(&contains);
        match lifetime {
            Lifetime::Leased => live && !(torn_down && self.force),
            Lifetime::Permanent => !torn_down || (live && !self.force),
        }
    }

    /// The running instances' plans that still count.
    fn needing(&self, sysctl: Sysctl) -> impl Iterator<Item = &Plan> {
        let forced = self.torn_down.filter(|_| self.force);
        self.live
            .iter()
            .filter(move |plan| forced.is_none_or(|forced| !forced.shares_routes(plan)))
            .filter(move |plan| plan.sysctls().any(|needed| needed == sysctl))
    }
}

/// What to do so that of all objects of ours only those stay that are claimed.
///
/// `is_one` says whether a switch still has the value that we gave it: what somebody changed since is theirs.
///
/// A switch is turned off when the last record of it goes. If a running instance needs it that holds no record (it
/// found the switch on), the record is handed over to that instance's table first.
pub(crate) fn to_settle(ours: &Ours, claims: &Claims<'_>, is_one: impl Fn(Sysctl) -> bool) -> Vec<Change> {
    let (kept_rules, doomed_rules): (Vec<_>, Vec<_>) =
        ours.rules.iter().partition(|(rule, lifetime)| claims.keeps_rule(rule, *lifetime));
    let (kept_routes, doomed_routes): (Vec<_>, Vec<_>) = ours
        .routes
        .iter()
        .partition(|(route, ledger)| claims.keeps_route(route, ledger.lifetime(), &kept_rules));

    // What each route of ours is to record afterwards, in pairs of then and now.
    let mut records: Vec<(LocalRoute, Option<Ledger>, Ledger)> = Vec::new();
    for (route, ledger) in kept_routes {
        let still = match ledger.lifetime() {
            Lifetime::Permanent => ledger.changed(),
            Lifetime::Leased => {
                let named: Switches = ledger.changed().iter().collect();
                let needed: Switches =
                    named.iter().filter(|&sysctl| claims.needing(sysctl).next().is_some()).collect();
                // A newer version's switches are not ours to judge.
                ledger.changed().without(named).union(needed)
            }
        };
        records.push((route.clone(), Some(*ledger), Ledger::new(ledger.lifetime(), still)));
    }
    let lost = |records: &[(LocalRoute, Option<Ledger>, Ledger)]| {
        ours.changed().without(union(records.iter().map(|(_, _, ledger)| *ledger)))
    };
    let mut turned_off = Vec::new();
    for sysctl in lost(&records).iter() {
        match claims.needing(sysctl).find_map(|plan| plan.routes().next()) {
            Some(heir) => hand_over(sysctl, heir, &mut records),
            None if is_one(sysctl) => turned_off.push(Change::Switch(sysctl, false)),
            None => {}
        }
    }

    let mut changes: Vec<Change> = doomed_rules
        .into_iter()
        .map(|(rule, lifetime)| Change::DeleteRule(rule.clone(), *lifetime))
        .collect();
    let rewritten: Vec<_> = records.into_iter().filter(|(_, then, now)| *then != Some(*now)).collect();
    let adds = |gains: bool| {
        rewritten
            .iter()
            .filter(move |(_, then, now)| {
                then.is_none_or(|then| !now.changed().without(then.changed()).is_empty()) == gains
            })
            .map(|(route, _, now)| Change::AddRoute(route.clone(), *now))
    };
    // A record is written before, and erased after, the switch that it is about changes.
    changes.extend(adds(true));
    changes.extend(turned_off);
    changes.extend(adds(false));
    changes.extend(
        rewritten.iter().filter_map(|(route, then, _)| Some(Change::DeleteRoute(route.clone(), (*then)?))),
    );
    changes
        .extend(doomed_routes.into_iter().map(|(route, ledger)| Change::DeleteRoute(route.clone(), *ledger)));
    changes
}

/// Lets the leased route of another instance remember that we turned a switch on; makes one if there is none.
fn hand_over(sysctl: Sysctl, heir: &LocalRoute, records: &mut Vec<(LocalRoute, Option<Ledger>, Ledger)>) {
    let inherited = [sysctl].into_iter().collect();
    let held = records.iter_mut().find(|(route, _, now)| route == heir && now.lifetime() == Lifetime::Leased);
    match held {
        Some((_, _, now)) => *now = Ledger::new(Lifetime::Leased, now.changed().union(inherited)),
        None => records.push((heir.clone(), None, Ledger::new(Lifetime::Leased, inherited))),
    }
}

#[cfg(test)]
mod tests;
