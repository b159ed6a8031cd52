//! The table against a plainer one, which looks at every flow each time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::{FlowId, FlowTable, Full, Rules, Way};
use crate::udp::key::{FlowKey, Origin};

/// What happens to the two.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A datagram goes up.
    Up(Who),
    /// A reply comes, if there is such a flow.
    Down(Who),
    Close(Who),
    /// Seconds go by.
    Wait(u64),
}

/// Balancer, network and client; few enough of each for steps to meet.
pub(crate) type Who = (u8, u8, u8);

/// Does `steps` to both.
///
/// # Panics
///
/// If they disagree on who lives, who goes or when the next one will.
pub(crate) fn run(steps: impl IntoIterator<Item = Step>) {
    let mut now = Instant::now();
    let (mut table, mut naive) = (FlowTable::new(RULES), Naive::default());
    for step in steps {
        match step {
            Step::Wait(time) => now += Duration::from_secs(time),
            Step::Up(who) => up(&mut table, &mut naive, &key(who), now),
            Step::Down(who) => {
                let key = key(who);
                if let Some(id) = table.find(&key) {
                    table.touch(id, Way::Down, now);
                }
                naive.touch(&key, Way::Down, now);
            }
            Step::Close(who) => {
                let key = key(who);
                let removed = table.find(&key).and_then(|id| table.remove(id));
                assert_eq!(removed, naive.find(&key).map(|flow| flow.key));
                naive.remove(&key);
            }
        }
        assert_eq!(table.next_expiry(), naive.flows.iter().map(|flow| flow.last + RULES.idle).min());
        let mut expired = naive.expired(now);
        while let Some(id) = table.expired(now) {
            let gone = table.remove(id).expect("an idle flow is there");
            let place = expired.iter().position(|key| *key == gone).expect("it is idle");
            expired.swap_remove(place);
            naive.remove(&gone);
        }
        assert_eq!(expired, [], "these are idle");
        compare(&table, &naive);
    }
}

fn up(table: &mut FlowTable<FlowKey>, naive: &mut Naive, key: &FlowKey, now: Instant) {
    if let Some(id) = table.find(key) {
        table.touch(id, Way::Up, now);
        return naive.touch(key, Way::Up, now);
    }
    loop {
        match (table.victim(key, now), naive.victims(key, now)) {
            (Ok(None), allowed) => {
                assert_eq!(allowed, Ok(Vec::new()), "somebody has to go");
                break;
            }
            (Ok(Some(id)), allowed) => {
                let gone = table.remove(id).expect("a victim lives");
                let allowed = allowed.expect("nobody may go");
                assert!(allowed.contains(&gone), "{gone:?} went, not one of {allowed:?}");
                naive.remove(&gone);
            }
            (Err(full), allowed) => return assert_eq!(allowed, Err(full)),
        }
    }
    table.insert(*key, now, *key);
    naive.flows.push(Known { key: *key, last: now, answered: false, established: false });
}

fn compare(table: &FlowTable<FlowKey>, naive: &Naive) {
    assert_eq!(table.len(), naive.flows.len());
    assert_eq!(table.ids().count(), naive.flows.len());
    for flow in &naive.flows {
        let id = table.find(&flow.key).expect("both have it");
        assert_eq!(table.get(id), Some(&flow.key), "somebody else's");
        assert_eq!(table.is_established(id), flow.established);
        assert_eq!(FlowId::from_bits(id.to_bits()), id);
    }
}

pub(crate) fn key((balancer, network, client): Who) -> FlowKey {
    FlowKey {
        local: Ipv4Addr::new(10, 0, 0, 1).into(),
        balancer: Ipv4Addr::new(10, 0, 1, balancer).into(),
        origin: Origin::Client {
            source: SocketAddr::from(([192, 0, network, client], 4711)),
            destination: Some(SocketAddr::from(([198, 51, 100, 1], 53))),
        },
    }
}

/// The flows in a list, each with what decides about it.
#[derive(Default)]
struct Naive {
    flows: Vec<Known>,
}

struct Known {
    key: FlowKey,
    last: Instant,
    answered: bool,
    established: bool,
}

impl Naive {
    fn find(&mut self, key: &FlowKey) -> Option<&mut Known> {
        self.flows.iter_mut().find(|flow| flow.key == *key)
    }

    fn touch(&mut self, key: &FlowKey, way: Way, now: Instant) {
        let Some(flow) = self.find(key) else { return };
        flow.last = now;
        match way {
            Way::Down => flow.answered = true,
            Way::Up => flow.established |= flow.answered,
        }
    }

    /// Those who may go for a flow with `key`, which are tied; none if there is room; `Err` if nobody may.
    fn victims(&self, key: &FlowKey, now: Instant) -> Result<Vec<FlowKey>, Full> {
        type Same = fn(&FlowKey, &FlowKey) -> bool;
        let limits: [(Same, usize); 3] = [
            (|one, other| one.network() == other.network(), RULES.per_network),
            (|one, other| one.balancer == other.balancer, RULES.per_balancer),
            (|_, _| true, RULES.flows),
        ];
        for (same, limit) in limits {
            let counted: Vec<&Known> = self.flows.iter().filter(|flow| same(&flow.key, key)).collect();
            if counted.len() < limit {
                continue;
            }
            let any_young = counted.iter().any(|flow| !flow.established);
            let may_go = |flow: &&&Known| match any_young {
                true => !flow.established,
                false => now - flow.last >= RULES.protected,
            };
            let class: Vec<_> = counted.iter().filter(may_go).collect();
            let oldest = class.iter().map(|flow| flow.last).min().ok_or(Full)?;
            return Ok(class.iter().filter(|flow| flow.last == oldest).map(|flow| flow.key).collect());
        }
        Ok(Vec::new())
    }

    fn remove(&mut self, key: &FlowKey) {
        self.flows.retain(|flow| flow.key != *key);
    }

    fn expired(&self, now: Instant) -> Vec<FlowKey> {
        self.flows.iter().filter(|flow| now - flow.last >= RULES.idle).map(|flow| flow.key).collect()
    }
}

/// Small limits, each of which can be reached alone.
pub(crate) const RULES: Rules = Rules {
    idle: Duration::from_secs(60),
    protected: Duration::from_secs(15),
    flows: 6,
    per_balancer: 4,
    per_network: 2,
};
