//! The gateway: serves listeners, ends in order.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::allowlist::AllowList;
use crate::clients::ClientLists;
use crate::config::GatewayConfig;
use crate::deny::DenyChange;
use crate::error::ServeError;
use crate::limits::gate::Gate;
use crate::live::{Ending, LiveSession, Order, Which};
use crate::networks::normalised;
use crate::observer::Observer;
use crate::own::OwnCache;
use crate::places::Places;
use crate::rate::RateLimited;
use crate::report::SessionId;
use crate::session;
use crate::tables::Tables;
use crate::tcp::accept::Acceptor;
use crate::tcp::listen::Listener;
use crate::tcp::traffic::{Totals, TrafficTotals};
use crate::worker::Worker;

/// Takes connections with a PROXY header and hands each to a target from its client's address.
///
/// A clone is the same gateway: limits and session numbers are shared.
#[derive(Clone, Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
}

impl Gateway {
    /// A gateway that is ready to serve; asks for this host's own addresses.
    ///
    /// # Errors
    ///
    /// [`ServeError::OwnAddresses`] when they are not to be had.
    pub fn new(config: GatewayConfig, observer: impl Observer) -> Result<Self, ServeError> {
        let all = Arc::new(Places::new(config.limits.total()));
        Self::with(config, observer, all)
    }

    /// Another gateway that shares the limit on all sessions, and their numbers, with this one: another service of the
    /// same process.
    ///
    /// `config`'s own limit on all sessions says nothing then; its other limits hold for the sessions of this gateway.
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    pub fn beside(&self, config: GatewayConfig, observer: impl Observer) -> Result<Self, ServeError> {
        Self::with(config, observer, Arc::clone(&self.shared.gate.all))
    }

