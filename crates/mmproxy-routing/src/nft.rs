//! The conversation with nft(8).

use std::io;

use serde_json::{Value, json};

use crate::error::RoutingError;
use crate::ledger::Lifetime;
use crate::mode::Family;
use crate::netfilter::{Chain, Netfilter, canonical};
use crate::tool;

/// What is in nftables, of everybody's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ruleset {
    tables: Vec<Value>,
    chains: Vec<Value>,
    rules: Vec<Value>,
}

impl Ruleset {
    /// Asks nft(8), which needs CAP_NET_ADMIN even for that.
    pub(crate) async fn read() -> Result<Self, RoutingError> {
        let output = run(&["-j", "list", "ruleset"], None).await?;
        match serde_json::from_slice(&output) {
            Ok(listed) => {
                let mut ruleset = Self::default();
                ruleset.add(&listed);
                Ok(ruleset)
            }
            Err(_) => Self::read_one_by_one().await,
        }
    }

    /// Reads table by table, and does without the content of those that cannot be read: nft(8) 1.0.6 and others list a
    /// table that belongs to a program (`flags owner`) in a way that is no JSON.
    async fn read_one_by_one() -> Result<Self, RoutingError> {
        let mut ruleset = Self::default();
        let tables = run(&["list", "tables"], None).await?;
        for line in String::from_utf8_lossy(&tables).lines() {
            let mut words = line.split_whitespace();
            let (Some("table"), Some(family), Some(name)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            ruleset.tables.push(json!({"family": family, "name": name}));
            // A table may be gone by now.
            let Ok(listed) = run(&["-j", "list", "table", family, name], None).await else { continue };
            if let Ok(listed) = serde_json::from_slice(&listed) {
                ruleset.add(&listed);
            }
        }
        Ok(ruleset)
    }

    fn add(&mut self, listed: &Value) {
        for object in listed["nftables"].as_array().into_iter().flatten() {
            self.tables.extend(object.get("table").cloned());
            self.chains.extend(object.get("chain").cloned());
            self.rules.extend(object.get("rule").cloned());
        }
    }

    /// The tables of ours.
    pub(crate) fn ours(&self) -> Vec<(Netfilter, Lifetime)> {
        let mut tables = Vec::new();
        for rule in &self.rules {
            let (family, name) = (text(rule, "family"), text(rule, "table"));
            let lifetime = [Lifetime::Leased, Lifetime::Permanent]
                .into_iter()
                .find(|&lifetime| text(rule, "comment") == comment(lifetime));
            if let (Some(table), Some(lifetime)) = (Netfilter::of_name(family, name), lifetime)
                && !tables.contains(&(table, lifetime))
            {
                tables.push((table, lifetime));
            }
        }
        tables
    }

    /// Whether the rules of this table are there: in a table of this name, of another, or of both families.
    pub(crate) fn serves(&self, wanted: &Netfilter) -> bool {
        wanted.chains().iter().filter(|chain| chain.is_needed).all(|chain| {
            self.rules.iter().any(|rule| {
                [wanted.family.nft(), "inet"].contains(&text(rule, "family"))
                    && self.is_in(rule, chain)
                    && chain.is_done_by(&statements(rule))
            })
        })
    }

    /// Whether there is a table of this name that we did not make.
    pub(crate) fn is_taken(&self, wanted: &Netfilter) -> bool {
        let name = wanted.bare_name();
        self.tables
            .iter()
            .any(|table| text(table, "family") == wanted.family.nft() && text(table, "name") == name)
            && !self.ours().iter().any(|(table, _)| table == wanted)
    }

    /// Whether the mangle table of iptables-nft holds rules of which nft does not show everything.
    pub(crate) fn has_xtables(&self, family: Family) -> bool {
        self.rules.iter().any(|rule| {
            text(rule, "family") == family.nft()
                && text(rule, "table") == "mangle"
                && rule["expr"].as_array().into_iter().flatten().any(|part| part.get("xt").is_some())
        })
    }

    /// Whether a rule stands in a chain of this kind.
    fn is_in(&self, rule: &Value, wanted: &Chain) -> bool {
        self.chains.iter().any(|chain| {
            ["family", "table"].iter().all(|key| text(chain, key) == text(rule, key))
                && text(chain, "name") == text(rule, "chain")
                && text(chain, "type") == wanted.kind
                && text(chain, "hook") == wanted.hook
        })
    }
}

/// Makes a table of ours, in one transaction; what had its name is replaced.
pub(crate) async fn make(table: &Netfilter, lifetime: Lifetime) -> Result<(), RoutingError> {
    let name = table.name();
    // Deleting what is not there is an error; making what is there is none.
    let script = format!("add table {name}\ndelete table {name}\n{}\n", table.commented(comment(lifetime)));
    run(&["-f", "-"], Some(&script)).await.map(drop)
}

/// Deletes a table of ours. One that is gone already is fine.
pub(crate) async fn delete(table: &Netfilter) -> Result<(), RoutingError> {
    let name = table.name();
    run(&["-f", "-"], Some(&format!("add table {name}\ndelete table {name}\n"))).await.map(drop)
}

/// The program that keeps a table for itself (`flags owner`), if one does.
pub(crate) async fn program_of(table: &Netfilter) -> Option<String> {
    // In its text alone nft(8) names it: `table ip NAME { # progname PROGRAM`.
    let name = table.bare_name();
    let listed = run(&["list", "table", table.family.nft(), &name], None).await.ok()?;
    let text = String::from_utf8_lossy(&listed).into_owned();
    let (_, program) = text.lines().next()?.split_once("# progname ")?;
    Some(program.trim().to_owned())
}

/// Why nft(8) did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Refusal {
    NotInstalled(io::Error),
    /// With what it said.
    NotPermitted(String),
    Failed(io::Error),
}

/// What nft(8) prints for these arguments, in the network namespace of the calling thread.
pub(crate) async fn ask(arguments: &[&str], input: Option<&str>) -> Result<Vec<u8>, Refusal> {
    let output = tool::converse("nft", arguments, input).await.map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Refusal::NotInstalled(error)
        } else {
            Refusal::Failed(error)
        }
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let first = complaint.trim().lines().next().unwrap_or("it says nothing").to_owned();
    Err(if first.contains("not permitted") || first.contains("must be root") {
        Refusal::NotPermitted(first)
    } else {
        Refusal::Failed(io::Error::other(first))
    })
}

async fn run(arguments: &[&str], input: Option<&str>) -> Result<Vec<u8>, RoutingError> {
    let action = || match input {
        Some(script) => format!("run `nft '{}'`", script.lines().last().unwrap_or_default()),
        None => format!("run `nft {}`", arguments.join(" ")),
    };
    ask(arguments, input).await.map_err(|refusal| match refusal {
        Refusal::NotInstalled(source) => RoutingError::NftMissing { source },
        Refusal::NotPermitted(said) => RoutingError::Permission {
            action: action(),
            source: io::Error::new(io::ErrorKind::PermissionDenied, said),
        },
        Refusal::Failed(source) => RoutingError::kernel(action(), source),
    })
}

/// The comment on the rules of our tables, which tells them from those of people who typed what we print.
const fn comment(lifetime: Lifetime) -> &'static str {
    match lifetime {
        Lifetime::Leased => "mmproxy run",
        Lifetime::Permanent => "mmproxy setup",
    }
}

/// The statements of a rule that do something to a packet.
fn statements(rule: &Value) -> Vec<Value> {
    let all = rule["expr"].as_array().into_iter().flatten();
    all.filter(|statement| statement.get("counter").is_none()).map(canonical).collect()
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}
