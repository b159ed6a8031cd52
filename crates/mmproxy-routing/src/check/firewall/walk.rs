//! A packet's way through the firewall: which rules stop it, and which may.

use serde_json::Value;

use super::packet::{Device, Kind, Known, Packet};
use super::ruleset::{Chain, Place, Rule, Ruleset};
use crate::check::rules::Truth;

/// Something that keeps a packet from its destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    pub(super) packet: Kind,
    pub(super) effect: Effect,
    /// Whether it is certain, as far as the rules tell.
    pub(super) certain: bool,
    /// The chain that the kernel entered.
    pub(super) base: Place,
    /// The chain of the rule.
    pub(super) place: Place,
    /// The rule; `None` for the policy of the chain.
    pub(super) handle: Option<u64>,
    /// Whether the packet was on its way out of a socket or a host, rather than in.
    pub(super) outward: bool,
}

/// What happens to the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    Dropped,
    Rejected,
    /// It goes to another address or socket.
    Redirected,
    /// Its source is replaced, so that the target does not see the client.
    Disguised,
}

/// A hook that packets pass, with the interfaces that the rules see there.
#[derive(Clone, Debug)]
pub(super) struct Station {
    pub(super) hook: &'static str,
    pub(super) input: Device,
    pub(super) output: Device,
}

/// The way of a packet from a socket of this host to another one.
pub(super) fn over_loopback() -> Vec<Station> {
    let lo = Device::Named("lo".to_owned());
    let mut way = outward(&lo);
    way.extend(inward(&lo));
    way
}

/// The way of a packet from a socket of this host to an interface.
pub(super) fn outward(device: &Device) -> Vec<Station> {
    ["output", "postrouting", "egress"]
        .map(|hook| Station { hook, input: Device::Absent, output: device.clone() })
        .to_vec()
}

/// The way of a packet from an interface to a socket of this host.
pub(super) fn inward(device: &Device) -> Vec<Station> {
    ["ingress", "prerouting", "input"]
        .map(|hook| Station { hook, input: device.clone(), output: Device::Absent })
        .to_vec()
}

/// Sends a packet through all chains on its way and returns what stops it, or may.
pub(super) fn walk(ruleset: &Ruleset, packet: &Packet, way: &[Station]) -> Vec<Obstacle> {
    let mut walk = Walk {
        ruleset,
        packet: packet.clone(),
        base: None,
        outward: true,
        patience: RULES,
        found: Vec::new(),
    };
    for station in way {
        walk.packet.input = station.input.clone();
        walk.packet.output = station.output.clone();
        walk.outward = station.input == Device::Absent;
        for chain in ruleset.base_chains(station.hook, packet.source.is_ipv6()) {
            walk.enter(chain);
            if walk.found.last().is_some_and(|obstacle| obstacle.certain) {
                return walk.found;
            }
        }
    }
    walk.found
}

struct Walk<'a> {
    ruleset: &'a Ruleset,
    packet: Packet,
    base: Option<&'a Chain>,
    outward: bool,
    /// How many more rules to look at.
    patience: usize,
    found: Vec<Obstacle>,
}

/// Where a packet goes after a rule or chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// To the next rule; `sure` if nothing before may have ended its way.
    On { sure: bool },
    /// Back to the chain that jumped here.
    Back { sure: bool },
    /// It left the base chain.
    Left,
}

impl<'a> Walk<'a> {
    fn enter(&mut self, chain: &'a Chain) {
        let Some(base) = &chain.base else { return };
        // Address translation is decided by the first packet of a connection.
        let skipped = base.is_nat && self.packet.kind == Kind::Reply;
        let elsewhere = base.device.as_ref().is_some_and(|device| {
            let device = Device::Named(device.clone());
            self.packet.input != device && self.packet.output != device
        });
        if skipped || elsewhere {
            return;
        }
        self.base = Some(chain);
        let end = self.chain(chain, true, 0);
        if let (Next::On { sure } | Next::Back { sure }, true) = (end, base.drops) {
            self.stop(Effect::Dropped, &chain.place, None, sure);
        }
    }

    fn chain(&mut self, chain: &'a Chain, sure: bool, depth: usize) -> Next {
        let mut sure = sure;
        for rule in &chain.rules {
            let Some(patience) = self.patience.checked_sub(1) else { return Next::On { sure: false } };
            self.patience = patience;
            match self.rule(rule, sure, depth) {
                Next::On { sure: still } => sure = still,
                Next::Back { sure } => return Next::On { sure },
                Next::Left => return Next::Left,
            }
        }
        Next::On { sure }
    }

    fn rule(&mut self, rule: &'a Rule, sure: bool, depth: usize) -> Next {
        let mut truth = Truth::Yes;
        for statement in &rule.statements {
            let Some((kind, inner)) = statement.as_object().and_then(|object| object.iter().next()) else {
                truth = truth.and(Truth::Maybe);
                continue;
            };
            match kind.as_str() {
                "match" => truth = truth.and(self.packet.meets(inner)),
                "mangle" => self.mangle(inner, truth),
                "counter" | "log" | "notrack" | "set" => {}
                "xt" if inner["type"] == "match" && inner["name"] == "comment" => {}
                "vmap" => return self.verdict_map(rule, inner, truth, sure, depth),
                _ => match self.verdict(rule, kind, inner, truth, sure, depth) {
                    Some(next) => return next,
                    // A limit, a quota, or a match that is new to us.
                    None => truth = truth.and(Truth::Maybe),
                },
            }
            if truth == Truth::No {
                break;
            }
        }
        Next::On { sure }
    }

