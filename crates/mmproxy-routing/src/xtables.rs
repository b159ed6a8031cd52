//! What an operator did by hand with iptables, in either of its two kinds.
//!
//! nft(8) shows the rules of iptables-nft without their numbers, and those of iptables-legacy not at all. So they are
//! read with the programs `iptables-nft-save` and `iptables-legacy-save`, which change nothing: the first is asked only
//! where nft shows such rules, the second only where the kernel says that there is a table, because it would make one.

mod line;
mod walk;

use std::fs;

use self::line::Line;
use crate::mode::Family;
use crate::netfilter::Netfilter;
use crate::tool;

/// The mangle tables of iptables that hold something.
#[derive(Clone, Debug, Default)]
pub(crate) struct Xtables {
    mangles: Vec<Mangle>,
    /// What could not be looked at, and why.
    unread: Vec<(Family, String)>,
}

/// What the mangle tables mean for a table of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Merit {
    /// One of them does its job.
    Serves,
    /// There are rules of that kind which do not; and what they lack.
    Falls(String),
    /// There is nothing of that kind.
    Nothing,
}

/// One kind's mangle table of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mangle {
    family: Family,
    kind: &'static str,
    lines: Vec<Line>,
}

impl Xtables {
    /// Reads the tables of these families, each with whether nft shows rules of iptables in its table.
    pub(crate) async fn read(families: &[(Family, bool)]) -> Self {
        let mut found = Self::default();
        for &(family, is_in_nft) in families {
            if is_in_nft {
                found.add(family, "nft").await;
            }
            if has_legacy_mangle(family) {
                found.add(family, "legacy").await;
            }
        }
        found
    }

    /// Whether rules of iptables do the job of this table.
    pub(crate) fn judge(&self, wanted: &Netfilter) -> Merit {
        let mangles = self.mangles.iter().filter(|mangle| mangle.family == wanted.family);
        let mut lacks: Vec<String> = Vec::new();
        for mangle in mangles {
            match walk::judge(&mangle.lines, wanted) {
                Merit::Serves => return Merit::Serves,
                Merit::Falls(lack) => {
                    lacks.push(format!(
                        "{} has rules of that kind, but {lack}",
                        program(mangle.family, mangle.kind)
                    ));
                }
                Merit::Nothing => {}
            }
        }
        let unread = self.unread.iter().filter(|(family, _)| *family == wanted.family);
        lacks.extend(unread.map(|(_, why)| why.clone()));
        if lacks.is_empty() { Merit::Nothing } else { Merit::Falls(lacks.join("; ")) }
    }

    async fn add(&mut self, family: Family, kind: &'static str) {
        let program = format!("{}-save", program(family, kind));
        let lines = match tool::listed(&program, &["-t", "mangle"]).await {
            Ok(output) if output.status.success() => {
                Ok(Line::read_all(&String::from_utf8_lossy(&output.stdout)))
            }
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ")),
            Err(error) => Err(error.to_string()),
        };
        match lines {
            Ok(lines) => self.mangles.push(Mangle { family, kind, lines }),
            Err(why) => self.unread.push((family, format!("`{program} -t mangle` shows nothing: {why}"))),
        }
    }
}

/// Whether iptables-legacy has a mangle table in the calling thread's network namespace. Only root may ask.
fn has_legacy_mangle(family: Family) -> bool {
    let names = match family {
        Family::V4 => "ip_tables_names",
        Family::V6 => "ip6_tables_names",
    };
    fs::read_to_string(format!("/proc/thread-self/net/{names}"))
        .is_ok_and(|tables| tables.lines().any(|table| table == "mangle"))
}

fn program(family: Family, kind: &str) -> String {
    match family {
        Family::V4 => format!("iptables-{kind}"),
        Family::V6 => format!("ip6tables-{kind}"),
    }
}
