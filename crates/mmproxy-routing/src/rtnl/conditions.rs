//! What a policy rule asks of a packet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_core::{DefaultNla, Nla};
use rtnetlink::packet_route::IpProtocol;
use rtnetlink::packet_route::rule::{RuleAttribute, RuleFlags, RuleMessage, RulePortRange};

use crate::mode::{Family, Mark, Transport};
use crate::step::Selector;

/// The conditions of a policy rule; a packet is picked if all hold (or, inverted, if one does not).
///
/// `Display` is how `ip rule` prints them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) not: bool,
    from: Option<Net>,
    to: Option<Net>,
    /// Value and mask: the packet's mark is masked, then compared.
    fwmark: Option<(u32, u32)>,
    iif: Option<String>,
    oif: Option<String>,
    ip_protocol: Option<u8>,
    /// First and last.
    source_ports: Option<(u16, u16)>,
    /// Conditions that no rule of ours has, as `ip` prints them.
    others: Vec<String>,
}

impl Conditions {
    /// Those of a planned rule.
    pub(super) fn of(selector: &Selector, family: Family) -> Self {
        let lo = Some("lo".to_owned());
        match *selector {
            Selector::Fwmark(mark) => Self { fwmark: Some((mark.get(), mark.mask())), ..Self::default() },
            Selector::FromLoopback => Self { from: Some(Net::loopback(family)), iif: lo, ..Self::default() },
            Selector::SourcePort { transport, port } => Self {
                iif: lo,
                ip_protocol: Some(transport.number()),
                source_ports: Some((port, port)),
                ..Self::default()
            },
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
                RuleAttribute::Source(address) => found.from = Some(Net { address, length: header.src_len }),
                RuleAttribute::Destination(address) => {
                    found.to = Some(Net { address, length: header.dst_len });
                }
                RuleAttribute::FwMark(value) => mark = value,
                RuleAttribute::FwMask(value) => mask = Some(value),
                RuleAttribute::Iifname(name) => found.iif = Some(name),
                RuleAttribute::Oifname(name) => found.oif = Some(name),
                RuleAttribute::IpProtocol(protocol) => found.ip_protocol = Some(protocol.into()),
                RuleAttribute::SourcePortRange(range) => found.source_ports = Some((range.start, range.end)),
                other => found.others.extend(condition(&other)),
            }
        }
        let mask = mask.unwrap_or(if mark == 0 { 0 } else { u32::MAX });
        found.fwmark = (mask != 0).then_some((mark, mask));
        found
    }

    /// Adds them to a rule that is about to be made.
    pub(super) fn write(self, message: &mut RuleMessage) {
        if let Some(Net { address, length }) = self.from {
            message.header.src_len = length;
            message.attributes.push(RuleAttribute::Source(address));
        }
        if let Some((mark, mask)) = self.fwmark {
            message.attributes.extend([RuleAttribute::FwMark(mark), RuleAttribute::FwMask(mask)]);
        }
        message.attributes.extend(self.iif.map(RuleAttribute::Iifname));
        message.attributes.extend(self.ip_protocol.map(IpProtocol::from).map(RuleAttribute::IpProtocol));
        message.attributes.extend(
            self.source_ports
                .map(|(start, end)| RuleAttribute::SourcePortRange(RulePortRange { start, end })),
        );
    }

    /// Whether every packet that meets these conditions, those of a planned rule, meets `theirs` too.
    ///
    /// A rule that is not about what makes our packets ours (it picks unmarked packets as well, say) is not implied:
    /// it would bring our replies back together with all other traffic, and is nothing to build on.
    pub(super) fn imply(&self, theirs: &Self) -> bool {
        theirs.is_about(self)
            && theirs.to.is_none()
            && theirs.oif.is_none()
            && theirs.others.is_empty()
            && implies(self.from, theirs.from, Net::contains)
            && implies(self.fwmark, theirs.fwmark, |theirs, (mark, mask)| {
                names(mark, theirs) && theirs.1 & !mask == 0
            })
            && implies(self.iif.as_ref(), theirs.iif.as_ref(), |theirs, ours| theirs == ours)
            && implies(self.ip_protocol, theirs.ip_protocol, |theirs, ours| theirs == ours)
            && implies(self.source_ports, theirs.source_ports, covers)
    }

    /// Whether these conditions, of anybody's rule, name what makes the packets of a planned rule what they are.
    pub(super) fn is_about(&self, planned: &Self) -> bool {
        let same = |ours: bool, theirs: bool| !ours || theirs;
        !self.not
            && same(planned.fwmark.is_some(), self.fwmark.is_some())
            && same(planned.from.is_some(), self.from.is_some())
            && same(planned.source_ports.is_some(), self.source_ports.is_some())
            && !self.exclude(planned)
            && planned.fwmark.is_none_or(|(mark, _)| self.fwmark.is_some_and(|theirs| names(mark, theirs)))
    }

    /// Whether no packet of a planned rule can meet these conditions, as far as can be told.
    pub(super) fn exclude(&self, planned: &Self) -> bool {
        if self.not {
            let alone = Self { not: true, fwmark: self.fwmark, ..Self::default() };
            return *self == alone
                && contradict(planned.fwmark, self.fwmark, |(mark, _), theirs| !passes(mark, theirs));
        }
        contradict(planned.fwmark, self.fwmark, |(mark, _), theirs| passes(mark, theirs))
            || contradict(planned.from, self.from, |ours, theirs| ours.contains(theirs) || theirs.contains(ours))
            || contradict(planned.ip_protocol, self.ip_protocol, |ours, theirs| ours == theirs)
            || contradict(planned.source_ports, self.source_ports, |ours, theirs| covers(theirs, ours))
            // What our rules pick are packets of this host, and those "come in" by lo.
            || self.iif.as_deref().is_some_and(|name| name != "lo")
    }

    /// The planned rule's selector that has exactly these conditions.
    pub(super) fn as_selector(&self, family: Family) -> Option<Selector> {
        let selector = if let Some((mark, mask)) = self.fwmark {
            Selector::Fwmark(Mark::masked(mark, mask).ok()?)
        } else if let Some((port, _)) = self.source_ports {
            let known = [Transport::Tcp, Transport::Udp];
            let transport = known.into_iter().find(|known| Some(known.number()) == self.ip_protocol)?;
            Selector::SourcePort { transport, port }
        } else {
            Selector::FromLoopback
        };
        (*self == Self::of(&selector, family)).then_some(selector)
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.not {
            f.write_str("not ")?;
        }
        match self.from {
            Some(net) => write!(f, "from {net}")?,
            None => f.write_str("from all")?,
        }
        if let Some(net) = self.to {
            write!(f, " to {net}")?;
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
        if let Some(number) = self.ip_protocol {
            match [Transport::Tcp, Transport::Udp].into_iter().find(|known| known.number() == number) {
                Some(known) => write!(f, " ipproto {known}")?,
                None => write!(f, " ipproto {number}")?,
            }
        }
        if let Some((start, end)) = self.source_ports {
            write!(f, " {}", ports("sport", start, end))?;
        }
        self.others.iter().try_for_each(|other| write!(f, " {other}"))
    }
}

