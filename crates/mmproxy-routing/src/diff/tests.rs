//! The decisions against a small kernel of our own, in histories that no example would think of.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::mode::{Families, Settings, Transport};

/// As much of a network namespace as a plan touches, and the instances that run in it.
#[derive(Clone, Debug, Default)]
struct Namespace {
    rules: Vec<(Rule, Lifetime)>,
    routes: Vec<(LocalRoute, Ledger)>,
    tables: Vec<(Netfilter, Lifetime)>,
    on: Vec<Sysctl>,
    /// Rules and routes of somebody else, which do the job of these steps.
    foreign: Vec<Step>,
    live: Vec<Plan>,
    set_up: Vec<Plan>,
}

impl Namespace {
    fn ours(&self) -> Ours {
        let mut ours = Ours { rules: self.rules.clone(), routes: self.routes.clone(), tables: Vec::new() };
        // Nobody looks for tables that are not on record.
        if ours.changed().uses_netfilter() {
            ours.tables.clone_from(&self.tables);
        }
        ours
    }

    fn observe(&self, plan: &Plan) -> Vec<Observed> {
        let ours = self.ours();
        let state = |step: &Step| {
            let of = |lifetime: Option<Lifetime>| State::Present(lifetime.into());
            match step {
                Step::Sysctl(sysctl) if self.on.contains(sysctl) => of(ours.turned_on(*sysctl)),
                Step::Rule(rule) if self.rules.iter().any(|(found, _)| found == rule) => {
                    of(self.rules.iter().find(|(found, _)| found == rule).map(|(_, lifetime)| *lifetime))
                }
                Step::LocalRoute(route) if self.routes.iter().any(|(found, _)| found == route) => of(self
                    .routes
                    .iter()
                    .find(|(found, _)| found == route)
                    .map(|(_, ledger)| ledger.lifetime())),
                Step::Netfilter(table) if self.tables.iter().any(|(found, _)| found == table) => {
                    of(self.tables.iter().find(|(found, _)| found == table).map(|(_, lifetime)| *lifetime))
                }
                step if self.foreign.contains(step) => of(None),
                Step::Sysctl(_) | Step::Rule(_) | Step::LocalRoute(_) | Step::Netfilter(_) => State::Missing,
            }
        };
        plan.steps()
            .iter()
            .map(|step| Observed { step: step.clone(), state: state(step), near_miss: None })
            .collect()
    }

    fn make(&mut self, change: &Change) {
        match change {
            Change::AddRule(rule, lifetime) => {
                if !self.rules.contains(&(rule.clone(), *lifetime)) {
                    self.rules.push((rule.clone(), *lifetime));
                }
            }
            Change::DeleteRule(rule, lifetime) => {
                self.rules.retain(|found| *found != (rule.clone(), *lifetime));
            }
            Change::AddRoute(route, ledger) => {
                if !self.routes.contains(&(route.clone(), *ledger)) {
                    self.routes.push((route.clone(), *ledger));
                }
            }
            Change::DeleteRoute(route, ledger) => {
                self.routes.retain(|found| *found != (route.clone(), *ledger));
            }
            Change::Table(table, _, after) => {
                self.tables.retain(|(found, _)| found != table);
                self.tables.extend(after.map(|lifetime| (*table, lifetime)));
            }
            Change::Switch(sysctl, true) => self.on.push(*sysctl),
            Change::Switch(sysctl, false) => self.on.retain(|on| on != sysctl),
        }
    }

    fn install(&mut self, plan: &Plan, lifetime: Lifetime, killed_after: usize) {
        let changes = to_install(plan, &self.observe(plan), &self.ours(), lifetime);
        changes.iter().take(killed_after).for_each(|change| self.make(change));
    }

    fn settle(&mut self, torn_down: Option<&Plan>, force: bool, killed_after: usize) {
        let claims = Claims { live: &self.live, torn_down, force };
        let changes = to_settle(&self.ours(), &claims, |sysctl| self.on.contains(&sysctl));
        changes.iter().take(killed_after).for_each(|change| self.make(change));
    }