    fn with(
        mut config: GatewayConfig,
        observer: impl Observer,
        all: Arc<Places>,
    ) -> Result<Self, ServeError> {
        let own = OwnCache::new(Arc::clone(&config.own_addresses), Instant::now())
            .map_err(ServeError::OwnAddresses)?;
        let shared = Shared {
            observer: Arc::new(observer),
            own,
            stale: Mutex::new(RateLimited::per_minute()),
            scarce: Mutex::new(RateLimited::per_minute()),
            gate: Gate::new(config.limits, all),
            tables: Tables::new(std::mem::take(&mut config.allowed), std::mem::take(&mut config.clients)),
            workers: Mutex::default(),
            config,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What a gateway of another protocol uses of it.
    pub(crate) fn into_shared(self) -> Arc<Shared> {
        self.shared
    }

    /// From now on connections are taken from `allowed` alone. Sessions that live go on.
    pub fn replace_allowed(&self, allowed: AllowList) {
        self.shared.tables.replace_allowed(allowed);
    }

    /// From now on sessions are begun for the clients that pass `clients` alone. Sessions that live go on; see
    /// [`close_sessions`](Self::close_sessions).
    pub fn replace_clients(&self, clients: ClientLists) {
        self.shared.tables.replace_clients(clients);
    }

    /// Follows the deny list, whose clients are refused beside those that [`ClientLists`] refuse, from now on. Sessions that
    /// live go on, except where a change asks for their end: both sides are reset, with [`CloseReason::ClientDenied`]. The
    /// future tells which they were; nothing waits for it.
    ///
    /// The client of such a change has no session left afterwards: one that is about to begin is either found here or
    /// refused.
    ///
    /// [`CloseReason::ClientDenied`]: crate::CloseReason::ClientDenied
    pub fn deny(&self, changes: &[DenyChange]) -> impl Future<Output = Vec<SessionId>> + Send + use<> {
        self.shared.tables.deny(changes);
        let (tell, told) = mpsc::unbounded_channel();
        for change in changes {
            if let DenyChange::Add { network, close: true, .. } = change {
                let which = Which::Clients(normalised(*network));
                self.shared.order(&Order::End(which, Ending::Denied, tell.clone()), usize::MAX);
            }
        }
        all(told)
    }

    /// Serves `listener` until `shutdown` says to stop; then sessions finish or meet the drain deadline.
    ///
    /// Each session is a task of its own on the current runtime: its panic ends that session only. Returns when
    /// the last session has been reported. Dropping the future stops at once: sessions are reset, and reported as
    /// long as the runtime lives.
    ///
    /// Several listeners, also of one address ([`Listener::share`]): one call each, on clones. What sessions use while
    /// they live belongs to the call, so calls on different threads do not wait for each other.
    ///
    /// # Errors
    ///
    /// [`ServeError::Listener`] when the listening socket itself breaks, which no peer can do;
    /// [`ServeError::Register`] when the runtime cannot watch it.
    pub async fn serve(&self, listener: Listener, shutdown: &Shutdown) -> Result<Drained, ServeError> {
        let address = listener.local_addr();
        let acceptor = Acceptor::new(listener, (&self.shared.config.dial).into())
            .map_err(|error| ServeError::Register { listener: address, error })?;
        let worker = Serving(Worker::new(Arc::clone(&self.shared), address));
        self.shared.workers().serving.push(Arc::downgrade(&worker.0));
        let served = tokio::select! {
            biased;
            () = shutdown.reached(Phase::Drain) => Ok(()),
            error = worker.accept_forever(acceptor) => {
                Err(ServeError::Listener { listener: address, error })
            }
        };
        self.shared.observer.accept_stopped(address, worker.0.sessions());
        let drained = worker.drain(shutdown).await;
        served.map(|()| drained)
    }

    /// Sessions that live, `at_most` so many of each call of [`serve`](Self::serve), in no order.
    ///
    /// Each of them is given a turn to tell of itself, on its own thread; nothing is kept for it while nobody asks.
    pub async fn sessions(&self, at_most: usize) -> Vec<LiveSession> {
        let (tell, told) = mpsc::unbounded_channel();
        self.shared.order(&Order::Tell(tell), at_most);
        all(told).await
    }

    /// Closes the sessions that are meant, and returns which they were. Both sides are reset.
    pub async fn close_sessions(&self, which: Which) -> Vec<SessionId> {
        let (tell, told) = mpsc::unbounded_channel();
        self.shared.order(&Order::End(which, Ending::Killed, tell), usize::MAX);
        all(told).await
    }

    /// Bytes moved so far, of sessions that ended and of those that live.
    pub fn traffic(&self) -> TrafficTotals {
        self.shared.traffic()
    }
}

/// Everything that is told. Whoever ends without an answer drops its end of the channel.
async fn all<T>(mut told: mpsc::UnboundedReceiver<T>) -> Vec<T> {
    let mut all = Vec::new();
    while let Some(one) = told.recv().await {
        all.push(one);
    }
    all
}

#[cfg(test)]
impl Gateway {
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

/// A worker whose sessions end with it.
struct Serving(Arc<Worker>);

impl Serving {
    async fn accept_forever(&self, mut acceptor: Acceptor) -> io::Error {
        let observer = &*self.0.gateway.observer;
        loop {
            match acceptor.accept(observer).await {
                Ok(accepted) => self.0.spawn(|seat| session::run(seat, accepted)),
                Err(error) => return error,
            }
        }
    }

    async fn drain(&self, shutdown: &Shutdown) -> Drained {
        let open = self.0.sessions();
        tokio::select! {
            biased;
            () = self.0.emptied() => {}
            () = shutdown.reached(Phase::Cut) => {}
            () = sleep(self.0.gateway.config.drain) => {}
        }
        let left = self.0.sessions();
        self.0.cut();
        self.0.emptied().await;
        Drained { finished: open.saturating_sub(left), cut: left }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.cut();
    }
}

/// What became of the sessions that lived when the gateway was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Ended by themselves before the deadline.
    pub finished: usize,
    /// Were reset at the deadline.
    pub cut: usize,
}

/// Tells every [`Gateway::serve`] it was given to that it is time to stop. A clone is the same switch.
#[derive(Clone, Debug)]
pub struct Shutdown {
    phase: Arc<watch::Sender<Phase>>,
}

impl Shutdown {
    /// A switch that nobody has touched.
    pub fn new() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Serve)) }
    }

    /// Stop accepting; sessions may finish until the drain deadline.
    pub fn drain(&self) {
        self.advance(Phase::Drain);
    }

    /// Stop accepting and reset the sessions that are left, now.
    pub fn cut(&self) {
        self.advance(Phase::Cut);
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = *phase < to;
            *phase = (*phase).max(to);
            later
        });
    }

    pub(crate) async fn reached(&self, wanted: Phase) {
        // The sender lives in `self`, so the channel cannot close while this waits.
        self.phase.subscribe().wait_for(|phase| *phase >= wanted).await.ok();
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serve,
    Drain,
    Cut,
}

