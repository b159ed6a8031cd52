//! The packets that matter, sent through a mangle table in thought.
//!
//! Rules are not compared with a text: what counts is whether the reply has our mark in the end. A condition that some
//! clients' packets would meet and others' not makes a rule one that does not do the job.

use super::Merit;
use super::line::{Asks, Condition, Line, Target};
use crate::netfilter::{Job, Netfilter};

/// Whether these rules do the job of a table of ours.
pub(super) fn judge(lines: &[Line], wanted: &Netfilter) -> Merit {
    let (mark, mask) = (wanted.mark.get(), wanted.mark.mask());
    let mut walk = Walk { lines, fates: vec![Fate::Unseen; lines.len()], doubt: None };
    let (reply, lack) = match wanted.job {
        // Nobody made those by hand for the original.
        Job::Tproxy(_) => return Merit::Nothing,
        Job::Connmark => {
            let mut request =
                Packet { mark, connection: 0, input: Input::Loopback, state: "NEW", socket: true };
            walk.pass("PREROUTING", &mut request);
            let mut reply = Packet {
                mark: 0,
                connection: request.connection,
                input: Input::Elsewhere,
                state: "ESTABLISHED",
                socket: true,
            };
            walk.pass("OUTPUT", &mut reply);
            let lack = match request.connection {
                0 => "nothing in PREROUTING saves the mark",
                _ => "nothing in OUTPUT gives the mark back to replies",
            };
            (reply, lack)
        }
        Job::Socket => {
            let mut reply = Packet {
                mark: 0,
                connection: 0,
                input: Input::Elsewhere,
                state: "ESTABLISHED",
                socket: true,
            };
            walk.pass("PREROUTING", &mut reply);
            (reply, "nothing in PREROUTING marks what arrives for a transparent socket")
        }
    };
    if reply.mark & mask == mark && walk.doubt.is_none() {
        return Merit::Serves;
    }
    let resembling: Vec<_> =
        lines.iter().zip(&walk.fates).filter(|(line, _)| resembles(line, wanted)).collect();
    if resembling.is_empty() {
        return Merit::Nothing;
    }
    let mut lacks: Vec<String> = walk.doubt.into_iter().collect();
    lacks.extend(resembling.iter().filter_map(|(line, fate)| fate.lack(line)).take(TOLD));
    if lacks.is_empty() {
        lacks.push(match reply.mark {
            0 => lack.to_owned(),
            other => format!("replies get the mark {other:#x} instead of {mark:#x}"),
        });
    }
    Merit::Falls(lacks.join("; "))
}

/// The interface that a packet comes in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// lo
    Loopback,
    /// Any other, or, of a packet of this host, none.
    Elsewhere,
}

/// What of a packet rules look at.
#[derive(Clone, Debug)]
struct Packet {
    mark: u32,
    /// The mark of its connection.
    connection: u32,
    input: Input,
    /// Of its connection.
    state: &'static str,
    /// Whether a transparent socket of this host waits for it.
    socket: bool,
}

impl Packet {
    /// Whether it meets a condition; `None` if some do and some do not.
    fn meets(&self, condition: &Condition) -> Option<bool> {
        let met = match &condition.asks {
            Asks::Mark(mark) => Some(self.mark & mark.mask == mark.value),
            Asks::ConnectionMark(mark) => Some(self.connection & mark.mask == mark.value),
            Asks::Input(name) => {
                let is_loopback = match name.strip_suffix('+') {
                    Some(prefix) => "lo".starts_with(prefix),
                    None => name == "lo",
                };
                match self.input {
                    Input::Loopback => Some(is_loopback),
                    // By which one depends on the target, or the packet.
                    Input::Elsewhere => (name == "lo").then_some(false),
                }
            }
            Asks::Protocol(name) => match name.as_str() {
                "tcp" | "udp" => None,
                _ => Some(false),
            },
            Asks::State(states) => Some(states.iter().any(|state| state == self.state)),
            Asks::Socket => Some(self.socket),
            Asks::Other => None,
        }?;
        Some(met != condition.not)
    }
}

struct Walk<'a> {
    lines: &'a [Line],
    /// What became of each line.
    fates: Vec<Fate<'a>>,
    /// Why what comes later may not happen.
    doubt: Option<String>,
}

