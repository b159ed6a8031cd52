//! A plan in few characters.

use std::net::{SocketAddrV4, SocketAddrV6};

use super::{Plan, Recipe};
use crate::mode::{Families, Family, Mark, Priority, Settings, Table, Transport};

impl Plan {
    /// The plan as a running instance announces it; [`Plan::read`] makes it again.
    ///
    /// `MODE:MARK:TABLE:PRIORITY:` and what the mode needs, numbers in hexadecimal: at most 77 characters, because the
    /// name of a socket has to hold it.
    pub(crate) fn written(&self) -> String {
        let Settings { mark, table, priority } = self.settings;
        let recipe = match self.recipe {
            Recipe::Fwmark(families) | Recipe::Source(families) | Recipe::Socket(families) => {
                digits(families)
            }
            Recipe::Connmark { families, device } => {
                let device = device.map_or_else(String::new, |device| device.to_string());
                format!("{}:{device}", digits(families))
            }
            Recipe::Port { transport, v4, v6 } => {
                let v4 = v4.map_or_else(String::new, |v4| format!("{:x}.{:x}", v4.ip().to_bits(), v4.port()));
                let v6 = v6.map_or_else(String::new, |v6| format!("{:x}.{:x}", v6.ip().to_bits(), v6.port()));
                format!("{transport}:{v4}:{v6}")
            }
        };
        format!("{}:{:x}:{:x}:{:x}:{recipe}", self.mode(), mark.get(), table.get(), priority.get())
    }

    /// The plan that [`Plan::written`] wrote; `None` for what no plan of this version writes.
    pub(crate) fn read(written: &str) -> Option<Self> {
        let fields: Vec<&str> = written.split(':').collect();
        let [mode, mark, table, priority, recipe @ ..] = fields.as_slice() else { return None };
        let settings = Settings {
            mark: Mark::new(hex(mark)?).ok()?,
            table: Table::new(hex(table)?).ok()?,
            priority: Priority::new(hex(priority)?).ok()?,
        };
        let families = |digits: &&str| Families { v4: digits.contains('4'), v6: digits.contains('6') };
        let plan = match (*mode, recipe) {
            ("fwmark", [digits]) => Self::fwmark(settings, families(digits)),
            ("source", [digits]) => Self::source(settings, families(digits)),
            ("socket", [digits]) => Self::socket(settings, families(digits)),
            ("connmark", [digits, device]) => Self::connmark(settings, families(digits), device.parse().ok()),
            ("port", [transport, v4, v6]) => {
                let transport = [Transport::Tcp, Transport::Udp]
                    .into_iter()
                    .find(|known| known.to_string() == *transport)?;
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
        ] {
            assert_eq!(Plan::read(written), None, "{written}");
        }
        assert!(Plan::read("fwmark:7b:64:64:46").is_some());
        assert!(Plan::read("port:7b:64:64:udp:7f000001.35:").is_some());
    }

    proptest! {
        /// What an instance announces is the plan that the others read, and fits into the name of a socket.
        #[test]
        fn writing_and_reading_agree(plan in plans()) {
            let written = plan.written();
            prop_assert!(written.len() <= 85, "{}: {}", written.len(), written);
            prop_assert_eq!(Plan::read(&written), Some(plan));
        }
    }
}
