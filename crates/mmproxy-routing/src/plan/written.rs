//! A plan in few characters.

use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};

use super::{Plan, Recipe};
use crate::mode::{Families, Family, Mark, Ports, Priority, Settings, Table, Transport};
use crate::netfilter::Redirect;

impl Plan {
    /// The plan as a running instance announces it; [`Plan::read`] makes it again.
    ///
    /// `MODE:MARK[/MASK]:TABLE:PRIORITY:` and what the mode needs, numbers in hexadecimal, or with 36 digits where that
    /// would be too long: at most 79 characters, because the name of a socket has to hold it.
    pub(crate) fn written(&self) -> String {
        let Settings { mark, table, priority } = self.settings;
        let mask = if mark.is_whole() { String::new() } else { format!("/{:x}", mark.mask()) };
        let kind = self.mode().map_or_else(|| TPROXY.to_owned(), |mode| mode.to_string());
        let recipe = match self.recipe {
            Recipe::Fwmark(families) | Recipe::Source(families) | Recipe::Socket(families) => {
                digits(families)
            }
            Recipe::Connmark { families, device } => {
                let device = device.map_or_else(String::new, |device| device.to_string());
                format!("{}:{device}", digits(families))
            }
            Recipe::Tproxy { redirect: Redirect { transport, ports, to, port }, families } => {
                // One character, because there is no room for a word.
                let to_last = match transport {
                    Transport::Tcp => '-',
                    Transport::Udp => '+',
                };
                let to = match to {
                    None => format!("*{}", digits(families)),
                    Some(IpAddr::V4(ip)) => format!("{V4}{}", short(ip.to_bits().into())),
                    Some(IpAddr::V6(ip)) => short(ip.to_bits()),
                };
                let [first, last, port] = [ports.first(), ports.last(), port].map(|port| short(port.into()));
                format!("{first}{to_last}{last}:{to}.{port}")
            }
            Recipe::Port { transport, v4, v6 } => {
                let v4 = v4.map_or_else(String::new, |v4| format!("{:x}.{:x}", v4.ip().to_bits(), v4.port()));
                let v6 = v6.map_or_else(String::new, |v6| format!("{:x}.{:x}", v6.ip().to_bits(), v6.port()));
                format!("{transport}:{v4}:{v6}")
            }
        };
        format!("{kind}:{:x}{mask}:{:x}:{:x}:{recipe}", mark.get(), table.get(), priority.get())
    }

    /// The plan that [`Plan::written`] wrote; `None` for what no plan of this version writes.
    pub(crate) fn read(written: &str) -> Option<Self> {
        let fields: Vec<&str> = written.split(':').collect();
        let [mode, mark, table, priority, recipe @ ..] = fields.as_slice() else { return None };
        let mark = match mark.split_once('/') {
            Some((mark, mask)) => Mark::masked(hex(mark)?, hex(mask)?),
            None => Mark::new(hex(mark)?),
        };
        let settings = Settings {
            mark: mark.ok()?,
            table: Table::new(hex(table)?).ok()?,
            priority: Priority::new(hex(priority)?).ok()?,
        };
        let families = |digits: &str| Families { v4: digits.contains('4'), v6: digits.contains('6') };
        let plan = match (*mode, recipe) {
            ("fwmark", [digits]) => Self::fwmark(settings, families(digits)),
            ("source", [digits]) => Self::source(settings, families(digits)),
            ("socket", [digits]) => Self::socket(settings, families(digits)),
            ("connmark", [digits, device]) => Self::connmark(settings, families(digits), device.parse().ok()),
            (TPROXY, [ports, listener]) => {
                let (transport, (first, last)) = match (ports.split_once('-'), ports.split_once('+')) {
                    (Some(ports), None) => (Transport::Tcp, ports),
                    (None, Some(ports)) => (Transport::Udp, ports),
                    _ => return None,
                };
                let (address, port) = listener.split_once('.')?;
                let number = |digits: &str| u16::from_str_radix(digits, RADIX).ok();
                let (to, served) = match address.strip_prefix('*') {
                    Some(digits) => (None, families(digits)),
                    None => (Some(read_address(address)?), Families::BOTH),
                };
                let ports = Ports::new(number(first)?, number(last)?).ok()?;
                let redirect = Redirect { transport, ports, to, port: number(port)? };
                Self::tproxy(settings, served, redirect)
            }
            ("port", [transport, v4, v6]) => {
                let transport = Transport::of_name(transport)?;
                let v4 = v4.split_once('.').and_then(|(ip, port)| {
                    Some(SocketAddrV4::new(hex(ip)?.into(), hex(port)?.try_into().ok()?))
                });
                let v6 = v6.split_once('.').and_then(|(ip, port)| {
                    let ip = u128::from_str_radix(ip, 16).ok()?;
                    Some(SocketAddrV6::new(ip.into(), hex(port)?.try_into().ok()?, 0, 0))
                });
                Self::port(settings, transport, v4, v6).ok()?
            }
            _ => return None,
        };
        // Whatever was not understood, or could have been written otherwise, was not written by this version.
        (plan.written() == written).then_some(plan)
    }
}

