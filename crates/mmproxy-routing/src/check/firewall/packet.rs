//! One packet, and whether it meets the conditions of a firewall rule.

use std::net::IpAddr;

use serde_json::Value;

use crate::check::rules::{Net, Truth};
use crate::mode::Transport;

/// A packet on its way through the firewall.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) kind: Kind,
    pub(super) transport: Transport,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// `None` where it can be any.
    pub(super) source_port: Option<u16>,
    /// `None` where it can be any.
    pub(super) destination_port: Option<u16>,
    /// `None` where it is not known.
    pub(super) mark: Option<u32>,
    /// Whether connection tracking knows it; `None` where some rule switches that off.
    pub(super) tracked: bool,
    pub(super) input: Device,
    pub(super) output: Device,
}

/// Which packet of a connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// The first one, to the target.
    Request,
    /// The target's answer.
    Reply,
}

/// An interface that a packet came in or leaves by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Device {
    /// None: the firewall sees an empty name.
    Absent,
    Named(String),
    Unknown,
}

impl Packet {
    /// Whether it meets a condition, the content of a `match` statement.
    pub(super) fn meets(&self, condition: &Value) -> Truth {
        let left = self.value(&condition["left"]);
        let right = &condition["right"];
        if left == Known::Inapplicable {
            // A rule that looks for what the packet does not have ends there.
            return Truth::No;
        }
        match condition["op"].as_str() {
            Some("in") => left.has(right),
            Some("==") | None => left.equals(right),
            Some("!=") => left.equals(right).not(),
            Some(order) => left.compares(order, right),
        }
    }

    /// The value of an expression for this packet.
    pub(super) fn value(&self, expression: &Value) -> Known {
        let Some((kind, inner)) = expression.as_object().and_then(|object| object.iter().next()) else {
            return number(expression).map_or(Known::Unknown, Known::Number);
        };
        match kind.as_str() {
            "meta" => self.meta(inner["key"].as_str().unwrap_or_default()),
            "payload" => self.payload(
                inner["protocol"].as_str().unwrap_or_default(),
                inner["field"].as_str().unwrap_or_default(),
            ),
            "ct" => self.ct(inner["key"].as_str().unwrap_or_default()),
            "fib" => self.fib(inner),
            "concat" => inner.as_array().map_or(Known::Unknown, |parts| {
                Known::List(parts.iter().map(|part| self.value(part)).collect())
            }),
            "&" => match (self.value(&inner[0]), number(&inner[1])) {
                (Known::Number(value), Some(mask)) => Known::Number(value & mask),
                (Known::Inapplicable, _) => Known::Inapplicable,
                _ => Known::Unknown,
            },
            _ => Known::Unknown,
        }
    }

    fn is_ipv6(&self) -> bool {
        self.source.is_ipv6()
    }

    fn on_loopback(&self) -> bool {
        let lo = Device::Named("lo".to_owned());
        self.input == lo || self.output == lo
    }

    fn meta(&self, key: &str) -> Known {
        let device = |device: &Device| match device {
            Device::Absent => Known::Text(String::new()),
            Device::Named(name) => Known::Text(name.clone()),
            Device::Unknown => Known::Unknown,
        };
        match key {
            "iifname" | "iif" => device(&self.input),
            "oifname" | "oif" => device(&self.output),
            "iiftype" | "oiftype" if self.on_loopback() => Known::Named("loopback", 772),
            "l4proto" => Known::Named(name(self.transport), self.transport.number().into()),
            "nfproto" if self.is_ipv6() => Known::Named("ipv6", 10),
            "nfproto" => Known::Named("ipv4", 2),
            "protocol" if self.is_ipv6() => Known::Named("ip6", 0x86dd),
            "protocol" => Known::Named("ip", 0x0800),
            "mark" => self.mark.map_or(Known::Unknown, |mark| Known::Number(mark.into())),
            _ => Known::Unknown,
        }
    }