    /// What a statement that ends a rule does; `None` if it is no such statement.
    fn verdict(
        &mut self,
        rule: &'a Rule,
        kind: &str,
        inner: &Value,
        truth: Truth,
        sure: bool,
        depth: usize,
    ) -> Option<Next> {
        let yes = truth == Truth::Yes;
        let ended = if yes { Next::Left } else { Next::On { sure: false } };
        let stopped = if yes { Next::Left } else { Next::On { sure } };
        let certain = sure && yes;
        let mut stop = |effect| self.stop(effect, &rule.place, Some(rule.handle), certain);
        Some(match kind {
            "accept" => ended,
            "continue" => Next::On { sure },
            "return" if yes => Next::Back { sure },
            "return" => Next::On { sure: false },
            "drop" => {
                stop(Effect::Dropped);
                stopped
            }
            "reject" => {
                stop(Effect::Rejected);
                stopped
            }
            // A program decides; when none is there, the packet is dropped.
            "queue" => {
                self.stop(Effect::Dropped, &rule.place, Some(rule.handle), false);
                ended
            }
            "dnat" | "redirect" | "tproxy" | "fwd" => {
                stop(Effect::Redirected);
                ended
            }
            "snat" | "masquerade" => {
                stop(Effect::Disguised);
                ended
            }
            "jump" | "goto" => {
                let name = inner["target"].as_str().unwrap_or_default();
                self.jump(rule, kind == "goto", name, truth, sure, depth)
            }
            "xt" if inner["type"] == "target" => match inner["name"].as_str() {
                Some("REJECT") => {
                    stop(Effect::Rejected);
                    stopped
                }
                Some("DNAT" | "REDIRECT" | "NETMAP" | "TPROXY") => {
                    stop(Effect::Redirected);
                    ended
                }
                Some("SNAT" | "MASQUERADE") => {
                    stop(Effect::Disguised);
                    ended
                }
                Some("NFQUEUE") => {
                    self.stop(Effect::Dropped, &rule.place, Some(rule.handle), false);
                    ended
                }
                Some("MARK" | "CONNMARK") => {
                    self.packet.mark = None;
                    Next::On { sure }
                }
                _ => Next::On { sure },
            },
            _ => return None,
        })
    }

    fn jump(
        &mut self,
        rule: &'a Rule,
        for_good: bool,
        name: &str,
        truth: Truth,
        sure: bool,
        depth: usize,
    ) -> Next {
        let yes = truth == Truth::Yes;
        let Some(chain) = self.ruleset.chain(&rule.place, name).filter(|_| depth < JUMPS) else {
            return Next::On { sure: false };
        };
        match self.chain(chain, sure && yes, depth + 1) {
            Next::On { sure } | Next::Back { sure } if yes && for_good => Next::Back { sure },
            Next::On { sure } | Next::Back { sure } if yes => Next::On { sure },
            Next::Left if yes => Next::Left,
            // Something in there may have accepted the packet.
            Next::On { .. } | Next::Back { .. } | Next::Left => Next::On { sure: false },
        }
    }

    fn verdict_map(&mut self, rule: &'a Rule, map: &Value, truth: Truth, sure: bool, depth: usize) -> Next {
        let key = self.packet.value(&map["key"]);
        if key == Known::Inapplicable {
            return Next::On { sure };
        }
        // The members of a named map are not listed.
        let Some(pairs) = map["data"]["set"].as_array() else { return Next::On { sure: false } };
        let mut sure = sure;
        for pair in pairs {
            let picks = truth.and(key.equals(&pair[0]));
            let verdict = pair[1].as_object().and_then(|object| object.iter().next());
            let Some((kind, inner)) = verdict.filter(|_| picks != Truth::No) else { continue };
            match self.verdict(rule, kind, inner, picks, sure, depth) {
                Some(Next::On { sure: still }) => sure = still,
                Some(next) => return next,
                None => sure = false,
            }
            if picks == Truth::Yes {
                break;
            }
        }
        Next::On { sure }
    }

    fn mangle(&mut self, inner: &Value, truth: Truth) {
        if inner["key"]["meta"]["key"] == "mark" && truth != Truth::No {
            self.packet.mark =
                self.packet.value(&inner["value"]).number().and_then(|mark| u32::try_from(mark).ok());
            if truth == Truth::Maybe {
                self.packet.mark = None;
            }
        }
    }

    fn stop(&mut self, effect: Effect, place: &Place, handle: Option<u64>, certain: bool) {
        let obstacle = Obstacle {
            packet: self.packet.kind,
            effect,
            certain,
            base: self.base.map_or_else(|| place.clone(), |base| base.place.clone()),
            place: place.clone(),
            handle,
            outward: self.outward,
        };
        let known = |other: &Obstacle| other.place == obstacle.place && other.handle == obstacle.handle;
        match self.found.iter().position(known) {
            Some(at) if certain => {
                // The last one is the one that ends the way.
                self.found.remove(at);
                self.found.push(obstacle);
            }
            Some(_) => {}
            None => self.found.push(obstacle),
        }
    }
}

/// How many rules a packet is followed through. Each jump that may or may not be taken doubles the ways, so that a
/// ruleset can be made that has no end; what is behind is uncertain.
const RULES: usize = 200_000;

/// How deep chains may jump, as in the kernel (`NFT_JUMP_STACK_SIZE`).
const JUMPS: usize = 16;
