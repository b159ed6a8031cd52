//! The gateway: serves listeners, ends in order.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use ipnet::IpNet;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::allowlist::AllowList;
use crate::clients::ClientLists;
use crate::config::GatewayConfig;
use crate::deny::DenyChange;
use crate::error::ServeError;
use crate::limits::gate::Gate;
use crate::networks::normalised;
use crate::observer::Observer;
use crate::own::OwnCache;
use crate::rate::RateLimited;
use crate::session;
use crate::tables::Tables;
use crate::tcp::accept::Acceptor;
use crate::tcp::listen::Listener;
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
    pub fn new(mut config: GatewayConfig, observer: impl Observer) -> Result<Self, ServeError> {
        let own = OwnCache::new(Arc::clone(&config.own_addresses), Instant::now())
            .map_err(ServeError::OwnAddresses)?;
        let shared = Shared {
            observer: Arc::new(observer),
            own,
            stale: Mutex::new(RateLimited::per_minute()),
            gate: Gate::new(config.limits),
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

    /// Follows the deny list, whose clients are refused beside those that [`ClientLists`] refuse. Returns how many sessions
    /// that live are ended: those of a change that asks for it; the others go on.
    pub fn deny(&self, changes: &[DenyChange]) -> usize {
        self.shared.tables.deny(changes);
        let closing = changes.iter().filter_map(|change| match change {
            DenyChange::Add { network, close: true, .. } => Some(*network),
            DenyChange::Add { close: false, .. } | DenyChange::Remove { .. } | DenyChange::Replace(_) => None,
        });
        closing.map(|network| self.close_sessions(network)).sum()
    }

    /// Ends the sessions of clients in `network`, with a reset of both sides and [`CloseReason::ClientDenied`]; how many.
    ///
    /// Whoever is denied first and closed then has no session left afterwards: one that is about to begin is either
    /// found here or refused.
    ///
    /// [`CloseReason::ClientDenied`]: crate::CloseReason::ClientDenied
    pub fn close_sessions(&self, network: IpNet) -> usize {
        let network = normalised(network);
        self.shared.workers().iter().map(|worker| worker.close_clients(network)).sum()
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
        self.shared.register(&worker.0);
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
    /// Of listeners that are served.
    workers: Mutex<Vec<Weak<Worker>>>,
    /// As of the start; each worker keeps it current for itself.
    pub(crate) own: OwnCache,
    stale: Mutex<RateLimited>,
}

impl Shared {
    fn register(&self, worker: &Arc<Worker>) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|worker| worker.strong_count() > 0);
        workers.push(Arc::downgrade(worker));
    }

    fn workers(&self) -> Vec<Arc<Worker>> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether stale addresses should be told now, and how often they were not.
    pub(crate) fn stale_admitted(&self) -> Option<u64> {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now())
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}
