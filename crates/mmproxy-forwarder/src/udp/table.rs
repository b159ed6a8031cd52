//! The flows of one worker: found by key, ended when idle, bounded in number.
//!
//! Pure: no I/O and no clock. `V` is what a flow is to its user.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use slab::Slab;

use super::key::{ClientNetwork, FlowKey};
use super::lru::{Link, Linked, List};

/// The flows of one worker.
///
/// A flow is *young* until its client answers a reply: sends on after one came back. Whoever invents source addresses
/// hears no replies, so young flows are the first to go when there are too many.
#[derive(Debug)]
pub(crate) struct FlowTable<V> {
    rules: Rules,
    entries: Slab<Entry<V>>,
    by_key: HashMap<FlowKey, u32>,
    /// Of all flows.
    everything: Ages,
    balancers: Scopes<IpAddr>,
    networks: Scopes<ClientNetwork>,
    serial: u32,
}

/// What a table keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// A flow without a datagram for so long has ended.
    pub(crate) idle: Duration,
    /// An established flow is not evicted before it was silent for so long.
    pub(crate) protected: Duration,
    /// Flows altogether.
    pub(crate) flows: usize,
    /// Flows of one balancer.
    pub(crate) per_balancer: usize,
    /// Flows of one network of clients.
    pub(crate) per_network: usize,
}

/// Number of a flow in its table, never used again for another one while anybody may remember it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowId {
    index: u32,
    serial: u32,
}

/// Which way a datagram went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the target.
    Up,
    /// From the target to the client.
    Down,
}

/// A limit is reached, and every flow it counts is established and in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl<V> FlowTable<V> {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            entries: Slab::new(),
            by_key: HashMap::new(),
            everything: Ages::new(),
            balancers: Scopes::new(BALANCER),
            networks: Scopes::new(NETWORK),
            serial: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn find(&self, key: &FlowKey) -> Option<FlowId> {
        self.by_key.get(key).map(|index| self.id(*index))
    }

    /// `None` once the flow is removed.
    pub(crate) fn get(&self, id: FlowId) -> Option<&V> {
        self.entry(id).map(|entry| &entry.value)
    }

    /// `None` once the flow is removed.
    pub(crate) fn get_mut(&mut self, id: FlowId) -> Option<&mut V> {
        let entry = self.entries.get_mut(id.index as usize)?;
        (entry.serial == id.serial).then_some(&mut entry.value)
    }

    /// Whether its client has answered a reply.
    pub(crate) fn is_established(&self, id: FlowId) -> bool {
        self.entry(id).is_some_and(|entry| entry.age == Age::Established)
    }

    /// Notes that a datagram of `id` went `way` at `now`.
    pub(crate) fn touch(&mut self, id: FlowId, way: Way, now: Instant) {
        let Some(entry) = self.entries.get_mut(id.index as usize).filter(|entry| entry.serial == id.serial)
        else {
            return;
        };
        let before = entry.age.list();
        entry.age = entry.age.after(way);
        let (age, unchanged) = (entry.age.list(), entry.last == now && entry.age.list() == before);
        if unchanged {
            return;
        }
        entry.last = now;
        let (balancer, network) = (entry.balancer, entry.network);
        for (axis, ages) in [
            (EVERYTHING, &mut self.everything),
            (BALANCER, &mut self.balancers.scopes[balancer as usize].ages),
            (NETWORK, &mut self.networks.scopes[network as usize].ages),
        ] {
            if age == before {
                ages.0[age].refresh(&mut self.entries, axis, id.index);
            } else {
                ages.0[before].unlink(&mut self.entries, axis, id.index);
                ages.0[age].push(&mut self.entries, axis, id.index);
            }
        }
    }

    /// The flow that has to go before one with `key` fits, if any. Ask again once it is gone: every limit that is
    /// reached wants its own.
    ///
    /// # Errors
    ///
    /// [`Full`] when nothing may be evicted for it.
    pub(crate) fn victim(&self, key: &FlowKey, now: Instant) -> Result<Option<FlowId>, Full> {
        // The narrowest first: what makes room there makes room in the others too.
        let limits = [
            (self.networks.ages(&key.network()), self.rules.per_network),
            (self.balancers.ages(&key.balancer), self.rules.per_balancer),
            (Some(&self.everything), self.rules.flows),
        ];
        for (ages, limit) in limits {
            let Some(ages) = ages.filter(|ages| ages.len() >= limit) else { continue };
            let [young, established] = &ages.0;
            let index =
                young.oldest().or_else(|| established.oldest().filter(|index| self.is_silent(*index, now)));
            return index.map(|index| Some(self.id(index))).ok_or(Full);
        }
        Ok(None)
    }

    /// Adds the flow `key`, which must not be there, as of a datagram that went up at `now`.
    pub(crate) fn insert(&mut self, key: FlowKey, now: Instant, value: V) -> FlowId {
        self.serial = self.serial.wrapping_add(1);
        let balancer = self.balancers.enter(key.balancer);
        let network = self.networks.enter(key.network());
        let index = self.entries.insert(Entry {
            key,
            value,
            serial: self.serial,
            last: now,
            age: Age::Unanswered,
            balancer,
            network,
            links: [Link::NONE; AXES],
        });
        let index = u32::try_from(index).expect("a flow has a descriptor, and those are numbers of 31 bits");
        self.everything.0[YOUNG].push(&mut self.entries, EVERYTHING, index);
        self.balancers.scopes[balancer as usize].ages.0[YOUNG].push(&mut self.entries, BALANCER, index);
        self.networks.scopes[network as usize].ages.0[YOUNG].push(&mut self.entries, NETWORK, index);
        let replaced = self.by_key.insert(key, index);
        debug_assert!(replaced.is_none(), "two flows with one key");
        self.id(index)
    }

    /// Takes a flow out; `None` if it is gone already.
    pub(crate) fn remove(&mut self, id: FlowId) -> Option<V> {
        let (key, balancer, network, age) = {
            let entry = self.entry(id)?;
            (entry.key, entry.balancer, entry.network, entry.age.list())
        };
        self.everything.0[age].unlink(&mut self.entries, EVERYTHING, id.index);
        self.balancers.leave(balancer, age, &mut self.entries, id.index);
        self.networks.leave(network, age, &mut self.entries, id.index);
        self.by_key.remove(&key);
        Some(self.entries.remove(id.index as usize).value)
    }

    /// A flow that is idle at `now`. Ask again once it is removed.
    pub(crate) fn expired(&self, now: Instant) -> Option<FlowId> {
        self.oldest()
            .filter(|(_, last)| now.saturating_duration_since(*last) >= self.rules.idle)
            .map(|(id, _)| id)
    }

    /// When the next flow will be idle.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.oldest().map(|(_, last)| last + self.rules.idle)
    }

    /// The flow that has been silent longest, and since when.
    fn oldest(&self) -> Option<(FlowId, Instant)> {
        let oldest = self.everything.0.iter().filter_map(List::oldest);
        let dated = oldest.map(|index| (self.id(index), self.entries[index as usize].last));
        dated.min_by_key(|(_, last)| *last)
    }

    /// Ends flows after `idle` from now on, if that is sooner.
    pub(crate) fn hurry(&mut self, idle: Duration) {
        self.rules.idle = self.rules.idle.min(idle);
    }

    /// Every flow.
    pub(crate) fn ids(&self) -> impl Iterator<Item = FlowId> {
        self.entries.iter().map(|(index, entry)| FlowId { index: index as u32, serial: entry.serial })
    }

    fn entry(&self, id: FlowId) -> Option<&Entry<V>> {
        self.entries.get(id.index as usize).filter(|entry| entry.serial == id.serial)
    }

    fn id(&self, index: u32) -> FlowId {
        FlowId { index, serial: self.entries[index as usize].serial }
    }

    fn is_silent(&self, index: u32, now: Instant) -> bool {
        now.saturating_duration_since(self.entries[index as usize].last) >= self.rules.protected
    }
}

