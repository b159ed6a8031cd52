//! Which client and target talk through a socket already.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Pairs of a bound client address and a target, each of one flow. A clone is the same set.
///
/// The kernel takes two connected UDP sockets of one pair, and gives all replies to one of them. So nobody but this set
/// keeps a client whom two balancers announce, or one balancer at two destinations, from getting the other's replies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoints {
    taken: Arc<Mutex<HashSet<Pair>>>,
}

type Pair = (SocketAddr, SocketAddr);

/// A pair's place in the set, which it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    endpoints: Endpoints,
    pair: Pair,
}

impl Endpoints {
    /// The pair of `bound` and `target` for one flow alone; `None` if another one has it.
    pub(crate) fn claim(&self, bound: SocketAddr, target: SocketAddr) -> Option<Claim> {
        let pair = (bound, target);
        self.lock().insert(pair).then(|| Claim { endpoints: self.clone(), pair })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Pair>> {
        // Whole after a panic too: each holder does one thing to it.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.endpoints.lock().remove(&self.pair);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_one_flows_until_its_claim_is_dropped() {
        let endpoints = Endpoints::default();
        let (client, target) = ("192.0.2.7:4711".parse().unwrap(), "127.0.0.1:53".parse().unwrap());
        let claim = endpoints.claim(client, target).expect("nobody has it");
        assert!(endpoints.claim(client, target).is_none());
        assert!(endpoints.claim(client, "127.0.0.1:54".parse().unwrap()).is_some());
        drop(claim);
        assert!(endpoints.claim(client, target).is_some());
    }
}
