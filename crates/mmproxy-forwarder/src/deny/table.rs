//! The deny list as a gateway uses it: who is denied, and until when.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::networks::{Networks, normalised};

/// Denied networks, for lookups.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DenyTable {
    networks: Networks<Term>,
    /// With so many networks it is time to forget those that are over.
    pub(super) crowded: usize,
}

/// One step by which a table follows a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenyChange {
    /// From now on these alone are denied, each until its time, or for ever.
    Replace(Vec<(IpNet, Option<SystemTime>)>),
    /// This network is denied, too.
    Add {
        /// Who.
        network: IpNet,
        /// Until when; `None`: for ever.
        until: Option<SystemTime>,
        /// Whether sessions of these clients that live are to be ended as well.
        close: bool,
    },
    /// Exactly this network is denied no longer.
    Remove {
        /// Who.
        network: IpNet,
    },
}

impl DenyChange {
    /// The same, with sessions that live ended or not. Means something for [`Add`](Self::Add) alone.
    #[must_use]
    pub fn closing(mut self, ends_sessions: bool) -> Self {
        if let Self::Add { close, .. } = &mut self {
            *close = ends_sessions;
        }
        self
    }
}

impl DenyTable {
    /// Does what `change` says. Now and then, what is over at `now` is forgotten on this occasion.
    pub fn apply(&mut self, change: &DenyChange, now: SystemTime) {
        match change {
            DenyChange::Replace(networks) => {
                *self = Self::default();
                for (network, until) in networks {
                    self.deny(normalised(*network), nanoseconds(*until));
                }
            }
            DenyChange::Add { network, until, .. } => self.deny(normalised(*network), nanoseconds(*until)),
            DenyChange::Remove { network } => {
                let network = normalised(*network);
                self.networks.remove(network);
                self.settle(network);
            }
        }
        if self.networks.len() > self.crowded {
            let now = nanoseconds(Some(now));
            self.networks.retain(|term| term.own > now);
            self.crowded = (2 * self.networks.len()).max(FEW);
        }
    }

    /// Whether the client at `ip` is denied at `now`. An IPv4-mapped address is looked up as IPv4.
    pub fn denies(&self, ip: IpAddr, now: SystemTime) -> bool {
        self.networks.longest(ip).is_some_and(|term| term.effective > nanoseconds(Some(now)))
    }

    /// Whether no network is in the table, also none that is over.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// How many networks take up room.
    pub fn len(&self) -> usize {
        self.networks.len()
    }

    fn deny(&mut self, network: IpNet, until: u64) {
        self.networks.insert(network, Term { own: until, effective: until });
        self.settle(network);
    }

    /// Works out [`Term::effective`] of `network` and all networks in it.
    fn settle(&mut self, network: IpNet) {
        let above = network.supernet().and_then(|larger| self.networks.longest_of(larger));
        // The networks that contain the one at hand, each within the one before.
        let mut around = vec![(None, above.map_or(0, |term| term.effective))];
        for (inner, term) in self.networks.within_mut(network) {
            while around
                .last()
                .is_some_and(|(net, _): &(Option<IpNet>, u64)| net.is_some_and(|net| !net.contains(&inner)))
            {
                around.pop();
            }
            let outer = around.last().map_or(0, |(_, effective)| *effective);
            term.effective = term.own.max(outer);
            around.push((Some(inner), term.effective));
        }
    }
}

/// How long a network is denied, in nanoseconds since 1970; the last one, in the year 2554, is never reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Term {
    own: u64,
    /// Invariant: the longest of `own` and those of all networks that contain it, so that one lookup is enough.
    effective: u64,
}

fn nanoseconds(time: Option<SystemTime>) -> u64 {
    let Some(time) = time else { return u64::MAX };
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// So few that forgetting some is not worth a walk.
const FEW: usize = 1024;
