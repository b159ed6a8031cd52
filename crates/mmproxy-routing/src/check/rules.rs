//! Policy rules, asked whether they pick one packet.
//!
//! The kernel tells which table decided about a packet, not which rule led there. So the rules are read from the line
//! that `ip rule` prints for each and tried in order, as the kernel does.

use std::net::IpAddr;

/// A packet as policy rules see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// The interface it comes in by: lo for packets of this host.
    pub(super) input: &'a str,
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) mark: u32,
    /// Protocol number, source and destination port; the ports are `None` where they can be any.
    pub(super) protocol: u8,
    pub(super) source_port: Option<u16>,
    pub(super) destination_port: Option<u16>,
    /// The owner of the socket that sends it, if that is known.
    pub(super) uid: Option<u32>,
}

/// A policy rule, as `ip rule` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RuleLine {
    pub(super) text: String,
    pub(super) priority: u32,
    action: Action,
    not: bool,
    conditions: Vec<Condition>,
    /// `suppress_prefixlength`: routes of at most this length do not count.
    suppressed: Option<u8>,
}

impl RuleLine {
    /// Reads one line. What it does not know becomes a condition that may or may not hold.
    pub(super) fn read(text: &str) -> Self {
        let (priority, rest) = text.split_once(':').unwrap_or(("0", text));
        let mut rule = Self {
            text: text.to_owned(),
            priority: priority.trim().parse().unwrap_or_default(),
            action: Action::Nothing,
            not: false,
            conditions: Vec::new(),
            suppressed: None,
        };
        let mut words = rest.split_whitespace();
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_default();
            match word {
                "not" => rule.not = true,
                "from" => rule.conditions.extend(Net::read(value()).map(Condition::From)),
                "to" => rule.conditions.extend(Net::read(value()).map(Condition::To)),
                "fwmark" => rule.conditions.push(mark(value())),
                "iif" => rule.conditions.push(Condition::Input(value().to_owned())),
                // Only sockets that are bound to an interface have one before they are routed.
                "oif" | "tos" => {
                    value();
                    rule.conditions.push(Condition::Never);
                }
                "ipproto" => rule.conditions.push(protocol(value())),
                "sport" => rule.conditions.push(within(value(), Condition::SourcePort)),
                "dport" => rule.conditions.push(within(value(), Condition::DestinationPort)),
                "uidrange" => rule.conditions.push(within(value(), Condition::Uid)),
                "lookup" => rule.action = Action::Lookup(value().to_owned()),
                "suppress_prefixlength" => rule.suppressed = value().parse().ok(),
                "nop" => {}
                "goto" | "proto" | "priority" | "suppress_ifgroup" | "realms" => {
                    value();
                }
                "blackhole" | "unreachable" | "prohibit" => rule.action = Action::Refuse,
                _ => rule.conditions.push(Condition::Unknown),
            }
        }
        rule
    }

    /// Whether this rule picks the packet.
    pub(super) fn picks(&self, packet: &Packet<'_>) -> Truth {
        let all =
            self.conditions.iter().fold(Truth::Yes, |truth, condition| truth.and(condition.holds(packet)));
        if self.not { all.not() } else { all }
    }

    /// Whether this rule sends what it picks to the table with this name or number.
    pub(super) fn leads_to(&self, table: &str) -> bool {
        matches!(&self.action, Action::Lookup(name) if name == table)
    }

    /// Whether this rule drops what it picks.
    pub(super) fn refuses(&self) -> bool {
        self.action == Action::Refuse
    }

    /// Whether default routes behind it do not count, as in `lookup main suppress_prefixlength 0`.
    pub(super) fn skips_default_routes(&self) -> bool {
        self.suppressed.is_some()
    }

    /// Whether it looks at marks at all.
    pub(super) fn is_about_marks(&self) -> bool {
        self.conditions.iter().any(|condition| matches!(condition, Condition::Mark { .. }))
    }

    /// Who usually makes such a rule, if it has the looks of a well-known program's.
    pub(super) fn maker(&self) -> Option<&'static str> {
        let marks = |value: u32, mask: u32| self.conditions.contains(&Condition::Mark { value, mask });
        let leads = |tables: &[&str]| tables.iter().any(|table| self.leads_to(table));
        if self.not && self.is_about_marks() {
            // wg-quick takes its listening port for both, 51820 by default.
            let own = self.conditions.iter().any(|condition| {
                matches!(condition, Condition::Mark { value, .. } if self.leads_to(&value.to_string()))
            });
            if own || leads(&["51820"]) {
                return Some("a WireGuard tunnel made by wg-quick");
            }
        }
        if leads(&["52"]) || marks(0x8_0000, 0xff_0000) {
            return Some("Tailscale");
        }
        if leads(&["2004", "2005"]) {
            return Some("Cilium");
        }
        if self.text.ends_with("proto keepalived") {
            return Some("keepalived");
        }
        None
    }
}

