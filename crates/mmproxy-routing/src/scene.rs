//! All that the kernel has to do with a plan, read once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::RoutingError;
use crate::ledger::Lifetime;
use crate::lookup::{Question, ask, sample_client};
use crate::maker::made_by;
use crate::mode::Family;
use crate::netfilter::Netfilter;
use crate::nft::{Ruleset, program_of};
use crate::observe::{Observed, Owner, State};
use crate::ours::{Ours, our_route, our_rule};
use crate::plan::Plan;
use crate::rtnl::{Action, Filter, KernelRoute, KernelRule, Rtnl, table_name};
use crate::step::{LocalRoute, Rule, Selector, Step, Sysctl};
use crate::sysctl;
use crate::xtables::{Merit, Xtables};

/// What the kernel has of a plan's switches, tables and rules.
pub(crate) struct Scene {
    /// The plan's steps and what was found of each.
    pub(crate) observed: Vec<Observed>,
    /// The objects of ours, of all plans.
    pub(crate) ours: Ours,
}

impl Scene {
    pub(crate) async fn look(rtnl: &Rtnl, plan: &Plan) -> Result<Self, RoutingError> {
        let rules = rtnl.all_rules().await?;
        let ours = Ours::among(&rules, rtnl).await?;
        let mut found = Found {
            ours: &ours,
            rules,
            routes: Vec::new(),
            ruleset: Ruleset::default(),
            xtables: Xtables::default(),
        };
        if plan.tables().next().is_some() {
            found.ruleset = Ruleset::read().await?;
            let unserved: Vec<_> = plan
                .tables()
                .filter(|table| !found.ruleset.serves(table))
                .map(|table| (table.family, found.ruleset.has_xtables(table.family)))
                .collect();
            found.xtables = Xtables::read(&unserved).await;
        }
        for route in plan.routes() {
            found.routes.extend(rtnl.routes(route.family, Filter::Table(route.table.get())).await?);
        }
        let mut observed = Vec::new();
        for step in plan.steps() {
            let mut near_miss = None;
            let state = match step {
                Step::Sysctl(sysctl) => found.switch(*sysctl)?,
                Step::Rule(rule) => found.rule(rule, rtnl).await?,
                Step::LocalRoute(route) => found.route(route, plan),
                Step::Netfilter(table) => {
                    let (state, resembling) = found.table(table).await;
                    near_miss = resembling;
                    state
                }
            };
            observed.push(Observed { step: step.clone(), state, near_miss });
        }
        Ok(Self { observed, ours })
    }
}

struct Found<'a> {
    ours: &'a Ours,
    rules: Vec<KernelRule>,
    routes: Vec<KernelRoute>,
    ruleset: Ruleset,
    xtables: Xtables,
}

