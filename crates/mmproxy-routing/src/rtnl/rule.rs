//! Policy rules as the kernel has them.

use std::fmt;

use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::conditions::Conditions;
use super::{family, table_name};
use crate::maker::protocol_name;
use crate::mode::{Family, Priority, Table};
use crate::step::Rule;

/// A policy rule of anybody's.
///
/// `Display` is the line that `ip rule` prints, with the maker always named.
#[derive(Clone, Debug)]
pub(crate) struct KernelRule {
    pub(crate) family: Family,
    /// Rules are tried in the order of their priority; those with the same one, in the order of their making.
    pub(crate) priority: u32,
    /// Who made it (`FRA_PROTOCOL`).
    pub(crate) protocol: u8,
    pub(crate) action: Action,
    conditions: Conditions,
}

/// What a rule does with the packets it picks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// `lookup TABLE`
    Lookup(u32),
    /// `goto PRIORITY`
    Goto(u32),
    /// `unreachable`, `blackhole`, `prohibit`
    Refuse(&'static str),
    /// Nothing: the next rule is tried.
    Nop,
}

impl KernelRule {
    /// `None` for families that are none of ours.
    pub(super) fn read(message: RuleMessage) -> Option<Self> {
        let header = &message.header;
        let (mut priority, mut protocol, mut table, mut goto) = (0, 0, u32::from(header.table), 0);
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Priority(number) => priority = *number,
                RuleAttribute::Protocol(maker) => protocol = (*maker).into(),
                RuleAttribute::Table(number) => table = *number,
                RuleAttribute::Goto(number) => goto = *number,
                _ => {}
            }
        }
        let action = match header.action {
            RuleAction::ToTable => Action::Lookup(table),
            RuleAction::Goto => Action::Goto(goto),
            RuleAction::Blackhole => Action::Refuse("blackhole"),
            RuleAction::Unreachable => Action::Refuse("unreachable"),
            RuleAction::Prohibit => Action::Refuse("prohibit"),
            _ => Action::Nop,
        };
        let family = family(header.family)?;
        Some(Self { family, priority, protocol, action, conditions: Conditions::read(message) })
    }

    /// Whether every packet that `wanted` is about is looked up in its table because of this rule, if it gets here.
    pub(crate) fn serves(&self, wanted: &Rule) -> bool {
        self.looks_up(wanted.family, wanted.table) && planned(wanted).imply(&self.conditions)
    }

    /// Whether this rule is about the packets of `wanted` by name, but sends them elsewhere.
    pub(crate) fn diverts(&self, wanted: &Rule) -> bool {
        self.family == wanted.family
            && self.action != Action::Nop
            && self.action != Action::Lookup(wanted.table.get())
            && self.conditions.is_about(&planned(wanted))
    }

    /// Whether this rule may pick a packet that `wanted` is about, as far as mark and interface tell.
    pub(crate) fn may_pick(&self, wanted: &Rule) -> bool {
        self.family == wanted.family && !self.conditions.exclude(&planned(wanted))
    }

    /// Whether this rule sends something to a table.
    pub(crate) fn looks_up(&self, family: Family, table: Table) -> bool {
        self.family == family && self.action == Action::Lookup(table.get())
    }

    /// The rule of a plan that this is, literally: nothing more, nothing less.
    pub(crate) fn as_planned(&self) -> Option<Rule> {
        let Action::Lookup(table) = self.action else { return None };
        Some(Rule {
            family: self.family,
            selector: self.conditions.as_selector(self.family)?,
            table: Table::new(table).ok()?,
            priority: Priority::new(self.priority).ok()?,
        })
    }
}

impl fmt::Display for KernelRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.priority, self.conditions)?;
        match self.action {
            Action::Lookup(table) => write!(f, " lookup {}", table_name(table))?,
            Action::Goto(priority) => write!(f, " goto {priority}")?,
            Action::Refuse(how) => write!(f, " {how}")?,
            Action::Nop => f.write_str(" nop")?,
        }
        write!(f, " proto {}", protocol_name(self.protocol))
    }
}

/// A planned rule as netlink says it, with its maker.
pub(crate) fn rule_message(rule: &Rule, protocol: u8) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = rule.family.into();
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority.get()),
        RuleAttribute::Table(rule.table.get()),
        RuleAttribute::Protocol(RouteProtocol::from(protocol)),
    ];
    planned(rule).write(&mut message);
    message
}