    fn live_through(&mut self, event: &Event) {
        match event {
            Event::Start(plan) => {
                self.live.push(plan.clone());
                self.settle(None, false, usize::MAX);
                self.install(plan, Lifetime::Leased, usize::MAX);
            }
            Event::KilledWhileStarting(plan, after) => {
                self.live.push(plan.clone());
                self.settle(None, false, usize::MAX);
                self.install(plan, Lifetime::Leased, *after);
                self.live.pop();
            }
            Event::StartChecking(plan) => self.live.push(plan.clone()),
            Event::Stop(index) if !self.live.is_empty() => {
                self.live.remove(index % self.live.len());
                self.settle(None, false, usize::MAX);
            }
            Event::Kill(index) if !self.live.is_empty() => {
                self.live.remove(index % self.live.len());
            }
            Event::KilledWhileStopping(index, after) if !self.live.is_empty() => {
                self.live.remove(index % self.live.len());
                self.settle(None, false, *after);
            }
            Event::Stop(_) | Event::Kill(_) | Event::KilledWhileStopping(..) => {}
            Event::SetUp(plan) => {
                self.install(plan, Lifetime::Permanent, usize::MAX);
                self.set_up.push(plan.clone());
            }
            Event::KilledWhileSettingUp(plan, after) => {
                self.install(plan, Lifetime::Permanent, *after);
                self.set_up.push(plan.clone());
            }
            Event::TearDown(plan) => self.settle(Some(plan), false, usize::MAX),
        }
    }

    /// What there is, in an order that can be compared.
    fn state(&self) -> Vec<String> {
        let rules = self.rules.iter().map(|(rule, lifetime)| format!("{rule} {lifetime:?}"));
        let routes = self
            .routes
            .iter()
            .map(|(route, ledger)| format!("{route} {:#x} {:?}", ledger.metric(), ledger.device()));
        let tables = self.tables.iter().map(|(table, lifetime)| format!("{table} {lifetime:?}"));
        let on = self.on.iter().map(ToString::to_string);
        let mut state: Vec<String> = rules.chain(routes).chain(tables).chain(on).collect();
        state.sort_unstable();
        state
    }
}

#[derive(Clone, Debug)]
enum Event {
    Start(Plan),
    StartChecking(Plan),
    KilledWhileStarting(Plan, usize),
    Stop(usize),
    KilledWhileStopping(usize, usize),
    Kill(usize),
    SetUp(Plan),
    KilledWhileSettingUp(Plan, usize),
    TearDown(Plan),
}

