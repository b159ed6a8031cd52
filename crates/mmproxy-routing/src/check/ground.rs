//! Policy rules and our tables, read once, and the questions to the kernel about single packets.

use std::io;
use std::net::IpAddr;

use nix::errno::Errno;
use rtnetlink::packet_route::route::RouteAttribute;

use super::finding::Target;
use super::reply::{Answer, Content, Wanted};
use super::rules::{Packet, RuleLine, Truth};
use crate::error::RoutingError;
use crate::ledger::Lifetime;
use crate::lookup::{Route, Verdict};
use crate::mode::Family;
use crate::plan::Plan;
use crate::rtnl::{Filter, Rtnl, errno, prefix, question, table_name};

/// What the kernel has of rules and of a plan's tables.
pub(super) struct Ground {
    rtnl: Rtnl,
    pub(super) loopback_is_up: bool,
    v4: Vec<RuleLine>,
    v6: Vec<RuleLine>,
    wanted: Vec<(Family, Wanted)>,
}

impl Ground {
    /// Reads all of it; a question about a packet is a single exchange afterwards.
    pub(super) async fn read(plan: &Plan) -> Result<Self, RoutingError> {
        let rtnl = Rtnl::open()?;
        let mut ground = Self {
            loopback_is_up: rtnl.loopback_is_up().await?,
            v4: Vec::new(),
            v6: Vec::new(),
            wanted: Vec::new(),
            rtnl,
        };
        for rule in ground.rtnl.all_rules().await? {
            let line = RuleLine::read(&rule.to_string());
            match rule.family {
                Family::V4 => ground.v4.push(line),
                Family::V6 => ground.v6.push(line),
            }
        }
        for rule in plan.rules() {
            let Some(route) = plan.routes().find(|route| rule.leads_to(route)) else { continue };
            let content = ground.rtnl.routes(route.family, Filter::Table(route.table.get())).await?;
            let content = content
                .iter()
                .map(|found| Content { text: found.to_string(), serves: found.serves(route) })
                .collect();
            let wanted = Wanted {
                rule: RuleLine::read(&format!("{}: {rule}", rule.priority)),
                rule_step: crate::step::Step::Rule(rule.clone()).to_string(),
                table: rule.table.get(),
                route_step: crate::step::Step::LocalRoute(route.clone()).to_string(),
                content,
            };
            ground.wanted.push((rule.family, wanted));
        }
        Ok(ground)
    }

    /// The rules of a family, in the order in which they are tried.
    pub(super) fn rules(&self, family: Family) -> &[RuleLine] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// Rules that look at marks and lead neither to a table of the plan nor to anything of another mmproxy.
    pub(super) fn foreign_mark_rules(&self) -> impl Iterator<Item = &str> {
        let ours =
            [Lifetime::Leased, Lifetime::Permanent].map(|lifetime| format!("proto {}", lifetime.protocol()));
        self.v4
            .iter()
            .chain(&self.v6)
            .filter(|rule| rule.is_about_marks())
            .filter(move |rule| !ours.iter().any(|ours| rule.text.ends_with(ours)))
            .filter(|rule| !self.wanted.iter().any(|(_, wanted)| rule.leads_to(&table_name(wanted.table))))
            .map(|rule| rule.text.as_str())
    }

    /// The planned objects that bring this packet back.
    pub(super) fn wanted(&self, family: Family, packet: &Packet<'_>) -> Option<&Wanted> {
        self.wanted
            .iter()
            .find(|(of, wanted)| *of == family && wanted.rule.picks(packet) == Truth::Yes)
            .map(|(_, wanted)| wanted)
    }

    /// Where this host sends a packet of its own, or, with an interface, one that comes in there.
    ///
    /// A packet of this host can only be asked about with an address of this host, or none: `with_source` says which.
    pub(super) async fn ask(&self, packet: &Packet<'_>, with_source: bool) -> Answer {
        let answer = self.ask_once(packet, with_source).await;
        if with_source && packet.from.is_loopback() && !matches!(answer, Answer::Here { .. }) {
            // The kernel refuses to let a loopback address out, instead of saying where it would have gone.
            let without = self.ask_once(packet, false).await;
            if matches!(without, Answer::Away { .. }) {
                return without;
            }
        }
        answer
    }

    /// The same, without a second question where the kernel keeps a loopback address in.
    pub(super) async fn ask_once(&self, packet: &Packet<'_>, with_source: bool) -> Answer {
        let mut message = question(packet.to);
        let input = (packet.input != "lo").then_some(packet.input);
        if with_source {
            message.header.source_prefix_length = prefix(packet.from);
            message.attributes.push(RouteAttribute::Source(packet.from.into()));
        }
        message
            .attributes
            .extend([RouteAttribute::Mark(packet.mark), RouteAttribute::IpProto(packet.protocol)]);
        message.attributes.extend(packet.source_port.map(RouteAttribute::Sport));
        message.attributes.extend(packet.destination_port.map(RouteAttribute::Dport));
        message.attributes.extend(packet.uid.map(RouteAttribute::Uid));
        if let Some(name) = input {
            match nix::net::if_::if_nametoindex(name) {
                Ok(index) => message.attributes.push(RouteAttribute::Iif(index)),
                Err(error) => return Answer::Refused(format!("there is no interface {name} ({error})")),
            }
        }
        match self.rtnl.route_of(message).await {
            Ok(Some(route)) => Answer::of(&Route::from(route)),
            Ok(None) => Answer::Nowhere,
            Err(error) => Answer::of_error(&error),
        }
    }
}

impl Answer {
    fn of(route: &Route) -> Self {
        match route.verdict {
            Verdict::Local => Self::Here { table: route.table },
            Verdict::Forward | Verdict::Group => {
                Self::Away { device: route.device.clone(), gateway: route.gateway, table: route.table }
            }
            Verdict::Drop => Self::Nowhere,
        }
    }

    fn of_error(error: &RoutingError) -> Self {
        let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
        match source.and_then(errno) {
            Some(Errno::EXDEV) => Self::Filtered,
            _ => Self::Refused(source.map_or_else(|| error.to_string(), ToString::to_string)),
        }
    }
}

/// A target's reply to a client.
pub(super) const fn reply(target: Target, client: IpAddr, mark: u32, uid: Option<u32>) -> Packet<'static> {
    Packet {
        input: "lo",
        from: target.address.ip(),
        to: client,
        mark,
        protocol: target.transport.number(),
        source_port: Some(target.address.port()),
        destination_port: None,
        uid,
    }
}

/// A gateway's packet to the target, without its mark: the return path itself would keep a marked one here.
pub(super) const fn request(target: Target, client: IpAddr) -> Packet<'static> {
    Packet {
        input: "lo",
        from: client,
        to: target.address.ip(),
        mark: 0,
        protocol: target.transport.number(),
        source_port: None,
        destination_port: Some(target.address.port()),
        uid: None,
    }
}
