//! The firewall's rules, as `nft -j list ruleset` prints them.
//!
//! Only the frame is read here, and read strictly; expressions stay as they are, so that one that is new to us makes a
//! single rule uncertain and not the whole ruleset unreadable.

use std::collections::HashMap;

use serde_json::Value;

/// All chains of a network namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Ruleset {
    chains: Vec<Chain>,
    /// Where in `chains` each is: container hosts have thousands.
    places: HashMap<Place, usize>,
}

impl Ruleset {
    /// Reads the output of `nft -j list ruleset`; an error names what is not as documented.
    pub(super) fn read(json: &str) -> Result<Self, String> {
        let document: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let objects = document["nftables"].as_array().ok_or("there is no list `nftables`")?;
        let mut ruleset = Self::default();
        for object in objects {
            if let Some(chain) = object.get("chain") {
                let chain = Chain::read(chain).ok_or_else(|| format!("a chain is incomplete: {chain}"))?;
                ruleset.places.insert(chain.place.clone(), ruleset.chains.len());
                ruleset.chains.push(chain);
            } else if let Some(rule) = object.get("rule") {
                let rule = Rule::read(rule).ok_or_else(|| format!("a rule is incomplete: {rule}"))?;
                let at = ruleset.places.get(&rule.place).copied();
                let at = at.ok_or_else(|| format!("rule {} is in no chain", rule.handle))?;
                ruleset.chains[at].rules.push(rule);
            }
        }
        Ok(ruleset)
    }

    /// The base chains of a hook that see such packets, in the order in which they are tried.
    pub(super) fn base_chains(&self, hook: &str, ipv6: bool) -> Vec<&Chain> {
        let mut chains: Vec<_> = self
            .chains
            .iter()
            .filter(|chain| {
                chain.base.as_ref().is_some_and(|base| base.hook == hook) && chain.place.sees(ipv6)
            })
            .collect();
        chains.sort_by_key(|chain| chain.base.as_ref().map(|base| base.priority));
        chains
    }

    /// The chain of the same table with this name.
    pub(super) fn chain(&self, beside: &Place, name: &str) -> Option<&Chain> {
        let place = Place { name: name.to_owned(), ..beside.clone() };
        self.places.get(&place).map(|&at| &self.chains[at])
    }

    /// Every rule there is.
    pub(super) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.chains.iter().flat_map(|chain| &chain.rules)
    }
}

/// Where a chain is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) family: String,
    pub(super) table: String,
    pub(super) name: String,
}

impl Place {
    fn read(value: &Value, name: &str) -> Option<Self> {
        let text = |field: &str| Some(value.get(field)?.as_str()?.to_owned());
        Some(Self { family: text("family")?, table: text("table")?, name: text(name)? })
    }

    /// Whether packets of this family pass through it.
    fn sees(&self, ipv6: bool) -> bool {
        match self.family.as_str() {
            "ip" => !ipv6,
            "ip6" => ipv6,
            "inet" | "netdev" => true,
            _ => false,
        }
    }

    /// Whether it is in a table that mmproxy made.
    pub(super) fn is_ours(&self) -> bool {
        self.table.starts_with("mmproxy")
    }
}

/// `inet filter input`, as the commands of nft take it.
impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.name)
    }
}

/// A chain and its rules.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) place: Place,
    /// Where the kernel enters it; `None` for a chain that rules jump to.
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<Rule>,
}

/// Where the kernel enters a chain.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) hook: String,
    pub(super) priority: i64,
    /// A chain of type nat, which sees the first packet of a connection only.
    pub(super) is_nat: bool,
    /// What passes all its rules is dropped.
    pub(super) drops: bool,
    /// The only interface it is for, in tables of family netdev.
    pub(super) device: Option<String>,
}

impl Chain {
    fn read(value: &Value) -> Option<Self> {
        let text = |field: &str| value.get(field).and_then(Value::as_str);
        let base = text("hook").map(|hook| Base {
            hook: hook.to_owned(),
            priority: value.get("prio").and_then(Value::as_i64).unwrap_or(0),
            is_nat: text("type") == Some("nat"),
            drops: text("policy") == Some("drop"),
            device: text("dev").map(str::to_owned),
        });
        Some(Self { place: Place::read(value, "name")?, base, rules: Vec::new() })
    }
}

/// A rule, in its place.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) place: Place,
    pub(super) handle: u64,
    /// Its statements, in order.
    pub(super) statements: Vec<Value>,
}

impl Rule {
    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            place: Place::read(value, "chain")?,
            handle: value.get("handle")?.as_u64()?,
            statements: value.get("expr")?.as_array()?.clone(),
        })
    }

    /// What it sets packets' or connections' marks to, if it does.
    pub(super) fn marks(&self) -> Option<Option<&Value>> {
        self.statements.iter().find_map(|statement| {
            if let Some(mangle) = statement.get("mangle") {
                let key = &mangle["key"];
                let is_mark = key["meta"]["key"] == "mark" || key["ct"]["key"] == "mark";
                return is_mark.then(|| mangle.get("value"));
            }
            let target = &statement["xt"];
            (target["type"] == "target" && (target["name"] == "MARK" || target["name"] == "CONNMARK"))
                .then_some(None)
        })
    }

    /// Whether it picks the packets of sockets of this host: what an operator typed for mode socket.
    pub(super) fn is_about_sockets(&self) -> bool {
        self.statements.iter().any(|statement| {
            statement["match"]["left"].get("socket").is_some()
                || (statement["xt"]["type"] == "match" && statement["xt"]["name"] == "socket")
        })
    }

    /// Whether it switches connection tracking off for some packets.
    pub(super) fn untracks(&self) -> bool {
        self.statements.iter().any(|statement| {
            statement.get("notrack").is_some()
                || (statement["xt"]["type"] == "target" && statement["xt"]["name"] == "CT")
        })
    }
}
