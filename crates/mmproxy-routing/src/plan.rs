//! What must be in a network namespace for replies to come back, as data.

use std::fmt;

use crate::mode::{Families, Family, Mode, Settings};
use crate::step::{LocalRoute, Rule, Selector, Step, Sysctl};

/// The objects of one return path, in the order in which an operator would make them.
///
/// A plan is pure data: it can be printed (one command a line), compared with what the kernel has
/// ([`observe`](crate::observe)), applied and removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    mode: Mode,
    settings: Settings,
    families: Families,
    steps: Vec<Step>,
}

impl Plan {
    /// The return path for targets on any address of this host: replies inherit the mark of the spoofed SYN.
    #[must_use]
    pub fn fwmark(settings: Settings, families: Families) -> Self {
        let Settings { mark, table, priority } = settings;
        let mut steps = Vec::new();
        if families.v4 || families.v6 {
            // An IPv4 name, but it is the switch for IPv6 sockets too.
            steps.push(Step::Sysctl(Sysctl::TcpFwmarkAccept));
        }
        if families.v4 {
            steps.push(Step::Sysctl(Sysctl::FwmarkReflectV4));
        }
        if families.v6 {
            steps.push(Step::Sysctl(Sysctl::FwmarkReflectV6));
        }
        for family in families.iter() {
            steps.push(Step::Rule(Rule { family, selector: Selector::Fwmark(mark), table, priority }));
            steps.push(Step::LocalRoute(LocalRoute { family, table }));
        }
        Self { mode: Mode::Fwmark, settings, families, steps }
    }

    /// The mode it was made for.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The numbers it was made with.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The families it serves.
    #[must_use]
    pub const fn families(&self) -> Families {
        self.families
    }

    /// Its objects, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The switches among its objects.
    pub(crate) fn sysctls(&self) -> impl Iterator<Item = Sysctl> {
        self.steps.iter().filter_map(|step| match step {
            Step::Sysctl(sysctl) => Some(*sysctl),
            Step::Rule(_) | Step::LocalRoute(_) => None,
        })
    }

    /// The policy rules among its objects.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.steps.iter().filter_map(|step| match step {
            Step::Rule(rule) => Some(rule),
            Step::Sysctl(_) | Step::LocalRoute(_) => None,
        })
    }

    /// The routes among its objects.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &LocalRoute> {
        self.steps.iter().filter_map(|step| match step {
            Step::LocalRoute(route) => Some(route),
            Step::Sysctl(_) | Step::Rule(_) => None,
        })
    }

    /// Whether both plans have a route in common.
    pub(crate) fn shares_routes(&self, other: &Self) -> bool {
        self.routes().any(|route| other.routes().any(|theirs| theirs == route))
    }

    /// The plan in the few characters that a running instance announces; [`Plan::read`] makes it again.
    pub(crate) fn written(&self) -> String {
        let Settings { mark, table, priority } = self.settings;
        let families: String = self.families.iter().map(Family::digit).collect();
        format!("{}:{mark}:{table}:{priority}:{families}", self.mode)
    }

    /// The plan that [`Plan::written`] wrote; `None` for what no plan of this version writes.
    pub(crate) fn read(written: &str) -> Option<Self> {
        let mut fields = written.split(':');
        let mut next = || fields.next();
        let mode = next()?;
        let settings = Settings {
            mark: next()?.parse().ok()?,
            table: next()?.parse().ok()?,
            priority: next()?.parse().ok()?,
        };
        let digits = next()?;
        let families = Families { v4: digits.contains('4'), v6: digits.contains('6') };
        let plan = (mode == Mode::Fwmark.to_string()).then(|| Self::fwmark(settings, families))?;
        (plan.written() == written).then_some(plan)
    }
}

/// One command a line, each of which an operator could type.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mode::{Mark, Priority, Table};

    #[test]
    fn both_families_as_an_operator_would_type_them() {
        assert_eq!(
            Plan::fwmark(Settings::default(), Families::BOTH).to_string(),
            "sysctl -w net.ipv4.tcp_fwmark_accept=1\n\
             sysctl -w net.ipv4.fwmark_reflect=1\n\
             sysctl -w net.ipv6.fwmark_reflect=1\n\
             ip rule add fwmark 0x7b lookup 100 priority 100\n\
             ip route add local default dev lo table 100\n\
             ip -6 rule add fwmark 0x7b lookup 100 priority 100\n\
             ip -6 route add local default dev lo table 100\n"
        );
    }

    #[test]
    fn one_family_needs_nothing_of_the_other_but_the_common_switch() {
        assert_eq!(
            Plan::fwmark(Settings::default(), Families::V6).to_string(),
            "sysctl -w net.ipv4.tcp_fwmark_accept=1\n\
             sysctl -w net.ipv6.fwmark_reflect=1\n\
             ip -6 rule add fwmark 0x7b lookup 100 priority 100\n\
             ip -6 route add local default dev lo table 100\n"
        );
        let v4 = Plan::fwmark(Settings::default(), Families::V4);
        assert!(v4.steps().iter().all(|step| step.family() != Some(Family::V6)));
    }

    #[test]
    fn no_family_needs_nothing() {
        assert_eq!(Plan::fwmark(Settings::default(), Families { v4: false, v6: false }).steps(), []);
    }

    #[test]
    fn the_way_back_as_an_operator_would_type_it() {
        let plan = Plan::fwmark(Settings::default(), Families::V6);
        let undo: Vec<String> = plan.steps().iter().rev().map(|step| step.undo().to_string()).collect();
        assert_eq!(
            undo,
            [
                "ip -6 route del local default dev lo table 100",
                "ip -6 rule del fwmark 0x7b lookup 100 priority 100",
                "sysctl -w net.ipv6.fwmark_reflect=0",
                "sysctl -w net.ipv4.tcp_fwmark_accept=0",
            ]
        );
    }

    #[test]
    fn an_unknown_announcement_is_no_plan() {
        for written in [
            "",
            "fwmark",
            "fwmark:0x0:100:100:4",
            "fwmark:0x7b:100:100:4:",
            "other:0x7b:100:100:46",
            "fwmark:123:100:100:4",
        ] {
            assert_eq!(Plan::read(written), None, "{written}");
        }
    }

    proptest! {
        /// What an instance announces is the plan that the others read.
        #[test]
        fn writing_and_reading_agree(plan in plans()) {
            prop_assert_eq!(Plan::read(&plan.written()), Some(plan));
        }

        /// Each step is one command, and its way back is the same command with the opposite verb.
        #[test]
        fn each_step_has_its_way_back(plan in plans()) {
            for step in plan.steps() {
                let (there, back) = (step.to_string(), step.undo().to_string());
                prop_assert!(there != back);
                prop_assert_eq!(there.replace(" add ", " del ").replace("=1", "=0"), back);
            }
        }
    }

    fn plans() -> impl Strategy<Value = Plan> {
        (1..=u32::MAX, 256..=u32::MAX, 1..=Priority::LAST, any::<(bool, bool)>()).prop_map(
            |(mark, table, priority, (v4, v6))| {
                let settings = Settings {
                    mark: Mark::new(mark).unwrap(),
                    table: Table::new(table).unwrap(),
                    priority: Priority::new(priority).unwrap(),
                };
                Plan::fwmark(settings, Families { v4, v6 })
            },
        )
    }
}
