//! The limits in force: who passes, and what is given back.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::crowd::{Crowd, Refused};
use super::{ClientLimitReached, ClientNetworks, SessionLimits, balancer};
use crate::addr::PeerAddr;
use crate::error::AdmissionRefused;
use crate::places::Places;

/// What all threads of a gateway count sessions with.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Also of the gateways beside it.
    pub(crate) all: Arc<Places>,
    limits: SessionLimits,
    listeners: Mutex<HashMap<SocketAddr, Arc<Places>>>,
    /// `None` where nothing limits them, and nothing has to be counted.
    balancers: Option<Crowd>,
    clients: Option<Crowd>,
    networks: Option<Crowd>,
    start: Instant,
}

impl Gate {
    /// `limits` for sessions that have a place among `all`.
    pub(crate) fn new(limits: SessionLimits, all: Arc<Places>) -> Self {
        let crowd = |limit: Option<std::num::NonZeroUsize>| limit.map(|limit| Crowd::new(limit.get(), None));
        let per_network = limits.per_network.map_or(usize::MAX, std::num::NonZeroUsize::get);
        let networks = (limits.per_network.is_some() || limits.pace.is_some())
            .then(|| Crowd::new(per_network, limits.pace));
        Self {
            all,
            limits,
            listeners: Mutex::default(),
            balancers: crowd(limits.per_balancer),
            clients: crowd(limits.per_client),
            networks,
            start: Instant::now(),
        }
    }