/// A network, possibly written with host bits, which the kernel keeps and ignores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Net {
    address: IpAddr,
    length: u8,
}

impl Net {
    const fn loopback(family: Family) -> Self {
        match family {
            Family::V4 => Self { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), length: 8 },
            Family::V6 => Self { address: IpAddr::V6(Ipv6Addr::LOCALHOST), length: 128 },
        }
    }

    fn contains(self, other: Self) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let ((ours, width), (theirs, other_width)) = (bits(self.address), bits(other.address));
        let beyond = 128 - u32::from(self.length);
        width == other_width
            && self.length <= other.length
            && ours.checked_shr(beyond).unwrap_or(0) == theirs.checked_shr(beyond).unwrap_or(0)
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Whether what is planned meets their condition, if they have one.
fn implies<T>(planned: Option<T>, theirs: Option<T>, holds: impl Fn(T, T) -> bool) -> bool {
    match (planned, theirs) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(planned), Some(theirs)) => holds(theirs, planned),
    }
}

/// Whether both say something and cannot hold together.
fn contradict<T>(planned: Option<T>, theirs: Option<T>, agree: impl Fn(T, T) -> bool) -> bool {
    planned.zip(theirs).is_some_and(|(planned, theirs)| !agree(planned, theirs))
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
        RuleAttribute::DestinationPortRange(range) => Some(ports("dport", range.start, range.end)),
        RuleAttribute::UidRange(range) => Some(format!("uidrange {}-{}", range.start, range.end)),
        RuleAttribute::TunId(id) => Some(format!("tun_id {id}")),
        RuleAttribute::Other(mask) if is_whole_port(mask) => None,
        other => Some(format!("[{other:?}]")),
    }
}

/// Whether this is the mask of a port that says nothing: the kernel sends one with every port since Linux 6.15.
fn is_whole_port(attribute: &DefaultNla) -> bool {
    let mut value = [0; 2];
    let fits = attribute.value_len() == value.len();
    if fits {
        attribute.emit_value(&mut value);
    }
    fits && matches!(attribute.kind(), FRA_SPORT_MASK | FRA_DPORT_MASK) && value == [0xff; 2]
}

fn ports(which: &str, start: u16, end: u16) -> String {
    if start == end { format!("{which} {start}") } else { format!("{which} {start}-{end}") }
}

/// Whether one range of ports contains the other.
const fn covers((start, end): (u16, u16), (first, last): (u16, u16)) -> bool {
    start <= first && last <= end
}

/// Whether a mark meets a condition: the kernel masks both sides.
const fn passes(mark: u32, (value, mask): (u32, u32)) -> bool {
    mark & mask == value & mask
}

/// Whether it does so as a mark, which a packet without one does not.
const fn names(mark: u32, condition: (u32, u32)) -> bool {
    passes(mark, condition) && !passes(0, condition)
}

/// `linux/fib_rules.h`
const FRA_SPORT_MASK: u16 = 28;
const FRA_DPORT_MASK: u16 = 29;
