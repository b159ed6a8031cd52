//! What a policy rule asks of a packet.

use std::fmt;
use std::net::IpAddr;

use rtnetlink::packet_route::rule::{RuleAttribute, RuleFlags, RuleMessage};

use crate::mode::Mark;
use crate::step::Selector;

/// The conditions of a policy rule; a packet is picked if all hold (or, inverted, if one does not).
///
/// `Display` is how `ip rule` prints them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) not: bool,
    from: Option<(IpAddr, u8)>,
    to: Option<(IpAddr, u8)>,
    /// Value and mask: the packet's mark is masked, then compared.
    fwmark: Option<(u32, u32)>,
    iif: Option<String>,
    oif: Option<String>,
    /// Conditions that no rule of ours has, as `ip` prints them.
    others: Vec<String>,
}

impl Conditions {
    /// Those of a planned rule.
    pub(super) fn of(selector: &Selector) -> Self {
        match selector {
            Selector::Fwmark(mark) => Self { fwmark: Some((mark.get(), u32::MAX)), ..Self::default() },
        }
    }

    /// Those of a rule that the kernel has.
    pub(super) fn read(message: RuleMessage) -> Self {
        let header = message.header;
        let mut found = Self { not: header.flags.contains(RuleFlags::Invert), ..Self::default() };
        if header.tos != 0 {
            found.others.push(format!("tos {:#x}", header.tos));
        }
        let (mut mark, mut mask) = (0, None);
        for attribute in message.attributes {
            match attribute {
                RuleAttribute::Source(address) => found.from = Some((address, header.src_len)),
                RuleAttribute::Destination(address) => found.to = Some((address, header.dst_len)),
                RuleAttribute::FwMark(value) => mark = value,
                RuleAttribute::FwMask(value) => mask = Some(value),
                RuleAttribute::Iifname(name) => found.iif = Some(name),
                RuleAttribute::Oifname(name) => found.oif = Some(name),
                other => found.others.extend(condition(&other)),
            }
        }
        let mask = mask.unwrap_or(if mark == 0 { 0 } else { u32::MAX });
        found.fwmark = (mask != 0).then_some((mark, mask));
        found
    }

    /// Adds them to a rule that is about to be made.
    pub(super) fn write(self, message: &mut RuleMessage) {
        if let Some((mark, mask)) = self.fwmark {
            message.attributes.extend([RuleAttribute::FwMark(mark), RuleAttribute::FwMask(mask)]);
        }
    }

    /// Whether every packet that meets these conditions, those of a planned rule, meets `theirs` too.
    ///
    /// A rule that picks unmarked packets as well is not implied: it would bring our replies back together with all
    /// other traffic, and is nothing to build on.
    pub(super) fn imply(&self, theirs: &Self) -> bool {
        let mark = match (self.fwmark, theirs.fwmark) {
            (Some((mark, _)), Some(theirs)) => names(mark, theirs),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        };
        mark && !theirs.not
            && theirs.from.is_none()
            && theirs.to.is_none()
            // The target's replies are packets of this host, and those "come in" by lo.
            && theirs.iif.as_deref().is_none_or(|name| name == "lo")
            && theirs.oif.is_none()
            && theirs.others.is_empty()
    }

    /// Whether these conditions are about the very packets of a planned rule, whatever else they ask.
    pub(super) fn name(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Fwmark(mark) => {
                !self.not && self.fwmark.is_some_and(|theirs| names(mark.get(), theirs))
            }
        }
    }

    /// Whether no packet of a planned rule can meet these conditions, as far as mark and interface tell.
    pub(super) fn exclude(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Fwmark(mark) if self.not => {
                let alone = Self { not: true, fwmark: self.fwmark, ..Self::default() };
                *self == alone && self.fwmark.is_some_and(|fwmark| passes(mark.get(), fwmark))
            }
            Selector::Fwmark(mark) => {
                self.fwmark.is_some_and(|fwmark| !passes(mark.get(), fwmark))
                    || self.iif.as_deref().is_some_and(|name| name != "lo")
            }
        }
    }

    /// The planned rule's selector that has exactly these conditions.
    pub(super) fn as_selector(&self) -> Option<Selector> {
        let selector = Selector::Fwmark(Mark::new(self.fwmark?.0).ok()?);
        (*self == Self::of(&selector)).then_some(selector)
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.not {
            f.write_str("not ")?;
        }
        match self.from {
            Some((address, length)) => write!(f, "from {address}/{length}")?,
            None => f.write_str("from all")?,
        }
        if let Some((address, length)) = self.to {
            write!(f, " to {address}/{length}")?;
        }
        match self.fwmark {
            Some((mark, u32::MAX)) => write!(f, " fwmark {mark:#x}")?,
            Some((mark, mask)) => write!(f, " fwmark {mark:#x}/{mask:#x}")?,
            None => {}
        }
        if let Some(name) = &self.iif {
            write!(f, " iif {name}")?;
        }
        if let Some(name) = &self.oif {
            write!(f, " oif {name}")?;
        }
        self.others.iter().try_for_each(|other| write!(f, " {other}"))
    }
}

/// A condition that none of our rules has, as `ip` prints it; `None` for what is no condition.
fn condition(attribute: &RuleAttribute) -> Option<String> {
    match attribute {
        // Said elsewhere on the line, or without effect on which packets are picked.
        RuleAttribute::Priority(_)
        | RuleAttribute::Protocol(_)
        | RuleAttribute::Table(_)
        | RuleAttribute::Goto(_)
        | RuleAttribute::Realm(_)
        | RuleAttribute::L3MDev(false) => None,
        // The kernel says "none" as all ones.
        RuleAttribute::SuppressPrefixLen(u32::MAX) | RuleAttribute::SuppressIfGroup(u32::MAX) => None,
        RuleAttribute::SuppressPrefixLen(length) => Some(format!("suppress_prefixlength {length}")),
        RuleAttribute::SuppressIfGroup(group) => Some(format!("suppress_ifgroup {group}")),
        RuleAttribute::L3MDev(true) => Some("l3mdev".to_owned()),
        RuleAttribute::IpProtocol(protocol) => Some(format!("ipproto {}", i32::from(*protocol))),
        RuleAttribute::SourcePortRange(range) => Some(ports("sport", range.start, range.end)),
        RuleAttribute::DestinationPortRange(range) => Some(ports("dport", range.start, range.end)),
        RuleAttribute::UidRange(range) => Some(format!("uidrange {}-{}", range.start, range.end)),
        RuleAttribute::TunId(id) => Some(format!("tun_id {id}")),
        other => Some(format!("[{other:?}]")),
    }
}

fn ports(which: &str, start: u16, end: u16) -> String {
    if start == end { format!("{which} {start}") } else { format!("{which} {start}-{end}") }
}

/// Whether a mark meets a condition: the kernel masks both sides.
const fn passes(mark: u32, (value, mask): (u32, u32)) -> bool {
    mark & mask == value & mask
}

/// Whether it does so as a mark, which a packet without one does not.
const fn names(mark: u32, condition: (u32, u32)) -> bool {
    passes(mark, condition) && !passes(0, condition)
}