/// What all sessions of a gateway use.
pub(crate) struct Shared {
    pub(crate) config: GatewayConfig,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) gate: Gate,
    pub(crate) tables: Tables,
    /// As of the start; each worker keeps it current for itself.
    pub(crate) own: OwnCache,
    stale: Mutex<RateLimited>,
    scarce: Mutex<RateLimited>,
    workers: Mutex<Workers>,
}

/// The workers of a gateway, to be asked.
#[derive(Default)]
struct Workers {
    serving: Vec<Weak<Worker>>,
    /// What those moved that are gone.
    left: TrafficTotals,
}

impl Shared {
    fn order(&self, order: &Order, at_most: usize) {
        // Not below the lock: a worker that ends takes it.
        let serving: Vec<_> = self.workers().serving.iter().filter_map(Weak::upgrade).collect();
        serving.iter().for_each(|worker| worker.order(order, at_most));
    }

    fn traffic(&self) -> TrafficTotals {
        let (mut traffic, serving) = {
            let workers = self.workers();
            (workers.left, workers.serving.iter().filter_map(Weak::upgrade).collect::<Vec<_>>())
        };
        serving.iter().for_each(|worker| traffic += worker.totals.get());
        traffic
    }

    /// A worker is gone; what its sessions moved stays in the sum.
    pub(crate) fn left(&self, totals: &Totals) {
        let mut workers = self.workers();
        workers.left += totals.get();
        workers.serving.retain(|worker| worker.strong_count() > 0);
    }

    fn workers(&self) -> MutexGuard<'_, Workers> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether stale addresses should be told now, and how often they were not.
    pub(crate) fn stale_admitted(&self) -> Option<u64> {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now())
    }

    /// Whether it should be told now that pipes are scarce, and how often it was not.
    pub(crate) fn scarce_admitted(&self) -> Option<u64> {
        self.scarce.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now())
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::addr::{PeerAddr, Targets};
    use crate::error::AdmissionRefused;
    use crate::limits::SessionLimits;
    use crate::observer::Unobserved;

    #[test]
    fn gateways_beside_each_other_share_the_limit_on_all_sessions_and_no_other() {
        let one = NonZeroUsize::MIN;
        let targets = Targets::new(Some("127.0.0.1:22".parse().unwrap()), None).unwrap();
        let config = |total| {
            let limits = SessionLimits::new(total).per_client(Some(one));
            GatewayConfig::new(AllowList::new(), targets).limits(limits)
        };
        let first = Gateway::new(config(one), Unobserved).unwrap();
        let second = first.beside(config(NonZeroUsize::MAX), Unobserved).unwrap();
        let (first, second) = (&first.shared().gate, &second.shared().gate);
        let (peer, client) = (PeerAddr::new("10.0.0.2:1".parse().unwrap()), "192.0.2.7".parse().unwrap());
        assert_eq!(first.enter(peer, None), Ok(()));
        assert_eq!(second.enter(peer, None), Err(AdmissionRefused::SessionLimit { limit: 1 }));
        assert_eq!((first.enter_client(client), second.enter_client(client)), (Ok(()), Ok(())));
        assert!(first.enter_client(client).is_err());
        first.leave(peer, None);
        assert_eq!(second.enter(peer, None), Ok(()));
    }
}