impl FlowId {
    /// As one number, for `epoll_event`.
    pub(crate) const fn to_bits(self) -> u64 {
        (self.serial as u64) << 32 | self.index as u64
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, serial: (bits >> 32) as u32 }
    }
}

#[derive(Debug)]
struct Entry<V> {
    key: FlowKey,
    value: V,
    serial: u32,
    /// When its most recent datagram went, either way.
    last: Instant,
    age: Age,
    balancer: u32,
    network: u32,
    links: [Link; AXES],
}

impl<V> Linked for Entry<V> {
    fn link(&mut self, axis: usize) -> &mut Link {
        &mut self.links[axis]
    }
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    /// Nothing came back yet.
    Unanswered,
    /// A reply went to the client.
    Answered,
    /// The client went on after a reply: it is where its address says.
    Established,
}

impl Age {
    const fn after(self, way: Way) -> Self {
        match (self, way) {
            (Self::Unanswered, Way::Down) => Self::Answered,
            (Self::Answered, Way::Up) => Self::Established,
            (Self::Unanswered, Way::Up) | (Self::Answered, Way::Down) | (Self::Established, _) => self,
        }
    }

    /// The list of [`Ages`] it is in.
    const fn list(self) -> usize {
        match self {
            Self::Unanswered | Self::Answered => YOUNG,
            Self::Established => 1,
        }
    }
}

/// The flows that one limit counts: young ones, and established ones.
#[derive(Clone, Copy, Debug)]
struct Ages([List; 2]);

impl Ages {
    const fn new() -> Self {
        Self([List::new(); 2])
    }

    const fn len(&self) -> usize {
        self.0[0].len() + self.0[1].len()
    }
}

/// Groups of flows that share something, each with a limit of its own. A group without flows is forgotten.
#[derive(Debug)]
struct Scopes<K> {
    axis: usize,
    by_key: HashMap<K, u32>,
    scopes: Slab<Scope<K>>,
}

#[derive(Debug)]
struct Scope<K> {
    key: K,
    ages: Ages,
}

impl<K: Copy + Eq + Hash> Scopes<K> {
    fn new(axis: usize) -> Self {
        Self { axis, by_key: HashMap::new(), scopes: Slab::new() }
    }

    fn ages(&self, key: &K) -> Option<&Ages> {
        self.by_key.get(key).map(|scope| &self.scopes[*scope as usize].ages)
    }

    fn enter(&mut self, key: K) -> u32 {
        *self.by_key.entry(key).or_insert_with(|| {
            let scope = self.scopes.insert(Scope { key, ages: Ages::new() });
            u32::try_from(scope).expect("no more groups than flows")
        })
    }

    fn leave(&mut self, scope: u32, age: usize, entries: &mut Slab<impl Linked>, entry: u32) {
        let Scope { key, ages } = &mut self.scopes[scope as usize];
        ages.0[age].unlink(entries, self.axis, entry);
        if ages.len() == 0 {
            self.by_key.remove(key);
            self.scopes.remove(scope as usize);
        }
    }
}

/// Axes of the lists an entry is in.
const EVERYTHING: usize = 0;
const BALANCER: usize = 1;
const NETWORK: usize = 2;
const AXES: usize = 3;

/// Place of the young flows in [`Ages`].
const YOUNG: usize = 0;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;