fn plans() -> impl Strategy<Value = Plan> {
    let families = prop_oneof![Just(Families::BOTH), Just(Families::V4), Just(Families::V6)];
    (1..3_u32, 300..302_u32, families, 0..12).prop_map(|(mark, table, families, kind)| {
        let settings = Settings {
            mark: mark.to_string().parse().unwrap(),
            table: table.to_string().parse().unwrap(),
            ..Settings::default()
        };
        let target = (Some("127.0.0.1:53".parse().unwrap()), Some("[::1]:53".parse().unwrap()));
        match kind {
            0 => Plan::source(settings, families),
            // In a table of its own: one table answers from one address.
            1 => Plan::port(
                Settings { table: "400".parse().unwrap(), ..settings },
                Transport::Udp,
                target.0,
                target.1,
            )
            .unwrap(),
            2 => Plan::socket(settings, families),
            3 => {
                Plan::connmark(settings, families, Some(["east", "west"][mark as usize - 1].parse().unwrap()))
            }
            // The default route has moved since the other one was started.
            4 => Plan::connmark(settings, families, Some("north".parse().unwrap())),
            _ => Plan::fwmark(settings, families),
        }
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    vec(
        prop_oneof![
            4 => plans().prop_map(Event::Start),
            1 => plans().prop_map(Event::StartChecking),
            1 => (plans(), 0..9_usize).prop_map(|(plan, after)| Event::KilledWhileStarting(plan, after)),
            3 => any::<usize>().prop_map(Event::Stop),
            1 => (any::<usize>(), 0..9_usize).prop_map(|(index, after)| Event::KilledWhileStopping(index, after)),
            1 => any::<usize>().prop_map(Event::Kill),
            1 => plans().prop_map(Event::SetUp),
            1 => (plans(), 0..9_usize).prop_map(|(plan, after)| Event::KilledWhileSettingUp(plan, after)),
            1 => plans().prop_map(Event::TearDown),
        ],
        0..24,
    )
}

/// A namespace in which somebody else made some of the objects before us.
fn namespaces() -> impl Strategy<Value = Namespace> {
    (vec(plans(), 0..3), any::<u32>()).prop_map(|(plans, chosen)| {
        let mut namespace = Namespace::default();
        let steps = plans.iter().flat_map(Plan::steps).enumerate();
        for (_, step) in steps.filter(|(index, _)| chosen & 1 << (index % 32) != 0) {
            match step {
                Step::Sysctl(sysctl) if !namespace.on.contains(sysctl) => namespace.on.push(*sysctl),
                Step::Sysctl(_) => {}
                Step::Rule(_) | Step::LocalRoute(_) | Step::Netfilter(_) => {
                    namespace.foreign.push(step.clone());
                }
            }
        }
        namespace
    })
}

proptest! {
    /// Whatever instances do, in whatever order they stop or are killed, even half-way through a change: when the
    /// last one has stopped and every setup is torn down, everything is as it was.
    #[test]
    fn everything_is_restored_in_the_end(mut namespace in namespaces(), events in events(), last in plans()) {
        let before = namespace.state();
        events.iter().for_each(|event| namespace.live_through(event));
        namespace.live_through(&Event::Start(last));
        while !namespace.live.is_empty() {
            namespace.live_through(&Event::Stop(0));
        }
        for plan in std::mem::take(&mut namespace.set_up) {
            namespace.live_through(&Event::TearDown(plan));
        }
        prop_assert_eq!(namespace.state(), before);
    }

    /// As long as an instance runs that installed what it needs, all of it is there.
    #[test]
    fn a_running_instance_keeps_what_it_needs(
        mut namespace in namespaces(),
        early in events(),
        plan in plans(),
        late in events(),
    ) {
        early.iter().for_each(|event| namespace.live_through(event));
        namespace.live_through(&Event::Start(plan.clone()));
        let me = namespace.live.len() - 1;
        for mut event in late {
            // Others end, not this one.
            if let Event::Stop(index) | Event::Kill(index) | Event::KilledWhileStopping(index, _) = &mut event {
                let others = namespace.live.len() - me - 1;
                if others == 0 {
                    continue;
                }
                *index = me + 1 + *index % others;
            }
            namespace.live_through(&event);
            for observed in namespace.observe(&plan) {
                prop_assert!(observed.state != State::Missing, "{} is gone", observed.step);
            }
        }
    }

    /// Installing what is installed changes nothing.
    #[test]
    fn installing_twice_is_installing_once(mut namespace in namespaces(), events in events(), plan in plans()) {
        events.iter().for_each(|event| namespace.live_through(event));
        for lifetime in [Lifetime::Leased, Lifetime::Permanent] {
            namespace.install(&plan, lifetime, usize::MAX);
            let once = namespace.state();
            namespace.install(&plan, lifetime, usize::MAX);
            prop_assert_eq!(namespace.state(), once);
        }
    }

    /// What is made is not made twice, and what is not there is not removed.
    #[test]
    fn changes_change_something(mut namespace in namespaces(), events in events(), plan in plans()) {
        events.iter().for_each(|event| namespace.live_through(event));
        let changes = to_install(&plan, &namespace.observe(&plan), &namespace.ours(), Lifetime::Permanent);
        for change in changes {
            let before = namespace.state();
            namespace.make(&change);
            prop_assert!(namespace.state() != before, "{change} changes nothing");
        }
    }
}