/// Yes, no, or it cannot be told from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    Yes,
    No,
    Maybe,
}

impl Truth {
    pub(super) const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            (Self::Maybe, _) | (_, Self::Maybe) => Self::Maybe,
        }
    }

    pub(super) const fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    pub(super) const fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
        }
    }
}

impl From<bool> for Truth {
    fn from(is: bool) -> Self {
        if is { Self::Yes } else { Self::No }
    }
}

/// A network, as in `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Net {
    address: IpAddr,
    length: u8,
}

impl Net {
    /// `None` for what is no network, such as `all`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address.parse().ok()?, Some(length.parse().ok()?)),
            None => (text.parse().ok()?, None),
        };
        Some(Self::new(address, length.unwrap_or(u8::MAX)))
    }

    pub(super) const fn new(address: IpAddr, length: u8) -> Self {
        Self { address, length }
    }

    pub(super) fn contains(self, address: IpAddr) -> bool {
        let differs = |one: u128, other: u128, width: u32| {
            let length = u32::from(self.length).min(width);
            length > 0 && (one ^ other) >> (width - length) != 0
        };
        match (self.address, address) {
            (IpAddr::V4(one), IpAddr::V4(other)) => {
                !differs(one.to_bits().into(), other.to_bits().into(), 32)
            }
            (IpAddr::V6(one), IpAddr::V6(other)) => !differs(one.to_bits(), other.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    /// The table, by name where it has one.
    Lookup(String),
    Refuse,
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    From(Net),
    To(Net),
    Mark { value: u32, mask: u32 },
    Protocol(u8),
    SourcePort((u32, u32)),
    DestinationPort((u32, u32)),
    Uid((u32, u32)),
    Input(String),
    Never,
    Unknown,
}

impl Condition {
    fn holds(&self, packet: &Packet<'_>) -> Truth {
        let within = |value: Option<u32>, (start, end): (u32, u32)| {
            value.map_or(Truth::Maybe, |value| (start..=end).contains(&value).into())
        };
        match self {
            Self::From(net) => net.contains(packet.from).into(),
            Self::To(net) => net.contains(packet.to).into(),
            Self::Mark { value, mask } => (packet.mark & mask == value & mask).into(),
            Self::Protocol(number) => (packet.protocol == *number).into(),
            Self::SourcePort(ports) => within(packet.source_port.map(u32::from), *ports),
            Self::DestinationPort(ports) => within(packet.destination_port.map(u32::from), *ports),
            Self::Uid(uids) => within(packet.uid, *uids),
            Self::Input(name) => (packet.input == name).into(),
            Self::Never => Truth::No,
            Self::Unknown => Truth::Maybe,
        }
    }
}

fn mark(text: &str) -> Condition {
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (number(value), number(mask)),
        None => (number(text), Some(u32::MAX)),
    };
    match (value, mask) {
        (Some(value), Some(mask)) => Condition::Mark { value, mask },
        _ => Condition::Unknown,
    }
}

fn protocol(text: &str) -> Condition {
    match text {
        "tcp" => Condition::Protocol(6),
        "udp" => Condition::Protocol(17),
        other => other.parse().map_or(Condition::Unknown, Condition::Protocol),
    }
}

/// The condition that a number is in a range such as `1000-2000`.
fn within(text: &str, condition: impl Fn((u32, u32)) -> Condition) -> Condition {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    match (start.parse(), end.parse()) {
        (Ok(start), Ok(end)) => condition((start, end)),
        _ => Condition::Unknown,
    }
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply() -> Packet<'static> {
        Packet {
            input: "lo",
            from: "127.0.0.1".parse().unwrap(),
            to: "192.0.2.1".parse().unwrap(),
            mark: 0x7b,
            protocol: 6,
            source_port: Some(443),
            destination_port: None,
            uid: Some(33),
        }
    }

    #[test]
    fn rules_pick_what_the_kernel_lets_them_pick() {
        use Truth::{Maybe, No, Yes};
        for (line, picks) in [
            ("0: from all lookup local proto kernel", Yes),
            ("100: from all fwmark 0x7b lookup 100 proto boot", Yes),
            ("100: from all fwmark 0x7b/0xff lookup 100", Yes),
            ("100: from all fwmark 0x7a/0xfe lookup 100", Yes),
            ("100: from all fwmark 0x7c lookup 100", No),
            ("100: not from all fwmark 0xca6c lookup 51820", Yes),
            ("100: not from all fwmark 0x7b lookup 51820", No),
            ("100: from 127.0.0.0/8 iif lo lookup 100", Yes),
            ("100: from 10.0.0.0/8 lookup 100", No),
            ("100: from all to 192.0.2.0/24 lookup 100", Yes),
            ("100: from all to 192.0.3.0/24 lookup 100", No),
            ("100: from ::1/128 lookup 100", No),
            ("100: from 0.0.0.0/0 lookup 100", Yes),
            ("100: from all iif eth0 lookup 100", No),
            ("100: not from all iif lo lookup 100", No),
            ("100: from all oif eth0 lookup 100", No),
            ("100: from all tos 0x10 lookup 100", No),
            ("100: from all ipproto tcp sport 443 lookup 100", Yes),
            ("100: from all ipproto udp sport 443 lookup 100", No),
            ("100: from all ipproto 6 sport 400-500 lookup 100", Yes),
            ("100: from all dport 1000-2000 lookup 100", Maybe),
            ("100: from all ipproto 17 dport 1000-2000 lookup 100", No),
            ("100: from all uidrange 33-33 lookup 100", Yes),
            ("100: from all uidrange 1000-1000 lookup 100", No),
            ("100: from all l3mdev lookup 100", Maybe),
            ("100: not from 10.0.0.0/8 l3mdev lookup 100", Yes),
        ] {
            assert_eq!(RuleLine::read(line).picks(&reply()), picks, "{line}");
        }
    }

    #[test]
    fn rules_lead_where_they_say() {
        assert!(RuleLine::read("0: from all lookup local").leads_to("local"));
        assert!(!RuleLine::read("100: from all lookup 1000").leads_to("100"));
        assert!(RuleLine::read("100: from all unreachable proto boot").refuses());
        assert!(!RuleLine::read("100: from all goto 200").leads_to("200"));
        assert!(RuleLine::read("9: from all suppress_prefixlength 0 lookup main").skips_default_routes());
        assert_eq!(RuleLine::read("32766: from all lookup main").priority, 32766);
    }

    #[test]
    fn well_known_makers_are_recognised() {
        for (line, maker) in [
            ("99: not from all fwmark 0xca6c lookup 51820 proto boot", Some("wg-quick")),
            ("99: not from all fwmark 0x2 lookup 2 proto boot", Some("wg-quick")),
            ("99: not from all fwmark 0x2 lookup 3 proto boot", None),
            ("5270: from all lookup 52 proto boot", Some("Tailscale")),
            ("9: from all fwmark 0x200/0xf00 lookup 2004 proto kernel", Some("Cilium")),
            ("9: from 10.0.0.1/32 lookup 7 proto keepalived", Some("keepalived")),
            ("100: from all fwmark 0x7b lookup 100 proto boot", None),
        ] {
            let found = RuleLine::read(line).maker();
            assert_eq!(found.is_some(), maker.is_some(), "{line}");
            assert!(found.is_none_or(|found| found.contains(maker.unwrap_or_default())), "{line}: {found:?}");
        }
    }

    #[test]
    fn truth_is_three_valued() {
        use Truth::{Maybe, No, Yes};
        assert_eq!(Maybe.and(No), No);
        assert_eq!(Maybe.and(Yes), Maybe);
        assert_eq!(Maybe.or(Yes), Yes);
        assert_eq!(Maybe.or(No), Maybe);
        assert_eq!(Maybe.not(), Maybe);
    }
}