impl Found<'_> {
    fn switch(&self, sysctl: Sysctl) -> Result<State, RoutingError> {
        Ok(match sysctl::read(sysctl)? {
            None | Some(0) => State::Missing,
            Some(_) => State::Present(self.ours.turned_on(sysctl).into()),
        })
    }

    /// A rule counts by what it does: the first rule that is about our packets decides, as it does in the kernel.
    async fn rule(&self, wanted: &Rule, rtnl: &Rtnl) -> Result<State, RoutingError> {
        for rule in &self.rules {
            if rule.serves(wanted) {
                let owner = Owner::from(our_rule(rule).map(|(_, lifetime)| lifetime));
                return Ok(self.overridden(wanted, rtnl).await?.unwrap_or(State::Present(owner)));
            }
            // One that comes later than ours would is harmless.
            if rule.diverts(wanted) && rule.priority <= wanted.priority.get() {
                return Ok(State::Different {
                    found: format!(
                        "rule `{rule}`, {}, sends the same packets elsewhere first",
                        made_by(rule.protocol)
                    ),
                    cure: "choose another mark (--mark), or an earlier place for our rule (--priority)",
                });
            }
        }
        Ok(State::Missing)
    }

    /// What the kernel would really do where rule and route are in place: an earlier rule, about all packets or some,
    /// may send the replies elsewhere.
    async fn overridden(&self, wanted: &Rule, rtnl: &Rtnl) -> Result<Option<State>, RoutingError> {
        let leads_here = LocalRoute { family: wanted.family, source: None, table: wanted.table };
        if !self.routes.iter().any(|route| route.serves(&leads_here)) {
            return Ok(None);
        }
        let client = sample_client(wanted.family);
        let mut reply = Question::to(client);
        match wanted.selector {
            Selector::Fwmark(mark) => reply.mark = Some(mark),
            Selector::FromLoopback => reply.source = Some(loopback(wanted.family)),
            Selector::SourcePort { transport, port } => reply.source_port = Some((transport, port)),
        }
        let answer = ask(rtnl, &reply).await?;
        let way = match &answer {
            Some(route) if route.is_local() => return Ok(None),
            Some(route) => format!(
                "leave by {} (table {})",
                route.device.as_deref().unwrap_or("no device"),
                table_name(route.table)
            ),
            None => "be dropped".to_owned(),
        };
        let culprit = self.rules.iter().find(|rule| {
            rule.may_pick(wanted)
                && match &answer {
                    Some(route) => rule.action == Action::Lookup(route.table),
                    None => match rule.action {
                        Action::Lookup(table) => table != wanted.table.get() && table != LOCAL_TABLE,
                        Action::Refuse(_) => true,
                        Action::Goto(_) | Action::Nop => false,
                    },
                }
        });
        Ok(Some(match culprit {
            // Ours would come first.
            Some(rule) if rule.priority > wanted.priority.get() => State::Missing,
            Some(rule) => State::Different {
                found: format!(
                    "a reply to {client} would {way}: rule `{rule}`, {}, comes first",
                    made_by(rule.protocol)
                ),
                cure: "choose an earlier place for our rule (--priority)",
            },
            None => State::Different {
                found: format!("a reply to {client} would {way}"),
                cure: "compare `ip rule` with the output of `mmproxy check`",
            },
        }))
    }

    /// What was found of a table, and what resembles it where it is missing.
    async fn table(&self, wanted: &Netfilter) -> (State, Option<String>) {
        if !self.ruleset.serves(wanted) {
            let near_miss = match self.xtables.judge(wanted) {
                Merit::Serves => return (State::Present(Owner::Foreign), None),
                Merit::Falls(lack) => Some(lack),
                Merit::Nothing => None,
            };
            // Ours would replace it.
            if !self.ruleset.is_taken(wanted) {
                return (State::Missing, near_miss);
            }
            let owner = match program_of(wanted).await {
                Some(program) => format!(", which belongs to {program},"),
                None => String::new(),
            };
            let taken = State::Different {
                found: format!(
                    "there is a table `{}` already{owner} with something else in it",
                    wanted.name()
                ),
                cure: "remove it (`nft delete table`), or choose another mark (--mark)",
            };
            return (taken, near_miss);
        }
        let owner =
            self.ruleset.ours().into_iter().find(|(table, _)| table == wanted).map(|(_, lifetime)| lifetime);
        (State::Present(owner.into()), None)
    }

    fn route(&self, wanted: &LocalRoute, plan: &Plan) -> State {
        let table: Vec<&KernelRoute> = self
            .routes
            .iter()
            .filter(|route| route.family == wanted.family && route.table == wanted.table.get())
            .collect();
        if let Some(foreign) = table.iter().find(|route| !route.is_local()) {
            return State::Different {
                found: format!(
                    "table {} leads elsewhere already: `{foreign}`, {}",
                    wanted.table,
                    made_by(foreign.protocol)
                ),
                cure: "choose a table of your own (--table)",
            };
        }
        // Two local defaults with different sources are two different answers: only one is ever given. And ours for
        // another source goes with its own plan, whoever else relies on it.
        let other_source = table.iter().find(|route| {
            route.destination.is_none()
                && route.preferred_source != wanted.source
                && (wanted.source.is_some() || our_route(route).is_some())
        });
        if let Some(route) = other_source {
            return State::Different {
                found: format!(
                    "table {} is in use for another source address: `{route}`, {}",
                    wanted.table,
                    made_by(route.protocol)
                ),
                cure: "choose a table of your own (--table)",
            };
        }
        let owner = table
            .iter()
            .filter(|route| route.serves(wanted))
            .map(|route| Owner::from(our_route(route).map(|(_, ledger)| ledger.lifetime())))
            // Of several that do the same, the one that a reader must know of: ours may go, and a lease goes first.
            .max_by_key(|owner| match owner {
                Owner::Foreign => 0,
                Owner::Leased => 1,
                Owner::Permanent => 2,
            });
        if let Some(owner) = owner {
            return State::Present(owner);
        }
        // With our route in it, the table would swallow whatever else is looked up there.
        let stranger = self.rules.iter().find(|rule| {
            rule.looks_up(wanted.family, wanted.table)
                && our_rule(rule).is_none()
                && !plan.rules().any(|planned| rule.serves(planned))
        });
        match stranger {
            Some(rule) => State::Different {
                found: format!(
                    "other packets are looked up in table {} too, by rule `{rule}`, {}, and would be swallowed",
                    wanted.table,
                    made_by(rule.protocol)
                ),
                cure: "choose a table of your own (--table)",
            },
            None => State::Missing,
        }
    }
}

impl From<Option<Lifetime>> for Owner {
    fn from(lifetime: Option<Lifetime>) -> Self {
        match lifetime {
            Some(Lifetime::Leased) => Self::Leased,
            Some(Lifetime::Permanent) => Self::Permanent,
            None => Self::Foreign,
        }
    }
}

const fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

/// The table of this host's own addresses, which holds no client's.
const LOCAL_TABLE: u32 = 255;
