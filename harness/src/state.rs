//! Everything that a gateway may change in a network namespace, to be compared.

use std::fmt;
use std::fs::{read_dir, read_to_string};
use std::path::Path;
use std::process::Command;

use rtnetlink::packet_route::route::RouteAttribute;

use crate::netlink;
use crate::netns::Namespace;
use crate::process::{find_program, run};

/// Rules, routes of all tables, interfaces, sysctls and the nftables ruleset of a namespace, as text.
///
/// Two states compare equal exactly if nothing of this differs, in number or in any attribute; counters and ages
/// are left out. Order counts for nothing where the kernel gives it no meaning.
#[derive(Clone, PartialEq, Eq)]
pub struct State {
    lines: Vec<String>,
}

impl State {
    /// The present state of `namespace`.
    pub fn of(namespace: &Namespace) -> Self {
        let mut lines = netlink::in_namespace(namespace, async |net| {
            let mut lines = Vec::new();
            lines.extend(net.rules().await.iter().map(|rule| format!("rule {rule:?}")));
            for mut route in net.routes().await {
                route.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::CacheInfo(_)));
                lines.push(format!("route {route:?}"));
            }
            lines.extend(net.links().await.iter().map(|link| {
                format!(
                    "link {} {:?} {:?}",
                    link.header.index, link.header.link_layer_type, link.header.flags
                )
            }));
            lines
        });
        lines.sort();
        lines.extend(sysctls(namespace));
        lines.extend(nft_ruleset(namespace).lines().map(|line| format!("nft {line}")));
        Self { lines }
    }

    /// Expects that the state is as it was `before`.
    ///
    /// # Panics
    ///
    /// If it is not, with the lines that came and went.
    #[track_caller]
    pub fn expect_unchanged_since(&self, before: &Self) {
        let differences = self.differences(before);
        assert!(differences.is_empty(), "the namespace is not as it was:\n{}", differences.join("\n"));
    }

    /// Lines that came since `before`, with a `+`, and lines that went, with a `-`.
    pub fn differences(&self, before: &Self) -> Vec<String> {
        let mut gone = before.lines.clone();
        let mut came = Vec::new();
        // As multisets: a rule that is there twice differs from one that is there once.
        for line in &self.lines {
            match gone.iter().position(|old| old == line) {
                Some(at) => drop(gone.remove(at)),
                None => came.push(format!("+ {line}")),
            }
        }
        came.into_iter().chain(gone.into_iter().map(|line| format!("- {line}"))).collect()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.lines.join("\n"))
    }
}

/// Every network switch of a namespace, with its value, in order.
fn sysctls(namespace: &Namespace) -> Vec<String> {
    let mut found = Vec::new();
    namespace.run(|| {
        for tree in ["/proc/sys/net/ipv4", "/proc/sys/net/ipv6"] {
            read_switches(Path::new(tree), &mut found);
        }
    });
    found.sort();
    found
}

fn read_switches(folder: &Path, found: &mut Vec<String>) {
    for entry in read_dir(folder).expect("/proc is mounted, and this kernel has IPv6") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            read_switches(&path, found);
        } else if let Ok(value) = read_to_string(&path) {
            // Some can only be written.
            found.push(format!("sysctl {} = {}", path.display(), value.trim()));
        }
    }
}

/// Empty where there is no nft: then nothing on this machine can have made a ruleset with it.
fn nft_ruleset(namespace: &Namespace) -> String {
    let Some(nft) = find_program("nft") else { return String::new() };
    run(namespace, Command::new(nft).args(["--stateless", "list", "ruleset"]), b"").expect_code(0).stdout
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolated;
    use crate::topology::Topology;

    #[test]
    fn an_untouched_namespace_is_as_it_was() {
        isolated(|| {
            let net = Topology::new();
            let before = State::of(&net.gateway);
            State::of(&net.gateway).expect_unchanged_since(&before);
        });
    }

    #[test]
    fn a_route_more_and_another_value_of_a_sysctl_are_differences() {
        isolated(|| {
            let net = Topology::new();
            let before = State::of(&net.gateway);
            net.default_routes();
            net.gateway.set_sysctl("net.ipv4.fwmark_reflect", "1");
            let differences = State::of(&net.gateway).differences(&before);
            let count = |start: &str| differences.iter().filter(|line| line.starts_with(start)).count();
            assert_eq!((count("+ route"), count("- route")), (2, 0), "{differences:#?}");
            assert_eq!((count("+ sysctl"), count("- sysctl")), (1, 1), "{differences:#?}");
            assert_eq!(differences.len(), 4, "{differences:#?}");
        });
    }

    #[test]
    fn a_line_that_is_there_twice_differs_from_one_that_is_there_once() {
        let once = State { lines: vec!["rule".to_owned()] };
        let twice = State { lines: vec!["rule".to_owned(), "rule".to_owned()] };
        assert_eq!(twice.differences(&once), ["+ rule"]);
        assert_eq!(once.differences(&twice), ["- rule"]);
    }
}
