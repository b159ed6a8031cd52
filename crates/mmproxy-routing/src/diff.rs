//! What has to change: pure decisions, from what is there to what should be.

use crate::change::Change;
use crate::ledger::{Ledger, Lifetime, Switches};
use crate::netfilter::Netfilter;
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
    let mut record = turned_on.clone().union(taken_over);

    let mut changes = Vec::new();
    let mut obsolete = Vec::new();
    for route in plan.routes() {
        // More than one if somebody was killed while rewriting the record.
        let old: Vec<Ledger> =
            ours.ledgers(route).filter(|ledger| converts || ledger.lifetime() == lifetime).collect();
        // The plan's first route records its switches, and each the table of its family.
        let mut changed = union(old.iter().copied()).union(std::mem::take(&mut record));
        // Of a table that somebody else made there is nothing to remember.
        let makes = |table: &Netfilter| {
            let leased = converts && ours.tables.contains(&(*table, Lifetime::Leased));
            leased || missing(&Step::Netfilter(*table))
        };
        if plan.tables().any(|table| table.relies_on(route) && makes(table)) {
            changed = changed.union(Switches::netfilter());
        }
        if old.is_empty() && changed.is_empty() && !missing(&Step::LocalRoute(route.clone())) {
            continue;
        }
        let wanted = Ledger::holding(lifetime, &changed);
        changes.extend(wanted.iter().map(|&ledger| Change::AddRoute(route.clone(), ledger)));
        let others = old.into_iter().filter(|ledger| !wanted.contains(ledger));
        obsolete.extend(others.map(|ledger| Change::DeleteRoute(route.clone(), ledger)));
    }
    changes.extend(turned_on.iter().map(|sysctl| Change::Switch(sysctl, true)));
    for &table in plan.tables() {
        let present = ours.tables.iter().find(|(found, _)| *found == table).map(|(_, lifetime)| *lifetime);
        if missing(&Step::Netfilter(table)) || (converts && present == Some(Lifetime::Leased)) {
            changes.push(Change::Table(table, present, Some(lifetime)));
        }
    }
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
    /// `kept` are the tables that stay: what they mark is looked up by a rule.
    fn keeps_rule(&self, rule: &Rule, lifetime: Lifetime, kept: &[(Netfilter, Lifetime)]) -> bool {
        self.keeps(lifetime, |plan| plan.rules().any(|planned| planned == rule))
            || kept.iter().any(|(table, of)| *of == lifetime && rule.looks_up_what(table))
    }

    /// A route goes only when no rule leads to it any more, and no table relies on it and its record.
    fn keeps_route(
        &self,
        route: &LocalRoute,
        lifetime: Lifetime,
        rules: &[&(Rule, Lifetime)],
        tables: &[(Netfilter, Lifetime)],
    ) -> bool {
        self.keeps(lifetime, |plan| plan.routes().any(|planned| planned == route))
            || rules.iter().any(|(rule, of)| *of == lifetime && rule.leads_to(route))
            || tables.iter().any(|(table, of)| *of == lifetime && table.relies_on(route))
    }

    fn keeps_table(&self, table: &Netfilter, lifetime: Lifetime) -> bool {
        self.keeps(lifetime, |plan| plan.tables().any(|planned| planned == table))
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
    let (kept_tables, doomed_tables): (Vec<_>, Vec<_>) =
        ours.tables.iter().partition(|(table, lifetime)| claims.keeps_table(table, *lifetime));
    let (kept_rules, doomed_rules): (Vec<_>, Vec<_>) =
        ours.rules.iter().partition(|(rule, lifetime)| claims.keeps_rule(rule, *lifetime, &kept_tables));
    let (kept_routes, doomed_routes): (Vec<_>, Vec<_>) = ours
        .routes
        .iter()
        .partition(|(route, ledger)| claims.keeps_route(route, ledger.lifetime(), &kept_rules, &kept_tables));

    let mut records: Vec<Record<'_>> = Vec::new();
    for (route, ledger) in kept_routes {
        record(route, ledger.lifetime(), &mut records).keep(*ledger, claims);
    }
    let mut turned_off = Vec::new();
    let kept = records.iter().fold(Switches::default(), |all, record| all.union(record.now.clone()));
    for sysctl in ours.changed().without(&kept).iter() {
        match claims.needing(sysctl).find_map(|plan| plan.routes().next()) {
            Some(heir) => {
                record(heir, Lifetime::Leased, &mut records).inherit([sysctl].into_iter().collect());
            }
            None if is_one(sysctl) => turned_off.push(Change::Switch(sysctl, false)),
            None => {}
        }
    }

    // A record is written before, and erased after, the switch that it is about changes.
    let mut changes: Vec<Change> = doomed_rules
        .into_iter()
        .map(|(rule, lifetime)| Change::DeleteRule(rule.clone(), *lifetime))
        .collect();
    changes.extend(
        doomed_tables.into_iter().map(|(table, lifetime)| Change::Table(table, Some(lifetime), None)),
    );
    let (added, obsolete): (Vec<_>, Vec<_>) = records.iter().map(Record::rewrite).unzip();
    changes.extend(added.into_iter().flatten());
    changes.extend(turned_off);
    changes.extend(obsolete.into_iter().flatten());
    changes
        .extend(doomed_routes.into_iter().map(|(route, ledger)| Change::DeleteRoute(route.clone(), *ledger)));
    changes
}

/// What our routes of one job and lifetime record, and what they are to record.
struct Record<'a> {
    route: &'a LocalRoute,
    lifetime: Lifetime,
    then: Vec<Ledger>,
    now: Switches,
}

/// The record of a route that stays or comes.
fn record<'r, 'a>(
    route: &'a LocalRoute,
    lifetime: Lifetime,
    records: &'r mut Vec<Record<'a>>,
) -> &'r mut Record<'a> {
    let position = records.iter().position(|record| record.route == route && record.lifetime == lifetime);
    let position = position.unwrap_or_else(|| {
        records.push(Record { route, lifetime, then: Vec::new(), now: Switches::default() });
        records.len() - 1
    });
    &mut records[position]
}

impl Record<'_> {
    /// Keeps what a ledger says. A lease remembers no longer than a running instance needs the switch.
    fn keep(&mut self, ledger: Ledger, claims: &Claims<'_>) {
        let mut kept = ledger.changed();
        if self.lifetime == Lifetime::Leased {
            let idle = kept.iter().filter(|&sysctl| claims.needing(sysctl).next().is_none()).collect();
            kept = kept.without(&idle);
        }
        self.then.push(ledger);
        self.now = std::mem::take(&mut self.now).union(kept);
    }

    /// Remembers what was on a record that goes.
    fn inherit(&mut self, inherited: Switches) {
        self.now = std::mem::take(&mut self.now).union(inherited);
    }

    /// What to add first and to delete at last.
    fn rewrite(&self) -> (Vec<Change>, Vec<Change>) {
        let now = Ledger::holding(self.lifetime, &self.now);
        let added = now.iter().filter(|ledger| !self.then.contains(ledger));
        let obsolete = self.then.iter().filter(|ledger| !now.contains(ledger));
        (
            added.map(|&ledger| Change::AddRoute(self.route.clone(), ledger)).collect(),
            obsolete.map(|&ledger| Change::DeleteRoute(self.route.clone(), ledger)).collect(),
        )
    }
}

#[cfg(test)]
mod tests;