    /// The places of the listener at `address`, the same for all threads that share it; `None` if it may have all.
    pub(crate) fn listener(&self, address: SocketAddr) -> Option<Arc<Places>> {
        let limit = self.limits.per_listener?;
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(listeners.entry(address).or_insert_with(|| Arc::new(Places::new(limit)))))
    }

    /// A connection of `peer` wants to be a session. To be followed by one [`leave`](Self::leave), unless it is refused.
    pub(crate) fn enter(&self, peer: PeerAddr, listener: Option<&Places>) -> Result<(), AdmissionRefused> {
        if let Some(balancers) = &self.balancers
            && balancers.enter(balancer(peer), 0).is_err()
        {
            let limit = self.limits.per_balancer.map_or(0, std::num::NonZeroUsize::get);
            return Err(AdmissionRefused::BalancerLimit { peer, limit });
        }
        if let Some(places) = listener
            && !places.take()
        {
            self.leave_balancer(peer);
            return Err(AdmissionRefused::ListenerLimit { limit: places.limit() });
        }
        if !self.all.take() {
            listener.inspect(|places| places.leave());
            self.leave_balancer(peer);
            return Err(AdmissionRefused::SessionLimit { limit: self.all.limit() });
        }
        Ok(())
    }

    /// Gives back what [`enter`](Self::enter) took.
    pub(crate) fn leave(&self, peer: PeerAddr, listener: Option<&Places>) {
        self.all.leave();
        listener.inspect(|places| places.leave());
        self.leave_balancer(peer);
    }

    /// A session announces the client at `ip`. To be followed by one [`leave_client`](Self::leave_client), unless it is
    /// refused.
    pub(crate) fn enter_client(&self, ip: IpAddr) -> Result<(), ClientLimitReached> {
        let now = self.now();
        if let Some(clients) = &self.clients
            && clients.enter(ClientNetworks::ONE.number(ip), now).is_err()
        {
            let limit = self.limits.per_client.map_or(0, std::num::NonZeroUsize::get);
            return Err(ClientLimitReached::Client { client: ClientNetworks::ONE.of(ip), limit });
        }
        let Some(networks) = &self.networks else { return Ok(()) };
        let Err(refused) = networks.enter(self.limits.networks.number(ip), now) else { return Ok(()) };
        if let Some(clients) = &self.clients {
            clients.leave(ClientNetworks::ONE.number(ip), now);
        }
        let network = self.limits.networks.of(ip);
        Err(match (refused, self.limits.pace) {
            (Refused::TooFast, Some(pace)) => {
                ClientLimitReached::Pace { network, per_second: pace.per_second.get() }
            }
            (Refused::TooFast, None) | (Refused::Full, _) => {
                let limit = self.limits.per_network.map_or(0, std::num::NonZeroUsize::get);
                ClientLimitReached::Network { network, limit }
            }
        })
    }

    /// Gives back what [`enter_client`](Self::enter_client) took.
    pub(crate) fn leave_client(&self, ip: IpAddr) {
        let now = self.now();
        if let Some(clients) = &self.clients {
            clients.leave(ClientNetworks::ONE.number(ip), now);
        }
        if let Some(networks) = &self.networks {
            networks.leave(self.limits.networks.number(ip), now);
        }
    }

    fn leave_balancer(&self, peer: PeerAddr) {
        if let Some(balancers) = &self.balancers {
            balancers.leave(balancer(peer), 0);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;

    fn two() -> Option<NonZeroUsize> {
        NonZeroUsize::new(2)
    }

    fn gate(limits: SessionLimits) -> Gate {
        Gate::new(limits, Arc::new(Places::new(limits.total)))
    }

    fn peer(text: &str) -> PeerAddr {
        PeerAddr::new(text.parse().expect("test address"))
    }

    #[test]
    fn what_one_limit_refuses_takes_no_place_below_another() {
        let limits = SessionLimits { total: two().unwrap(), ..SessionLimits::UNLIMITED };
        let gate = gate(limits.per_listener(NonZeroUsize::new(1)).per_balancer(two()));
        let [one, other] =
            ["127.0.0.1:1", "127.0.0.1:2"].map(|address| gate.listener(address.parse().unwrap()));
        let (a, b) = (peer("10.0.0.1:1"), peer("10.0.0.2:1"));
        let (one, other) = (one.as_deref(), other.as_deref());
        assert_eq!(gate.enter(a, one), Ok(()));
        // The listener's one place is taken; the balancer's second was given back, twice.
        for _ in 0..2 {
            assert_eq!(gate.enter(a, one), Err(AdmissionRefused::ListenerLimit { limit: 1 }));
        }
        assert_eq!(gate.enter(a, other), Ok(()));
        assert_eq!(gate.enter(a, other), Err(AdmissionRefused::BalancerLimit { peer: a, limit: 2 }));
        gate.leave(a, one);
        assert_eq!(gate.enter(b, one), Ok(()));
        gate.leave(a, other);
        gate.leave(b, one);
        let third = gate.listener("127.0.0.1:3".parse().unwrap());
        assert_eq!(gate.enter(a, other), Ok(()));
        assert_eq!(gate.enter(b, one), Ok(()));
        for _ in 0..3 {
            let refused = gate.enter(b, third.as_deref());
            assert_eq!(refused, Err(AdmissionRefused::SessionLimit { limit: 2 }));
        }
        gate.leave(a, other);
        assert_eq!(gate.enter(b, third.as_deref()), Ok(()), "its listener's place was given back each time");
    }

    #[test]
    fn a_client_counts_for_itself_and_for_its_network() {
        let limits = SessionLimits::UNLIMITED.per_client(two()).per_client_network(NonZeroUsize::new(3));
        let gate = gate(limits);
        let ips: [IpAddr; 4] =
            ["192.0.2.1", "192.0.2.2", "192.0.3.1", "192.0.2.3"].map(|ip| ip.parse().unwrap());
        assert_eq!([0, 0, 1].map(|n| gate.enter_client(ips[n])), [Ok(()); 3]);
        let client = ClientNetworks::ONE.of(ips[0]);
        assert_eq!(gate.enter_client(ips[0]), Err(ClientLimitReached::Client { client, limit: 2 }));
        let network = "192.0.2.0/24".parse().unwrap();
        for ip in [ips[1], ips[3], ips[1]] {
            assert_eq!(gate.enter_client(ip), Err(ClientLimitReached::Network { network, limit: 3 }));
        }
        assert_eq!(gate.enter_client(ips[2]), Ok(()));
        gate.leave_client(ips[0]);
        assert_eq!(gate.enter_client(ips[1]), Ok(()), "refusals by its network took none of its own places");
    }

    #[test]
    fn hosts_of_one_64_are_one_client() {
        let gate = gate(SessionLimits::UNLIMITED.per_client(NonZeroUsize::new(1)));
        let [one, other, neighbour] =
            ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"].map(|ip| ip.parse().unwrap());
        assert_eq!(gate.enter_client(one), Ok(()));
        assert!(gate.enter_client(other).is_err());
        assert_eq!(gate.enter_client(neighbour), Ok(()));
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        let gate = gate(SessionLimits::UNLIMITED);
        assert!(gate.balancers.is_none() && gate.clients.is_none() && gate.networks.is_none());
        assert!(gate.listener("127.0.0.1:1".parse().unwrap()).is_none());
    }
}
