//! Where connections go.

use std::net::SocketAddr;

use mmproxy_forwarder::Targets as Pair;

use super::{Meaning, values};
use crate::cli::SourceArg;
use crate::config::keys::ServiceKeys;
use crate::config::mistake::{Mistake, Spot};
use crate::config::read::TypedService;
use crate::config::scalar::{Endpoint, Scalar};
use crate::config::slot::AnySlot as _;
use crate::spec::TargetsSpec;

/// Targets of a service.
pub(super) enum Targets {
    /// The same for each port.
    Same(TargetsSpec),
    /// Those of the first port listened on, of the second, and so on.
    ByPort(Vec<TargetsSpec>),
}

impl Meaning<'_> {
    /// `None` after a mistake, and where a key could not be read, which has been told.
    pub(super) fn targets(&mut self, typed: &TypedService) -> Option<Targets> {
        let keys = &typed.keys;
        let before = self.mistakes.len();
        self.named_by_header(keys);
        let (v4, v6) = (keys.target_v4.get().map(|t| t.0), keys.target_v6.get().map(|t| t.0));
        let none_named = keys.target_v4.is_absent() && keys.target_v6.is_absent();
        if none_named && keys.target_from_header.is_absent() {
            let (title, help) = if self.flags {
                (
                    "no target is given",
                    "give the server's own address, such as -4 127.0.0.1:22 or -6 '[::1]:22'",
                )
            } else {
                (
                    "no target is given",
                    "give the server's own address, such as `target-v4 = \"127.0.0.1:22\"` or `target-v6 = \"[::1]:22\"`",
                )
            };
            let label = if self.flags { "" } else { "this service leads nowhere" };
            self.mistakes.push(Mistake::new(title, typed.spot.clone(), label).help(help));
        }
        self.possible(v4, &keys.target_v4.spot());
        self.possible(v6, &keys.target_v6.spot());
        let ports = [(v4, keys.target_v4.spot()), (v6, keys.target_v6.spot())].into_iter().filter_map(
            |(target, spot)| target.filter(|target| target.len() > 1).map(|target| (target, spot)),
        );
        let ranges: Vec<(Endpoint, Spot)> = ports.collect();
        for (range, spot) in &ranges {
            self.as_many(*range, spot, keys);
        }
        if self.mistakes.len() > before {
            return None;
        }
        let from_header = keys.target_from_header.value().then(|| values(&keys.allow_target));
        let pair = |index: usize| TargetsSpec {
            v4: v4.and_then(|target| nth(target, index)).and_then(|address| match address {
                SocketAddr::V4(address) => Some(address),
                SocketAddr::V6(_) => None,
            }),
            v6: v6.and_then(|target| nth(target, index)).and_then(|address| match address {
                SocketAddr::V6(address) => Some(address),
                SocketAddr::V4(_) => None,
            }),
            from_header: from_header.clone(),
        };
        Some(match ranges.first() {
            Some((range, _)) => Targets::ByPort((0..range.len() as usize).map(pair).collect()),
            None => Targets::Same(pair(0)),
        })
    }

    /// A header may name a target only where there is a header, and a list of what it may name.
    fn named_by_header(&mut self, keys: &ServiceKeys) {
        if !keys.target_from_header.value() {
            if let Some(place) = keys.allow_target.place() {
                let title = format!("{} is without effect", self.called("allow-target"));
                let mistake = Mistake::new(title, place, "no header names a target");
                self.mistakes.push(mistake.help("add `target-from-header = true`, or leave it out"));
            }
            return;
        }
        let spot = keys.target_from_header.spot();
        if keys.allow_target.is_absent() {
            let title = format!("{} is missing", self.called("allow-target"));
            let mistake = Mistake::new(title, spot.clone(), "a header could name any address");
            self.mistakes.push(
                mistake
                    .help("list what may be named, such as `allow-target = [\"10.0.0.0/24:20000-20100\"]`"),
            );
        }
        if keys.source.value() == SourceArg::Peer {
            let title = format!(
                "{} needs a header, and {} peer asks for none",
                self.called("target-from-header"),
                self.called("source")
            );
            let mistake = Mistake::new(title, spot, "there is no header")
                .beside(keys.source.spot(), "the client is who connects");
            let help = if self.flags {
                "name the target with -4 or -6"
            } else {
                "name the target with `target-v4` or `target-v6`"
            };
            self.mistakes.push(mistake.help(help));
        }
    }

    /// Whether the forwarder could connect to it.
    fn possible(&mut self, target: Option<Endpoint>, spot: &Spot) {
        let pair = match target.map(|target| target.first) {
            None => return,
            Some(SocketAddr::V4(target)) => Pair::new(Some(target), None),
            Some(SocketAddr::V6(target)) => Pair::new(None, Some(target)),
        };
        if let Err(error) = pair {
            self.mistakes.push(
                Mistake::new(error.to_string(), spot.clone(), "nothing can be connected to there")
                    .help("give the server's own address, such as 127.0.0.1:22 or [::1]:22"),
            );
        }
    }

    /// Each port listened on has one target port.
    fn as_many(&mut self, target: Endpoint, spot: &Spot, keys: &ServiceKeys) {
        let Some(listen) = keys.listen.given() else { return };
        for at in listen.value.iter().filter(|at| at.value.len() != target.len()) {
            let title =
                format!("{} ports of {} have {} target ports", at.value.len(), at.value.text(), target.len());
            let mistake = Mistake::new(title, spot.clone(), format!("{} ports", target.len()))
                .beside(at.spot.clone(), format!("{} here", at.value.len()));
            self.mistakes.push(mistake.help("give ranges of the same length, or one target port for all"));
        }
        if let Some(name) = keys.name.given().filter(|name| name.value.0.len() > LONGEST) {
            let title = format!("`{}` leaves no room for the names of its ports", name.value.0);
            let mistake = Mistake::new(title, name.spot.clone(), "a long name");
            self.mistakes.push(mistake.help(format!("shorten it to {LONGEST} characters")));
        }
        if target.len() > MOST {
            let mistake = Mistake::new(
                format!("{} ports with a target each are too many", target.len()),
                spot.clone(),
                format!("at most {MOST}"),
            );
            self.mistakes.push(mistake.help("use `target-from-header`, or several services"));
        }
    }
}

/// The target of the port with this place in its range; one alone is every port's.
fn nth(target: Endpoint, index: usize) -> Option<SocketAddr> {
    if target.len() == 1 { Some(target.first) } else { target.addresses().nth(index) }
}

/// What is left of a name of 64 characters beside `:65535`.
const LONGEST: usize = 58;

/// Each port is a service of its own, which has listeners in every worker and a self-check at the start.
const MOST: u32 = 4096;
