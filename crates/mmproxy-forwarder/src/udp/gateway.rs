//! The UDP gateway: serves listeners, ends in order.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use crate::allowlist::AllowList;
use crate::clients::ClientLists;
use crate::config::GatewayConfig;
use crate::deny::DenyChange;
use crate::error::ServeError;
use crate::gateway::{Drained, Gateway, Phase, Shared, Shutdown};
use crate::live::{Ending, LiveSession, Order, Which};
use crate::observer::Observer;
use crate::report::SessionId;
use crate::udp::drops::{Counters, UdpCounts};
use crate::udp::endpoints::Endpoints;
use crate::udp::listen::{Bell, UdpListener};
use crate::udp::options::UdpOptions;
use crate::udp::worker::{Orders, Worker};

/// Takes datagrams with a PROXY or Simple Proxy Protocol header and hands each to a target from its client's address.
///
/// Datagrams of one client, through one balancer and to one destination, are a *flow* with a socket of its own, which
/// the target's replies come back to; they go to the address that the balancer sent from last. A clone is the same
/// gateway: counters and flow numbers are shared.
#[derive(Clone, Debug)]
pub struct UdpGateway {
    shared: Arc<UdpShared>,
}

impl UdpGateway {
    /// A gateway that is ready to serve; asks for this host's own addresses.
    ///
    /// Of `config`, the limits on sessions and headers of connections mean nothing here.
    ///
    /// # Errors
    ///
    /// [`ServeError::OwnAddresses`] when they are not to be had.
    pub fn new(
        config: GatewayConfig,
        options: UdpOptions,
        observer: impl Observer,
    ) -> Result<Self, ServeError> {
        Ok(Self::of(Gateway::new(config, observer)?, options))
    }