    fn payload(&self, protocol: &str, field: &str) -> Known {
        let here = match protocol {
            "ip" => !self.is_ipv6(),
            "ip6" => self.is_ipv6(),
            "tcp" => self.transport == Transport::Tcp,
            "udp" => self.transport == Transport::Udp,
            "th" => true,
            "icmp" | "icmpv6" | "arp" | "sctp" | "dccp" | "esp" | "ah" | "igmp" | "comp" | "udplite" => false,
            _ => return Known::Unknown,
        };
        if !here {
            return Known::Inapplicable;
        }
        let port = |port: Option<u16>| port.map_or(Known::Unknown, |port| Known::Number(port.into()));
        match field {
            "saddr" => Known::Address(self.source),
            "daddr" => Known::Address(self.destination),
            "sport" => port(self.source_port),
            "dport" => port(self.destination_port),
            "protocol" | "nexthdr" => Known::Named(name(self.transport), self.transport.number().into()),
            "flags" if protocol == "tcp" => match self.kind {
                Kind::Request => Known::Number(tcp_flag("syn").unwrap_or_default()),
                Kind::Reply => {
                    Known::Number(tcp_flag("syn").unwrap_or_default() | tcp_flag("ack").unwrap_or_default())
                }
            },
            _ => Known::Unknown,
        }
    }

    fn ct(&self, key: &str) -> Known {
        match (key, self.kind) {
            _ if !self.tracked => Known::Unknown,
            ("state", Kind::Request) => Known::Text("new".to_owned()),
            ("state", Kind::Reply) => Known::Text("established".to_owned()),
            ("direction", Kind::Request) => Known::Named("original", 0),
            ("direction", Kind::Reply) => Known::Named("reply", 1),
            _ => Known::Unknown,
        }
    }

    /// Routing questions that a rule asks.
    fn fib(&self, fib: &Value) -> Known {
        let flags = fib["flags"].as_array().map(Vec::as_slice).unwrap_or_default();
        let asks = |flag: &str| flags.iter().any(|asked| asked == flag);
        match fib["result"].as_str() {
            // The kernel does not look further for what comes in by lo (nft_fib_is_loopback).
            Some("oif" | "oifname") if self.input == Device::Named("lo".to_owned()) => Known::Exists,
            Some("type") if asks("mark") => Known::Unknown,
            Some("type") => {
                let of_target = asks("daddr") == (self.kind == Kind::Request);
                Known::Text(if of_target && self.on_loopback() { "local" } else { "unicast" }.to_owned())
            }
            _ => Known::Unknown,
        }
    }
}

/// What is known of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Text(String),
    Number(u64),
    /// A number that has a name.
    Named(&'static str, u64),
    Address(IpAddr),
    List(Vec<Self>),
    /// It is there, whatever it is.
    Exists,
    /// The packet has no such thing.
    Inapplicable,
    Unknown,
}

impl Known {
    /// Whether it has one of these flags, or is one of these values.
    fn has(&self, flags: &Value) -> Truth {
        match (self, number(flags)) {
            (Self::Number(own), Some(flags)) => (own & flags != 0).into(),
            _ => self.equals(flags),
        }
    }

    /// Whether it equals a value, or one of a set.
    pub(super) fn equals(&self, value: &Value) -> Truth {
        match value {
            // Several flags at once.
            Value::Array(_) if self.number().is_some() && number(value).is_some() => {
                (self.number() == number(value)).into()
            }
            Value::Array(values) => self.is_one_of(values),
            Value::Object(object) => match object.iter().next() {
                Some((kind, inner)) => self.equals_expression(kind, inner),
                None => Truth::Maybe,
            },
            // The members of a named set are not listed.
            Value::String(text) if text.starts_with('@') => Truth::Maybe,
            // What no other member is for.
            Value::String(text) if text == "*" => Truth::Yes,
            Value::String(text) => self.equals_text(text),
            Value::Number(_) => match (self.number(), number(value)) {
                (Some(one), Some(other)) => (one == other).into(),
                _ => self.unknown_or_no(),
            },
            Value::Bool(exists) if *self == Self::Exists => (*exists).into(),
            Value::Bool(_) | Value::Null => Truth::Maybe,
        }
    }

