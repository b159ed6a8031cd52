//! Firewall rules that stop a spoofed connection or its replies, and what other programs mark.
//!
//! The rules are asked about the two packets that matter, hook by hook, in three-valued logic: what cannot be told
//! from here (a limit, a set, a match of iptables) makes a "may". Needs the program nft and CAP_NET_ADMIN; without
//! them a note says what was not looked at.

mod nft;
mod packet;
mod ruleset;
mod side_effects;
mod walk;

use std::net::IpAddr;

use self::nft::Nft;
use self::packet::{Device, Kind, Packet};
use self::ruleset::Ruleset;
pub(super) use self::side_effects::Marks;
use self::walk::{Effect, Obstacle, inward, outward, over_loopback, walk};
use super::fact::Fact;
use super::finding::{ExitKind, Finding, Subject, Target};

/// The firewall of this network namespace.
pub(super) struct Firewall {
    nft: Nft,
    ruleset: Ruleset,
}

impl Firewall {
    /// Reads the firewall; the notes say what could not be seen.
    pub(super) async fn read() -> (Option<Self>, Vec<Finding>) {
        let mut notes = Vec::from_iter(nft::legacy_tables().map(|tables| {
            unseen(format!("iptables-legacy has rules of its own (tables {tables}), which nft does not show"))
                .cured_by("`iptables-legacy-save` shows them")
        }));
        match Self::list().await {
            Ok(firewall) => (Some(firewall), notes),
            Err(note) => {
                notes.push(note);
                (None, notes)
            }
        }
    }

    async fn list() -> Result<Self, Finding> {
        let nft = Nft;
        // Terse: members of sets are left out; a blocklist may have millions.
        let json = nft.run(&["-j", "-t", "list", "ruleset"]).await.map_err(|error| {
            let note = unseen(error.to_string());
            match error.cure() {
                Some(cure) => note.cured_by(cure),
                None => note,
            }
        })?;
        let ruleset = Ruleset::read(&json).map_err(|error| {
            unseen(format!("the output of `nft -j list ruleset` is not understood: {error}"))
        })?;
        Ok(Self { nft, ruleset })
    }

    /// What stops a connection or its replies, or may.
    pub(super) async fn examine(&self, flow: &Flow<'_>) -> Vec<Finding> {
        let obstacles = flow.obstacles(&self.ruleset);
        if obstacles.is_empty() {
            return vec![
                Finding::ok(
                    Subject::Firewall,
                    Fact::FirewallOpen,
                    "no nftables rule stops the connection or its replies",
                )
                .at(flow.target),
            ];
        }
        let certain = obstacles.iter().any(|obstacle| obstacle.certain);
        let told = obstacles.iter().filter(|obstacle| obstacle.certain || !certain);
        let mut findings = Vec::new();
        for obstacle in told.clone().take(TOLD) {
            let text = match obstacle.handle {
                Some(handle) => self.nft.rule_text(&obstacle.place, handle).await,
                None => None,
            };
            findings.push(flow.finding(obstacle, text));
        }
        if let Some(more) = told.count().checked_sub(TOLD).filter(|&more| more > 0)
            && let Some(last) = findings.last_mut()
        {
            last.found.push_str(&format!("; {more} more rules may stop it, see `nft -a list ruleset`"));
        }
        findings
    }
}

/// Others whom the return path may disturb, or who may disturb it.
pub(super) fn side_effects(firewall: Option<&Firewall>, marks: &Marks<'_>) -> Vec<Finding> {
    side_effects::find(firewall.map(|firewall| &firewall.ruleset), marks)
}

/// A connection that the firewall has to let through.
pub(super) struct Flow<'a> {
    pub(super) target: Target,
    pub(super) client: IpAddr,
    /// The mark on the connection's packets; `None` where the mode does not mark them.
    pub(super) mark: Option<u32>,
    /// The same for the replies.
    pub(super) reply_mark: Option<u32>,
    /// Whether replies are routed a second time, after hook output has marked them.
    pub(super) rerouted: bool,
    /// The interface to a target elsewhere; `None` for one of this host.
    pub(super) device: Option<&'a str>,
}