    /// The same with what `gateway` was told, which serves nothing itself then. Flows have numbers of the same series as
    /// the sessions of all gateways [beside](Gateway::beside) it, so that a number names one or the other.
    pub fn of(gateway: Gateway, options: UdpOptions) -> Self {
        let shared = UdpShared {
            gateway: gateway.into_shared(),
            options,
            counters: Counters::new(),
            endpoints: Endpoints::default(),
            serving: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Serves `listener` on a thread of its own until `shutdown` says to stop; then flows fall silent or meet the drain
    /// deadline.
    ///
    /// A flow that was silent for a second then is finished. A panic, which is a bug of this crate or of the observer,
    /// costs the flows of that thread, and nothing else. Dropping the future stops at once. Several listeners: one
    /// call each, on clones; every one of [`UdpListener::bind`] has to be served.
    ///
    /// # Errors
    ///
    /// [`ServeError::Listener`] when the socket itself breaks, which no sender can do; [`ServeError::Register`] when it
    /// cannot be watched.
    pub async fn serve(&self, listener: UdpListener, shutdown: &Shutdown) -> Result<Drained, ServeError> {
        let address = listener.local_addr();
        let register = |error| ServeError::Register { listener: address, error };
        let orders = Arc::new(Orders::default());
        let control = Control { orders: Arc::clone(&orders), bell: listener.bell() };
        self.shared
            .serving
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((Arc::downgrade(&orders), listener.bell()));
        let (ended, mut end) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        thread::Builder::new()
            .name("udp".to_owned())
            .spawn(move || {
                // Nobody waits who has dropped the future.
                drop(ended.send(work(listener, &shared, &orders)));
            })
            .map_err(register)?;
        let served = tokio::select! {
            biased;
            served = &mut end => served,
            () = shutdown.reached(Phase::Drain) => {
                control.drain();
                tokio::select! {
                    biased;
                    served = &mut end => served,
                    () = shutdown.reached(Phase::Cut) => {
                        control.cut();
                        end.await
                    }
                }
            }
        };
        served.unwrap_or_else(|_| {
            let error = io::Error::other("its thread is gone");
            Err(ServeError::Listener { listener: address, error })
        })
    }

    /// From now on datagrams are taken from `allowed` alone.
    pub fn replace_allowed(&self, allowed: AllowList) {
        self.shared.gateway.tables.replace_allowed(allowed);
    }

    /// From now on datagrams of the clients that pass `clients` alone are forwarded; flows of others end.
    pub fn replace_clients(&self, clients: ClientLists) {
        self.shared.gateway.tables.replace_clients(clients);
        self.wake(|_| ());
    }

    /// Follows the deny list. Flows of clients that are denied now end, whether a change asks for it or not: a flow is no
    /// connection, so what its client sends next is as new as anybody's.
    pub fn deny(&self, changes: &[DenyChange]) {
        self.shared.gateway.tables.deny(changes);
        self.wake(|_| ());
    }

    /// Flows that live, `at_most` so many of each listener, in no order.
    pub async fn flows(&self, at_most: usize) -> Vec<LiveSession> {
        let (tell, mut told) = mpsc::unbounded_channel();
        self.ask(&Order::Tell(tell), at_most);
        let mut flows = Vec::new();
        while let Some(flow) = told.recv().await {
            flows.push(flow);
        }
        flows
    }

    /// Closes the flows that are meant, and returns which they were.
    pub async fn close_flows(&self, which: Which) -> Vec<SessionId> {
        let (tell, mut told) = mpsc::unbounded_channel();
        self.ask(&Order::End(which, Ending::Killed, tell), usize::MAX);
        let mut closed = Vec::new();
        while let Some(id) = told.recv().await {
            closed.push(id);
        }
        closed
    }

    fn ask(&self, order: &Order, at_most: usize) {
        self.wake(|orders| orders.ask(order.clone(), at_most));
    }

    /// Tells each worker, and gives it a turn.
    fn wake(&self, tell: impl Fn(&Orders)) {
        let mut serving = self.shared.serving.lock().unwrap_or_else(PoisonError::into_inner);
        // A worker that ends while it is asked drops the orders with its end of the channel.
        serving.retain(|(orders, bell)| match orders.upgrade() {
            Some(orders) => {
                tell(&orders);
                bell.ring();
                true
            }
            None => false,
        });
    }

    /// What was counted so far.
    pub fn counts(&self) -> UdpCounts {
        self.shared.counters.snapshot()
    }
}

/// What the thread of one listener does.
fn work(mut listener: UdpListener, shared: &UdpShared, orders: &Orders) -> Result<Drained, ServeError> {
    let address = listener.local_addr();
    let ring = listener.take_ring();
    let mut worker = Worker::new(&listener, ring, shared)
        .map_err(|error| ServeError::Register { listener: address, error })?;
    loop {
        // What the panic left half done is thrown away by `begin_anew`.
        match panic::catch_unwind(AssertUnwindSafe(|| worker.run(orders))) {
            Ok(served) => return served.map_err(|error| ServeError::Listener { listener: address, error }),
            Err(_) => worker.begin_anew(),
        }
    }
}

/// Ends a worker; dropped, it ends it at once.
struct Control {
    orders: Arc<Orders>,
    bell: Bell,
}

impl Control {
    fn drain(&self) {
        self.orders.drain();
        self.bell.ring();
    }

    fn cut(&self) {
        self.orders.cut();
        self.bell.ring();
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.cut();
    }
}

/// What all workers of a gateway use.
#[derive(Debug)]
pub(crate) struct UdpShared {
    pub(crate) gateway: Arc<Shared>,
    pub(crate) options: UdpOptions,
    pub(crate) counters: Counters,
    pub(crate) endpoints: Endpoints,
    /// To ask the workers.
    serving: Mutex<Vec<(Weak<Orders>, Bell)>>,
}

impl UdpShared {
    pub(crate) fn next_id(&self) -> SessionId {
        self.gateway.gate.all.next_id()
    }
}
