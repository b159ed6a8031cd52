//! What must be in a network namespace for replies to come back, as data.

use std::fmt;

use crate::mode::{Families, Mode, Settings};
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
}

/// One command a line, each of which an operator could type.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