impl Flow<'_> {
    fn obstacles(&self, ruleset: &Ruleset) -> Vec<Obstacle> {
        let tracked = !ruleset.rules().any(ruleset::Rule::untracks);
        let request = Packet {
            kind: Kind::Request,
            transport: self.target.transport,
            source: self.client,
            destination: self.target.address.ip(),
            source_port: None,
            destination_port: Some(self.target.address.port()),
            mark: self.mark,
            tracked,
            input: Device::Absent,
            output: Device::Absent,
        };
        let reply = Packet {
            kind: Kind::Reply,
            source: request.destination,
            destination: request.source,
            source_port: request.destination_port,
            destination_port: request.source_port,
            mark: self.reply_mark,
            ..request.clone()
        };
        let (there, back) = match self.device {
            None => {
                let mut back = over_loopback();
                if let Some(first) = back.first_mut().filter(|_| self.rerouted) {
                    first.output = Device::Unknown;
                }
                (over_loopback(), back)
            }
            Some(device) => {
                let device = Device::Named(device.to_owned());
                (outward(&device), inward(&device))
            }
        };
        let mut obstacles = walk(ruleset, &request, &there);
        obstacles.extend(walk(ruleset, &reply, &back));
        obstacles
    }

    fn finding(&self, obstacle: &Obstacle, text: Option<String>) -> Finding {
        let Obstacle { effect, certain, place, handle, packet, .. } = obstacle;
        let what = match packet {
            Kind::Request => format!("the connection from {} to the target", self.client),
            Kind::Reply => format!("the target's reply to {}", self.client),
        };
        let may = if *certain { "" } else { "may " };
        let verb = match (effect, certain) {
            (Effect::Dropped, true) => "drops",
            (Effect::Dropped, false) => "drop",
            (Effect::Rejected, true) => "rejects",
            (Effect::Rejected, false) => "reject",
            (Effect::Redirected, true) => "sends elsewhere",
            (Effect::Redirected, false) => "send elsewhere",
            (Effect::Disguised, true) => "replaces the source of",
            (Effect::Disguised, false) => "replace the source of",
        };
        let who = match (handle, text) {
            (Some(handle), Some(text)) => format!("rule `{text}` ({place}, handle {handle})"),
            (Some(handle), None) => format!("rule with handle {handle} in {place}"),
            (None, _) => format!("the policy of chain {place}"),
        };
        let found = format!("{who} {may}{verb} {what}");
        let fact = match (packet, effect, certain) {
            (_, Effect::Redirected | Effect::Disguised, true) => Fact::FirewallRedirects,
            (_, Effect::Redirected | Effect::Disguised, false) => Fact::FirewallMayRedirect,
            (Kind::Request, Effect::Dropped, true) => Fact::FirewallDrops,
            (Kind::Request, Effect::Dropped, false) => Fact::FirewallMayDrop,
            (Kind::Request, Effect::Rejected, true) => Fact::FirewallRejects,
            (Kind::Request, Effect::Rejected, false) => Fact::FirewallMayReject,
            (Kind::Reply, Effect::Dropped | Effect::Rejected, true) => Fact::FirewallStopsReply,
            (Kind::Reply, Effect::Dropped | Effect::Rejected, false) => Fact::FirewallMayStopReply,
        };
        let finding = if *certain {
            Finding::failed(Subject::Firewall, fact, ExitKind::Configuration, found)
        } else {
            Finding::note(Subject::Firewall, fact, found)
        };
        let why = match effect {
            Effect::Rejected if *packet == Kind::Request => "the connection is refused",
            Effect::Dropped | Effect::Rejected => "the connection hangs",
            Effect::Redirected => "another server gets the connection, and its replies go another way",
            Effect::Disguised => "the target does not see the client's address",
        };
        finding.at(self.target).because(why).cured_by(self.cure(obstacle))
    }

    fn cure(&self, obstacle: &Obstacle) -> String {
        let Obstacle { effect, base, place, handle, outward, packet, .. } = obstacle;
        let ip = if self.client.is_ipv4() { "ip" } else { "ip6" };
        let exempt = match (effect, self.device) {
            (Effect::Redirected | Effect::Disguised, _) => match (self.mark, handle) {
                (Some(mark), _) => format!("meta mark {mark:#x}"),
                (None, Some(handle)) => return format!("`nft delete rule {place} handle {handle}`"),
                (None, None) => return format!("look at `nft list chain {place}`"),
            },
            (_, None) if *outward => "oifname lo".to_owned(),
            (_, None) => "iifname lo".to_owned(),
            (_, Some(_)) => match packet {
                Kind::Request => format!("{ip} daddr {}", self.target.address.ip()),
                Kind::Reply => format!("{ip} saddr {}", self.target.address.ip()),
            },
        };
        format!("`nft insert rule {base} {exempt} accept`")
    }
}

fn unseen(found: String) -> Finding {
    Finding::note(Subject::Firewall, Fact::FirewallUnseen, found)
        .because("a firewall rule that stops the connection or its replies would go unnoticed")
}

/// How many obstacles are told of one connection.
const TOLD: usize = 3;

#[cfg(test)]
mod tests;