/// What became of a rule when a packet came by.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate<'a> {
    /// None came by.
    Unseen,
    /// Its condition is not met.
    Refused(&'a str),
    /// Its condition is met by some packets only.
    Restricted(&'a str),
    Applied,
}

impl Fate<'_> {
    /// What is wrong with a rule that was meant to do the job.
    fn lack(&self, line: &Line) -> Option<String> {
        let Line { text, chain, .. } = line;
        match self {
            Self::Unseen => {
                Some(format!("`{text}` is not reached: the packets do not come by there (chain {chain})"))
            }
            Self::Refused(condition) => Some(format!("`{text}` is for other packets (`{condition}`)")),
            Self::Restricted(condition) => Some(format!("`{text}` is for some packets only (`{condition}`)")),
            Self::Applied => None,
        }
    }
}

impl Walk<'_> {
    fn pass(&mut self, chain: &str, packet: &mut Packet) {
        self.chain(chain, packet, None, 0);
    }

    /// Whether the packet comes out at the end of a chain. With `unless`, it gets there only under that condition.
    fn chain(&mut self, chain: &str, packet: &mut Packet, unless: Option<&str>, depth: usize) -> bool {
        if depth > JUMPS {
            return true;
        }
        let lines = self.lines;
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.chain == chain) {
            let mut maybe = unless;
            let mut refused = None;
            for condition in &line.conditions {
                match packet.meets(condition) {
                    Some(true) => {}
                    Some(false) => refused = refused.or(Some(condition.text.as_str())),
                    None => maybe = maybe.or(Some(&condition.text)),
                }
            }
            if let Some(condition) = refused {
                self.fates[at] = Fate::Refused(condition);
                continue;
            }
            match &line.target {
                Target::Nothing => {}
                Target::Chain(name) => {
                    if !self.chain(name, packet, maybe, depth + 1) {
                        return false;
                    }
                }
                Target::Return | Target::End if maybe.is_some() => {
                    self.doubt.get_or_insert_with(|| format!("`{}` ends the way of some packets", line.text));
                }
                Target::Return => return true,
                Target::End => return false,
                Target::SaveMark { .. }
                | Target::RestoreMark { .. }
                | Target::SetConnectionMark(_)
                | Target::SetMark(_) => match maybe {
                    Some(_) => {
                        let own = line.conditions.iter().find(|condition| packet.meets(condition).is_none());
                        self.fates[at] = Fate::Restricted(own.map_or("in its chain", |own| &own.text));
                    }
                    None => {
                        self.fates[at] = Fate::Applied;
                        packet.change(&line.target);
                    }
                },
            }
        }
        true
    }
}

impl Packet {
    /// As the kernel's `xt_connmark.c` and `xt_mark.c` do it.
    const fn change(&mut self, target: &Target) {
        match *target {
            Target::SaveMark { packet, connection } => {
                self.connection = (self.connection & !connection) ^ (self.mark & packet);
            }
            Target::RestoreMark { packet, connection } => {
                self.mark = (self.mark & !packet) ^ (self.connection & connection);
            }
            Target::SetConnectionMark(mark) => self.connection = mark.set(self.connection),
            Target::SetMark(mark) => self.mark = mark.set(self.mark),
            Target::Chain(_) | Target::Return | Target::End | Target::Nothing => {}
        }
    }
}

/// Whether somebody may have meant this rule to do our job.
fn resembles(line: &Line, wanted: &Netfilter) -> bool {
    let about_sockets = || line.conditions.iter().any(|condition| condition.asks == Asks::Socket);
    match (wanted.job, &line.target) {
        (Job::Connmark, Target::SaveMark { .. } | Target::RestoreMark { .. }) => true,
        (Job::Connmark, Target::SetConnectionMark(mark)) => mark.value == wanted.mark.get(),
        (Job::Socket, Target::SetMark(_)) => about_sockets(),
        (
            Job::Connmark | Job::Socket | Job::Tproxy(_),
            Target::SaveMark { .. }
            | Target::RestoreMark { .. }
            | Target::SetConnectionMark(_)
            | Target::SetMark(_)
            | Target::Chain(_)
            | Target::Return
            | Target::End
            | Target::Nothing,
        ) => false,
    }
}

/// How deep chains may jump; a loop is none that iptables accepts.
const JUMPS: usize = 32;

/// How many rules are told of.
const TOLD: usize = 3;

#[cfg(test)]
mod tests;