fn planned(rule: &Rule) -> Conditions {
    Conditions::of(&rule.selector, rule.family)
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::rule::{RuleFlags, RulePortRange};

    use super::*;
    use crate::mode::{Families, Mark, Settings, Transport};
    use crate::plan::Plan;
    use crate::step::Step;

    fn wanted() -> Rule {
        let plan = Plan::fwmark(Settings::default(), Families::V4);
        plan.steps()
            .iter()
            .find_map(|step| if let Step::Rule(rule) = step { Some(rule.clone()) } else { None })
            .unwrap()
    }

    fn found(change: impl FnOnce(&mut RuleMessage)) -> KernelRule {
        let mut message = rule_message(&wanted(), 3);
        change(&mut message);
        KernelRule::read(message).unwrap()
    }

    fn with(attribute: RuleAttribute) -> KernelRule {
        found(|message| message.attributes.push(attribute))
    }

    fn marked(value: u32, mask: u32) -> KernelRule {
        found(|message| {
            message.attributes.retain(|a| !matches!(a, RuleAttribute::FwMark(_) | RuleAttribute::FwMask(_)));
            message.attributes.extend([RuleAttribute::FwMark(value), RuleAttribute::FwMask(mask)]);
        })
    }

    #[test]
    fn a_rule_of_ours_is_read_back_as_planned() {
        let rule = found(|_| {});
        assert_eq!(rule.as_planned(), Some(wanted()));
        assert!(rule.serves(&wanted()));
        assert_eq!(rule.to_string(), "100: from all fwmark 0x7b lookup 100 proto boot");
    }

    #[test]
    fn a_masked_mark_serves_if_ours_passes_the_mask() {
        assert!(marked(0x7b, 0xff).serves(&wanted()));
        assert!(!marked(0x7b, 0xff00).serves(&wanted()), "unmarked packets pass too");
        assert!(!marked(0x7a, 0xff).serves(&wanted()));
        let masked =
            Rule { selector: crate::step::Selector::Fwmark("0x7b/0xff".parse().unwrap()), ..wanted() };
        assert_eq!(marked(0x7b, 0xff).as_planned(), Some(masked.clone()));
        assert!(marked(0x7b, 0xff).serves(&masked));
        assert!(marked(0x3, 0x3).serves(&masked), "fewer bits pick more packets");
        assert!(!marked(0x7b, u32::MAX).serves(&masked), "packets with further bits would be missed");
        assert_eq!(marked(0x7b, 0xff).to_string(), "100: from all fwmark 0x7b/0xff lookup 100 proto boot");
    }

    /// `lookup 100` without a mark brings our replies back, together with everything else: nothing to build on.
    #[test]
    fn a_rule_for_all_packets_does_not_serve() {
        assert!(!marked(0, 0).serves(&wanted()));
        assert!(marked(0, 0).may_pick(&wanted()));
    }

    #[test]
    fn a_rule_with_further_conditions_does_not_serve() {
        assert!(!with(RuleAttribute::Iifname("lo".into())).serves(&wanted()));
        assert!(!with(RuleAttribute::Iifname("eth0".into())).serves(&wanted()));
        assert!(!with(RuleAttribute::Oifname("lo".into())).serves(&wanted()));
        assert!(
            !with(RuleAttribute::SourcePortRange(RulePortRange { start: 22, end: 22 })).serves(&wanted())
        );
        assert!(!with(RuleAttribute::SuppressPrefixLen(0)).serves(&wanted()));
        assert!(with(RuleAttribute::SuppressPrefixLen(u32::MAX)).serves(&wanted()), "all ones is none");
        assert!(!found(|message| message.header.flags = RuleFlags::Invert).serves(&wanted()));
        assert!(!found(|message| message.header.action = RuleAction::Unreachable).serves(&wanted()));
    }

    #[test]
    fn only_a_rule_that_names_our_mark_diverts_it() {
        let elsewhere = |mut rule: KernelRule| {
            rule.action = Action::Lookup(200);
            rule
        };
        assert!(elsewhere(marked(0x7b, u32::MAX)).diverts(&wanted()));
        assert!(elsewhere(marked(0x7b, 0xff)).diverts(&wanted()));
        assert!(!elsewhere(marked(0x7a, 0xff)).diverts(&wanted()));
        assert!(!elsewhere(marked(0, 0)).diverts(&wanted()));
        assert!(!marked(0x7b, u32::MAX).diverts(&wanted()), "it leads to our table");
    }

    fn rule_of(plan: &Plan, family: Family) -> Rule {
        let rules = plan
            .steps()
            .iter()
            .filter_map(|step| if let Step::Rule(rule) = step { Some(rule) } else { None });
        rules.into_iter().find(|rule| rule.family == family).unwrap().clone()
    }

    #[test]
    fn rules_of_every_mode_are_read_back_as_planned() {
        let settings = Settings::default();
        let target = (Some("10.0.0.1:53".parse().unwrap()), Some("[fd00::1]:53".parse().unwrap()));
        for plan in [
            Plan::fwmark(settings, Families::BOTH),
            Plan::source(settings, Families::BOTH),
            Plan::port(settings, Transport::Udp, target.0, target.1).unwrap(),
            Plan::port(settings, Transport::Tcp, target.0, target.1).unwrap(),
        ] {
            for family in Families::BOTH.iter() {
                let planned = rule_of(&plan, family);
                let found = KernelRule::read(rule_message(&planned, 77)).unwrap();
                assert_eq!(found.as_planned(), Some(planned.clone()), "{found}");
                assert!(
                    found.serves(&planned) && !found.diverts(&planned) && found.may_pick(&planned),
                    "{found}"
                );
                assert!(
                    planned.to_string().contains(
                        found
                            .to_string()
                            .split_once("from all ")
                            .map_or("from", |(_, rest)| { rest.split(" lookup").next().unwrap() })
                    )
                );
            }
        }
    }

    fn source_rule(address: &str, length: u8) -> KernelRule {
        let wanted = rule_of(&Plan::source(Settings::default(), Families::V4), Family::V4);
        let mut message = rule_message(&wanted, 3);
        message.header.src_len = length;
        message.attributes.retain(|attribute| !matches!(attribute, RuleAttribute::Source(_)));
        message.attributes.push(RuleAttribute::Source(address.parse().unwrap()));
        KernelRule::read(message).unwrap()
    }

    #[test]
    fn a_wider_source_serves_and_a_narrower_does_not() {
        let wanted = rule_of(&Plan::source(Settings::default(), Families::V4), Family::V4);
        assert!(source_rule("127.0.0.1", 8).serves(&wanted), "with host bits, as in the README of others");
        assert!(source_rule("126.0.0.0", 7).serves(&wanted));
        assert!(!source_rule("127.0.0.1", 32).serves(&wanted));
        assert!(!source_rule("10.0.0.0", 8).serves(&wanted));
        assert!(!source_rule("10.0.0.0", 8).may_pick(&wanted));
        assert!(source_rule("127.0.0.1", 32).may_pick(&wanted));
    }

    #[test]
    fn a_range_of_ports_serves_each_of_them() {
        let target = "10.0.0.1:53".parse().unwrap();
        let wanted = rule_of(
            &Plan::port(Settings::default(), Transport::Udp, Some(target), None).unwrap(),
            Family::V4,
        );
        let with = |start, end| {
            let mut message = rule_message(&wanted, 3);
            message.attributes.retain(|attribute| !matches!(attribute, RuleAttribute::SourcePortRange(_)));
            message.attributes.push(RuleAttribute::SourcePortRange(RulePortRange { start, end }));
            KernelRule::read(message).unwrap()
        };
        assert!(with(50, 60).serves(&wanted));
        assert!(!with(54, 60).serves(&wanted));
        assert!(!with(54, 60).may_pick(&wanted));
    }

    #[test]
    fn what_wireguard_installs_may_pick_our_replies() {
        let mut rule = marked(0xca6c, u32::MAX);
        rule.conditions.not = true;
        rule.action = Action::Lookup(51820);
        assert!(rule.may_pick(&wanted()));
        assert_eq!(rule.to_string(), "100: not from all fwmark 0xca6c lookup 51820 proto boot");
        let other = Rule { selector: crate::step::Selector::Fwmark(Mark::new(0xca6c).unwrap()), ..wanted() };
        assert!(!rule.may_pick(&other));
    }
}