fn digits(families: Families) -> String {
    families.iter().map(Family::digit).collect()
}

fn hex(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits, 16).ok()
}

/// A number in the fewest characters.
fn short(mut number: u128) -> String {
    let mut digits = Vec::new();
    while number > 0 || digits.is_empty() {
        let digit = u32::try_from(number % u128::from(RADIX)).ok();
        digits.extend(digit.and_then(|digit| char::from_digit(digit, RADIX)));
        number /= u128::from(RADIX);
    }
    digits.iter().rev().collect()
}

/// The address that was written with as few.
fn read_address(written: &str) -> Option<IpAddr> {
    match written.strip_prefix(V4) {
        Some(digits) => u32::from_str_radix(digits, RADIX).ok().map(|bits| IpAddr::V4(bits.into())),
        None => u128::from_str_radix(written, RADIX).ok().map(|bits| IpAddr::V6(bits.into())),
    }
}

/// All digits and letters.
const RADIX: u32 = 36;

/// What stands before an IPv4 address.
const V4: char = '~';

/// What a plan is called that has no mode.
const TPROXY: &str = "tproxy";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::plans;
    use super::*;

    #[test]
    fn an_unknown_announcement_is_no_plan() {
        for written in [
            "",
            "fwmark",
            "fwmark:0:64:64:4",
            "fwmark:7b:64:64:4:",
            "fwmark:7b:64:64:64",
            "fwmark:07b:64:64:4",
            "teleport:7b:64:64:46",
            "port:7b:64:64:sctp:7f000001.35:",
            "port:7b:64:64:udp:7f000001:",
            "port:7b:64:64:udp:0.35:",
            "fwmark:7b/0:64:64:4",
            "fwmark:7b/ffffffff:64:64:4",
            "tproxy:7c:65:64:5-4:*46.1",
            "tproxy:7c:65:64:4-5+6:*46.1",
            "tproxy:7c:65:64:4-5:.1",
        ] {
            assert_eq!(Plan::read(written), None, "{written}");
        }
        assert!(Plan::read("fwmark:7b:64:64:46").is_some());
        assert!(Plan::read("port:7b:64:64:udp:7f000001.35:").is_some());
        assert!(Plan::read("tproxy:7c:65:64:ffk-fic:*46.1pq").is_some());
    }

    proptest! {
        /// What an instance announces is the plan that the others read, and fits into the name of a socket.
        #[test]
        fn writing_and_reading_agree(plan in plans()) {
            let written = plan.written();
            prop_assert!(written.len() <= 79, "{}: {}", written.len(), written);
            prop_assert_eq!(Plan::read(&written), Some(plan));
        }
    }
}