    fn is_one_of(&self, values: &[Value]) -> Truth {
        values.iter().fold(Truth::No, |truth, value| truth.or(self.equals(value)))
    }

    fn equals_expression(&self, kind: &str, inner: &Value) -> Truth {
        match (kind, self) {
            ("set", _) => inner.as_array().map_or(Truth::Maybe, |values| self.is_one_of(values)),
            ("elem", _) => self.equals(&inner["val"]),
            ("prefix", Self::Address(address)) => {
                let net =
                    inner["addr"].as_str().and_then(|text| text.parse().ok()).zip(inner["len"].as_u64());
                net.map_or(Truth::Maybe, |(net, length)| {
                    Net::new(net, u8::try_from(length).unwrap_or(u8::MAX)).contains(*address).into()
                })
            }
            ("range", _) => self.compares(">=", &inner[0]).and(self.compares("<=", &inner[1])),
            ("concat", Self::List(parts)) => match inner.as_array() {
                Some(values) if values.len() == parts.len() => parts
                    .iter()
                    .zip(values)
                    .fold(Truth::Yes, |truth, (part, value)| truth.and(part.equals(value))),
                _ => Truth::Maybe,
            },
            ("|", _) => match self.number().zip(number(inner)) {
                Some((one, other)) => (one == other).into(),
                None => Truth::Maybe,
            },
            _ => Truth::Maybe,
        }
    }

    fn equals_text(&self, text: &str) -> Truth {
        match self {
            Self::Text(own) => match text.strip_suffix('*') {
                Some(prefix) => own.starts_with(prefix).into(),
                None => (own == text).into(),
            },
            Self::Named(name, _) => (*name == text).into(),
            Self::Address(address) => {
                text.parse().map_or(Truth::Maybe, |other: IpAddr| (*address == other).into())
            }
            Self::Number(own) => tcp_flag(text).map_or(Truth::Maybe, |flag| (*own == flag).into()),
            Self::List(_) | Self::Exists | Self::Unknown => Truth::Maybe,
            Self::Inapplicable => Truth::No,
        }
    }

    /// Whether it stands in this order to a value.
    fn compares(&self, order: &str, value: &Value) -> Truth {
        let ordering = match (self, value) {
            (Self::Address(address), Value::String(text)) => {
                text.parse().ok().map(|other: IpAddr| address.cmp(&other))
            }
            _ => self.number().zip(number(value)).map(|(one, other)| one.cmp(&other)),
        };
        let Some(ordering) = ordering else { return self.unknown_or_no() };
        match order {
            "<" => ordering.is_lt().into(),
            ">" => ordering.is_gt().into(),
            "<=" => ordering.is_le().into(),
            ">=" => ordering.is_ge().into(),
            _ => Truth::Maybe,
        }
    }

    /// As a number, if it is one.
    pub(super) const fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) | Self::Named(_, number) => Some(*number),
            Self::Text(_)
            | Self::Address(_)
            | Self::List(_)
            | Self::Exists
            | Self::Inapplicable
            | Self::Unknown => None,
        }
    }

    fn unknown_or_no(&self) -> Truth {
        if *self == Self::Inapplicable { Truth::No } else { Truth::Maybe }
    }
}

/// The number that an expression is, if it is constant.
pub(super) fn number(expression: &Value) -> Option<u64> {
    match expression {
        Value::Number(number) => number.as_u64(),
        Value::String(name) => tcp_flag(name),
        Value::Array(parts) => parts.iter().try_fold(0, |all, part| Some(all | number(part)?)),
        Value::Object(object) => number(object.get("|")?),
        Value::Null | Value::Bool(_) => None,
    }
}

const fn name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

fn tcp_flag(name: &str) -> Option<u64> {
    let names = ["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"];
    names.iter().position(|flag| *flag == name).map(|bit| 1 << bit)
}
