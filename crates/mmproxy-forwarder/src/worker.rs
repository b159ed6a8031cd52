//! One listener at work: the state that its sessions use, which no other thread touches.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ipnet::IpNet;
use slab::Slab;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::addr::{ClaimedSource, PeerAddr, SpoofSource};
use crate::error::{AdmissionRefused, SessionError};
use crate::gateway::Shared;
use crate::limits::ClientLimitReached;
use crate::observer::OwnAddressesStale;
use crate::own::{OwnAddresses, OwnCache};
use crate::places::Places;
use crate::tcp::pipe::Pipes;

/// What the sessions of one listener share.
///
/// Its locks are for embedders whose runtime moves tasks between threads. Where the listener has a thread of its own
/// nobody else ever asks for them.
pub(crate) struct Worker {
    pub(crate) gateway: Arc<Shared>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    pub(crate) pipes: Arc<Pipes>,
    own: OwnCache,
    /// Where listeners have a limit: shared with the workers that have the same one.
    places: Option<Arc<Places>>,
    sessions: Mutex<Slab<Entry>>,
    /// Hears of the last session.
    empty: Notify,
}

impl Worker {
    pub(crate) fn new(gateway: Arc<Shared>, address: SocketAddr) -> Arc<Self> {
        let own = gateway.own.fork();
        let pipes = Pipes::new(gateway.config.relay);
        let places = gateway.gate.listener(address);
        Arc::new(Self {
            gateway,
            address,
            pipes,
            own,
            places,
            sessions: Mutex::default(),
            empty: Notify::new(),
        })
    }

    /// Starts a session; it counts as one until its [`Seat`] is dropped.
    pub(crate) fn spawn<F>(self: &Arc<Self>, session: impl FnOnce(Seat) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let key = self.lock().insert(Entry::default());
        // Small, because every session has one; there are not as many descriptors as it has values.
        let number = u32::try_from(key).expect("fewer sessions than descriptors");
        let seat = Seat { worker: Arc::clone(self), key: number, admitted: false };
        let task = tokio::spawn(session(seat)).abort_handle();
        // On a runtime with several threads it may have ended already. Its key is not another session's: only this
        // method, called by one task, gives keys.
        if let Some(entry) = self.lock().get_mut(key) {
            if entry.is_denied {
                task.abort();
            }
            entry.task = Some(task);
        }
    }

    /// Sessions that live.
    pub(crate) fn sessions(&self) -> usize {
        self.lock().len()
    }

    /// Ends every session, at its next turn.
    pub(crate) fn cut(&self) {
        self.lock().iter().filter_map(|(_, entry)| entry.task.as_ref()).for_each(AbortHandle::abort);
    }

    /// Ends the sessions of clients in `network`, at their next turn; how many.
    pub(crate) fn close_clients(&self, network: IpNet) -> usize {
        let mut sessions = self.lock();
        let theirs = sessions
            .iter_mut()
            .map(|(_, entry)| entry)
            .filter(|entry| !entry.is_denied && entry.client.is_some_and(|client| network.contains(&client)));
        theirs.map(Entry::deny).count()
    }

    /// Returns when no session lives.
    pub(crate) async fn emptied(&self) {
        while self.sessions() > 0 {
            self.empty.notified().await;
        }
    }

    /// Decides on an announced client. It must be on no list of those who are denied, and neither this host's addresses nor those of the target's namespace, where that
    /// is another one, may be spoofed.
    pub(crate) fn authorise(&self, claimed: ClaimedSource) -> Result<SpoofSource, SessionError> {
        let config = &self.gateway.config;
        self.gateway.tables.check(claimed.ip())?;
        let source = config.sources.authorise(claimed, &self.current(self.own.at(Instant::now())))?;
        if let Some(target) = &config.dial.namespace {
            let namespace = target.present()?;
            config.sources.authorise(claimed, &self.current(namespace.own_addresses()))?;
        }
        Ok(source)
    }

    /// The addresses a cache answered with, recent enough to refuse them as clients; a failure is told.
    fn current(&self, (own, failed): (Arc<OwnAddresses>, Option<io::Error>)) -> Arc<OwnAddresses> {
        if let Some(error) = failed
            && let Some(held_back) = self.gateway.stale_admitted()
        {
            self.gateway.observer.own_addresses_stale(&OwnAddressesStale { error: &error, held_back });
        }
        own
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Entry>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

/// What a worker knows of a session.
#[derive(Default)]
struct Entry {
    task: Option<AbortHandle>,
    /// The balancer, once admitted, where balancers have a limit; small, because most gateways have none.
    balancer: Option<Box<PeerAddr>>,
    /// The client, once announced.
    client: Option<IpAddr>,
    /// It counts below the limits on clients.
    is_counted: bool,
    /// It is ended because its client is.
    is_denied: bool,
}

impl Entry {
    fn deny(&mut self) {
        self.is_denied = true;
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A session's tie to its worker, and its place below the limits once it has one.
pub(crate) struct Seat {
    pub(crate) worker: Arc<Worker>,
    key: u32,
    admitted: bool,
}

impl Seat {
    /// Whether `peer` may speak PROXY, and whether there is room: asked once, before one byte of it is read.
    pub(crate) fn admit(&mut self, peer: PeerAddr) -> Result<(), AdmissionRefused> {
        let gateway = &self.worker.gateway;
        if !gateway.tables.allow(peer.ip()) {
            return Err(AdmissionRefused::NotAllowed(peer));
        }
        gateway.gate.enter(peer, self.worker.places.as_deref())?;
        self.admitted = true;
        if gateway.gate.counts_balancers() {
            self.entry(|entry| entry.balancer = Some(Box::new(peer)));
        }
        Ok(())
    }

    /// Whether the session may be that of the client it announces.
    pub(crate) fn authorise(&self, claimed: ClaimedSource) -> Result<SpoofSource, SessionError> {
        // Known before it is decided on: whoever denies this client from here on finds the session.
        self.entry(|entry| entry.client = Some(claimed.ip()));
        let source = self.worker.authorise(claimed)?;
        self.count(claimed.ip())?;
        Ok(source)
    }

    /// Whether it was ended because its client is denied.
    pub(crate) fn is_denied(&self) -> bool {
        self.entry(|entry| entry.is_denied)
    }

    fn count(&self, client: IpAddr) -> Result<(), ClientLimitReached> {
        self.worker.gateway.gate.enter_client(client)?;
        self.entry(|entry| entry.is_counted = true);
        Ok(())
    }

    fn entry<T>(&self, look: impl FnOnce(&mut Entry) -> T) -> T {
        look(&mut self.worker.lock()[self.key as usize])
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut sessions = self.worker.lock();
        let entry = sessions.remove(self.key as usize);
        let is_empty = sessions.is_empty();
        if is_empty {
            // The memory of a crowd is not kept for those who come later.
            *sessions = Slab::new();
        }
        drop(sessions);
        let gate = &self.worker.gateway.gate;
        if let (Some(client), true) = (entry.client, entry.is_counted) {
            gate.leave_client(client);
        }
        if self.admitted {
            gate.leave(entry.balancer.map(|peer| *peer), self.worker.places.as_deref());
        }
        if is_empty {
            self.worker.empty.notify_one();
        }
    }
}
