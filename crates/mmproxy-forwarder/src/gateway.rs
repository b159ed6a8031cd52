//! The gateway: serves listeners, ends in order.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;

use crate::addr::{ClaimedSource, PeerAddr, SpoofSource};
use crate::config::GatewayConfig;
use crate::error::{AdmissionRefused, ServeError, SessionError};
use crate::observer::{Observer, OwnAddressesStale};
use crate::own::{OwnAddresses, OwnCache};
use crate::rate::RateLimited;
use crate::report::SessionId;
use crate::session::{self, Accepted};
use crate::tcp::listen::{Acceptor, Listener};

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
        let own = OwnCache::new(Arc::clone(&config.own_addresses), Instant::now())
            .map_err(ServeError::OwnAddresses)?;
        let places = config.max_sessions.get().min(Semaphore::MAX_PERMITS);
        let shared = Shared {
            observer: Arc::new(observer),
            own,
            stale: Mutex::new(RateLimited::per_minute()),
            places: Arc::new(Semaphore::new(places)),
            sessions: AtomicU64::new(0),
            config,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Serves `listener` until `shutdown` says to stop; then sessions finish or meet the drain deadline.
    ///
    /// Each session is a task of its own on the current runtime: its panic ends that session only. Returns when
    /// the last session has been reported. Dropping the future stops at once: sessions are reset, and reported as
    /// long as the runtime lives.
    ///
    /// Several listeners: one call each, on clones.
    ///
    /// # Errors
    ///
    /// [`ServeError::Listener`] when the listening socket itself breaks, which no peer can do;
    /// [`ServeError::Register`] when the runtime cannot watch it.
    pub async fn serve(&self, listener: Listener, shutdown: &Shutdown) -> Result<Drained, ServeError> {
        let address = listener.local_addr();
        let acceptor =
            Acceptor::new(listener).map_err(|error| ServeError::Register { listener: address, error })?;
        // Every session holds a receiver: the sender tells them to end and knows when the last one is gone.
        let (cut, _) = watch::channel(false);
        let served = tokio::select! {
            biased;
            () = shutdown.reached(Phase::Drain) => Ok(()),
            error = self.accept_forever(acceptor, &cut) => {
                Err(ServeError::Listener { listener: address, error })
            }
        };
        self.shared.observer.accept_stopped(address, cut.receiver_count());
        let drained = self.drain(shutdown, &cut).await;
        served.map(|()| drained)
    }

    async fn accept_forever(&self, mut acceptor: Acceptor, cut: &watch::Sender<bool>) -> io::Error {
        loop {
            match acceptor.accept(&*self.shared.observer).await {
                Ok((stream, peer)) => {
                    let listener = acceptor.reached_by(&stream);
                    let accepted = Accepted { stream, peer, listener, at: tokio::time::Instant::now() };
                    tokio::spawn(session::run(Arc::clone(&self.shared), accepted, cut.subscribe()));
                }
                Err(error) => return error,
            }
        }
    }

    async fn drain(&self, shutdown: &Shutdown, cut: &watch::Sender<bool>) -> Drained {
        let open = cut.receiver_count();
        tokio::select! {
            biased;
            () = cut.closed() => {}
            () = shutdown.reached(Phase::Cut) => {}
            () = sleep(self.shared.config.drain) => {}
        }
        let left = cut.receiver_count();
        cut.send_replace(true);
        cut.closed().await;
        Drained { finished: open.saturating_sub(left), cut: left }
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

    async fn reached(&self, wanted: Phase) {
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
enum Phase {
    Serve,
    Drain,
    Cut,
}

/// What all sessions of a gateway use.
pub(crate) struct Shared {
    pub(crate) config: GatewayConfig,
    pub(crate) observer: Arc<dyn Observer>,
    own: OwnCache,
    stale: Mutex<RateLimited>,
    places: Arc<Semaphore>,
    sessions: AtomicU64,
}

impl Shared {
    /// Whether `peer` may speak PROXY, and whether there is room: asked before one byte of it is read.
    pub(crate) fn admit(&self, peer: PeerAddr) -> Result<OwnedSemaphorePermit, AdmissionRefused> {
        if !self.config.allowed.contains(peer.ip()) {
            return Err(AdmissionRefused::NotAllowed(peer));
        }
        let limit = self.config.max_sessions.get();
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| AdmissionRefused::SessionLimit { limit })
    }

    /// Decides on an announced client: neither this host's addresses nor those of the target's namespace, where that
    /// is another one, may be spoofed.
    pub(crate) fn authorise(&self, claimed: ClaimedSource) -> Result<SpoofSource, SessionError> {
        let policy = &self.config.sources;
        let source = policy.authorise(claimed, &self.current(self.own.at(Instant::now())))?;
        if let Some(target) = &self.config.dial.namespace {
            let namespace = target.present()?;
            policy.authorise(claimed, &self.current(namespace.own_addresses()))?;
        }
        Ok(source)
    }

    /// The addresses a cache answered with, recent enough to refuse them as clients; a failure is told.
    fn current(&self, (own, failed): (Arc<OwnAddresses>, Option<io::Error>)) -> Arc<OwnAddresses> {
        if let Some(error) = failed {
            let admitted = self.stale.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
            if let Some(held_back) = admitted {
                self.observer.own_addresses_stale(&OwnAddressesStale { error: &error, held_back });
            }
        }
        own
    }

    pub(crate) fn next_id(&self) -> SessionId {
        SessionId(self.sessions.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}
