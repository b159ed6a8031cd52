//! What the rules of our tables consist of, as nft(8) takes it and as it lists it.

use std::fmt;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::mode::{Family, Mark, Ports, Transport};

/// One match or change of a rule.
///
/// `Display` is what nft(8) takes, [`Statement::json`] what `nft -j` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    /// It carries our mark.
    Carries(Holder, Mark),
    /// It gets our mark; bits beside it stay.
    Gets(Holder, Mark),
    /// It loses our mark; bits beside it stay.
    Loses(Holder, Mark),
    /// The first gets the mark of the second, where that is ours.
    Copies(Holder, Holder, Mark),
    /// It is for a transparent socket.
    Transparent,
    /// It comes from this host.
    FromHere,
    /// It came in from somewhere else.
    FromElsewhere,
    /// It goes to an address of this host.
    ToOwn,
    /// It goes to this address.
    To(IpAddr),
    /// It goes to one of these ports.
    ToPorts(Transport, Ports),
    /// It is handed to the socket that listens on this address, or on any, and port.
    HandedTo(Option<IpAddr>, u16),
}

/// What carries a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// A packet.
    Packet,
    /// What the connection tracker knows of its connection.
    Connection,
}

impl Statement {
    /// Whether it asks where a packet comes from.
    pub(crate) const fn is_about_origin(&self) -> bool {
        matches!(self, Self::FromHere | Self::FromElsewhere)
    }

    /// The same as `nft -j` lists it.
    pub(crate) fn json(self) -> Value {
        let is = |left: Value, right: Value| json!({"match": {"op": "==", "left": left, "right": right}});
        let set = |holder: Holder, value: Value| json!({"mangle": {"key": holder.json(), "value": value}});
        match self {
            Self::Carries(holder, mark) if mark.is_whole() => is(holder.json(), mark.get().into()),
            Self::Carries(holder, mark) => is(json!({"&": [holder.json(), mark.mask()]}), mark.get().into()),
            Self::Gets(holder, mark) if mark.is_whole() => set(holder, mark.get().into()),
            Self::Gets(holder, mark) => {
                set(holder, json!({"|": [{"&": [holder.json(), !mark.mask()]}, mark.get()]}))
            }
            Self::Loses(holder, mark) if mark.is_whole() => set(holder, 0.into()),
            Self::Loses(holder, mark) => set(holder, json!({"&": [holder.json(), !mark.mask()]})),
            Self::Copies(to, from, mark) if mark.is_whole() => set(to, from.json()),
            // nft(8) cannot join bits of two marks, but we know which ours are.
            Self::Copies(to, _, mark) => Self::Gets(to, mark).json(),
            Self::Transparent => is(json!({"socket": {"key": "transparent"}}), 1.into()),
            Self::FromHere => is(json!({"meta": {"key": "iifname"}}), "lo".into()),
            Self::FromElsewhere => {
                json!({"match": {"op": "!=", "left": {"meta": {"key": "iifname"}}, "right": "lo"}})
            }
            Self::ToOwn => is(json!({"fib": {"result": "type", "flags": ["daddr"]}}), "local".into()),
            Self::To(address) => {
                let protocol = Family::from(address).nft();
                is(json!({"payload": {"protocol": protocol, "field": "daddr"}}), address.to_string().into())
            }
            Self::ToPorts(transport, ports) => {
                let field = json!({"payload": {"protocol": transport.to_string(), "field": "dport"}});
                let (first, last) = (ports.first(), ports.last());
                is(field, if first == last { first.into() } else { json!({"range": [first, last]}) })
            }
            Self::HandedTo(Some(address), port) => {
                json!({"tproxy": {"addr": address.to_string(), "port": port}})
            }
            Self::HandedTo(None, port) => json!({"tproxy": {"port": port}}),
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Carries(holder, mark) if mark.is_whole() => write!(f, "{holder} {mark}"),
            Self::Carries(holder, mark) => write!(f, "{holder} and {:#x} == {:#x}", mark.mask(), mark.get()),
            Self::Gets(holder, mark) if mark.is_whole() => write!(f, "{holder} set {mark}"),
            Self::Gets(holder, mark) => {
                write!(f, "{holder} set {holder} and {:#x} or {:#x}", !mark.mask(), mark.get())
            }
            Self::Loses(holder, mark) if mark.is_whole() => write!(f, "{holder} set 0x0"),
            Self::Loses(holder, mark) => write!(f, "{holder} set {holder} and {:#x}", !mark.mask()),
            Self::Copies(to, from, mark) if mark.is_whole() => write!(f, "{to} set {from}"),
            Self::Copies(to, _, mark) => Self::Gets(to, mark).fmt(f),
            Self::Transparent => f.write_str("socket transparent 1"),
            Self::FromHere => f.write_str("iifname \"lo\""),
            Self::FromElsewhere => f.write_str("iifname != \"lo\""),
            Self::ToOwn => f.write_str("fib daddr type local"),
            Self::To(address) => write!(f, "{} daddr {address}", Family::from(address).nft()),
            Self::ToPorts(transport, ports) => write!(f, "{transport} dport {ports}"),
            Self::HandedTo(Some(IpAddr::V4(address)), port) => write!(f, "tproxy to {address}:{port}"),
            Self::HandedTo(Some(IpAddr::V6(address)), port) => write!(f, "tproxy to [{address}]:{port}"),
            Self::HandedTo(None, port) => write!(f, "tproxy to :{port}"),
        }
    }
}

impl Holder {
    fn json(self) -> Value {
        match self {
            Self::Packet => json!({"meta": {"key": "mark"}}),
            Self::Connection => json!({"ct": {"key": "mark"}}),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Packet => "meta mark",
            Self::Connection => "ct mark",
        })
    }
}

/// One way to write what nft(8) has several for: it lists `mark and A or B` as `mark & (A | B) | B`.
pub(crate) fn canonical(statement: &Value) -> Value {
    let mut canonical = statement.clone();
    let bits = |pointer: &str| statement.pointer(pointer).and_then(Value::as_u64);
    if let (Some(or), Some(and)) = (bits("/mangle/value/|/1"), bits(MASK))
        && let Some(mask) = canonical.pointer_mut(MASK)
    {
        *mask = (and & !or).into();
    }
    canonical
}

/// Where the mask of a masked change is.
const MASK: &str = "/mangle/value/|/0/&/1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nft_lists_of_a_masked_change_is_what_it_was_given() {
        let ours = Statement::Gets(Holder::Packet, "0x7b/0xff".parse().unwrap());
        assert_eq!(ours.to_string(), "meta mark set meta mark and 0xffffff00 or 0x7b");
        let mark = json!({"meta": {"key": "mark"}});
        let listed = json!({"mangle": {"key": mark, "value": {"|": [{"&": [mark, 0xffff_ff7b_u32]}, 0x7b]}}});
        assert_eq!(canonical(&listed), canonical(&ours.json()));
        let other = json!({"mangle": {"key": mark, "value": {"|": [{"&": [mark, 0xffff_0000_u32]}, 0x7b]}}});
        assert_ne!(canonical(&other), canonical(&ours.json()), "it clears more");
        let plain = json!({"mangle": {"key": mark, "value": 0x7b}});
        assert_eq!(canonical(&plain), plain);
    }
}
