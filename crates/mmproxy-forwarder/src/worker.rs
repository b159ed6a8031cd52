//! One listener at work: the state that its sessions use, which no other thread touches.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use slab::Slab;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::addr::{ClaimedSource, PeerAddr, SpoofSource};
use crate::error::{AdmissionRefused, SessionError};
use crate::gateway::Shared;
use crate::live::{Order, Orders};
use crate::netns::TargetNamespace;
use crate::observer::{OwnAddressesStale, PipesScarce};
use crate::own::{OwnAddresses, OwnCache};
use crate::places::Places;
use crate::tcp::pipe::{Pipes, Scarcity};
use crate::tcp::traffic::{Totals, Traffic};
use crate::tick::{Beat, Ticker};
#[cfg(test)]
use crate::{
    addr::Targets, allowlist::AllowList, config::GatewayConfig, gateway::Gateway, observer::Unobserved,
};

/// What the sessions of one listener share.
///
/// Its locks are for embedders whose runtime moves tasks between threads. Where the listener has a thread of its own
/// nobody else ever asks for them.
pub(crate) struct Worker {
    pub(crate) gateway: Arc<Shared>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    pub(crate) pipes: Arc<Pipes>,
    pub(crate) totals: Totals,
    ticker: Arc<Ticker>,
    own: OwnCache,
    /// Where listeners have a limit: shared with the workers that have the same one.
    places: Option<Arc<Places>>,
    sessions: Mutex<Slab<Task>>,
    orders: Orders,
    /// Hears of the last session.
    empty: Notify,
}

impl Worker {
    pub(crate) fn new(gateway: Arc<Shared>, address: SocketAddr) -> Arc<Self> {
        let own = gateway.own.fork();
        let told = Arc::clone(&gateway);
        let pipes = Pipes::new(gateway.config.relay, move |Scarcity { error, wanted, got }| {
            if let Some(held_back) = told.scarce_admitted() {
                told.observer.pipes_scarce(&PipesScarce { listener: address, error, wanted, got, held_back });
            }
        });
        let places = gateway.gate.listener(address);
        Arc::new(Self {
            gateway,
            address,
            pipes,
            totals: Totals::default(),
            ticker: Ticker::new(),
            own,
            places,
            sessions: Mutex::default(),
            orders: Orders::default(),
            empty: Notify::new(),
        })
    }

    /// Starts a session; it counts as one until its [`Seat`] is dropped.
    pub(crate) fn spawn<F>(self: &Arc<Self>, session: impl FnOnce(Seat) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let key = self.lock().insert(Task::default());
        // Small, because every session has one; there are not as many descriptors as it has values.
        let number = u32::try_from(key).expect("fewer sessions than descriptors");
        let seat = Seat::new(Arc::clone(self), number);
        let task = tokio::spawn(session(seat)).abort_handle();
        // On a runtime with several threads it may have ended already. Its key is not another session's: only this
        // method, called by one task, gives keys.
        if let Some(session) = self.lock().get_mut(key) {
            session.handle = Some(task);
        }
    }

    /// Sessions that live.
    pub(crate) fn sessions(&self) -> usize {
        self.lock().len()
    }

    /// Ends every session, at its next turn.
    pub(crate) fn cut(&self) {
        self.lock().iter().filter_map(|(_, task)| task.handle.as_ref()).for_each(AbortHandle::abort);
    }

    /// Gives `order` to sessions that live, to `at_most` of them.
    pub(crate) fn order(&self, order: &Order, at_most: usize) {
        let sessions = self.lock();
        for (key, task) in sessions.iter().take(at_most) {
            // The same number as in `spawn`.
            let Ok(number) = u32::try_from(key) else { continue };
            self.orders.give(number, order.clone());
            // One that was never polled will look by itself.
            if let Some(waker) = &task.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Returns when no session lives.
    pub(crate) async fn emptied(&self) {
        while self.sessions() > 0 {
            self.empty.notified().await;
        }
    }

    /// Decides on an announced client. It must be on no list of those who are denied, and neither this host's addresses
    /// nor those of the target's namespace, where that is another one, may be spoofed.
    pub(crate) fn authorise(&self, claimed: ClaimedSource) -> Result<SpoofSource, SessionError> {
        let config = &self.gateway.config;
        self.gateway.tables.check(claimed.ip())?;
        let source = config.sources.authorise(claimed, &self.current(self.own.at(Instant::now())))?;
        let elsewhere = config.dial.namespace.as_ref().map(TargetNamespace::present).transpose()?;
        if let Some(own) = elsewhere.and_then(|namespace| namespace.own_addresses()) {
            config.sources.authorise(claimed, &self.current(own))?;
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

    fn lock(&self) -> MutexGuard<'_, Slab<Task>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.gateway.left(&self.totals);
    }
}

/// What a worker holds of a session's task.
#[derive(Default)]
struct Task {
    /// Ends it.
    handle: Option<AbortHandle>,
    /// Gives it a turn.
    waker: Option<Waker>,
}

/// A session's tie to its worker, and its place below the limits once it has one.
pub(crate) struct Seat {
    pub(crate) worker: Arc<Worker>,
    key: u32,
    /// It has a place, which [`leave`](Self::leave) gives back.
    admitted: bool,
    /// It counts below the limits on clients, too.
    counted: bool,
    half_closed: AtomicBool,
    /// What its session has delivered.
    pub(crate) traffic: Traffic,
}

impl Seat {
    fn new(worker: Arc<Worker>, key: u32) -> Self {
        let traffic = Traffic::new(tokio::time::Instant::now());
        Self { worker, key, admitted: false, counted: false, half_closed: AtomicBool::new(false), traffic }
    }

    /// A beat of its worker's.
    pub(crate) fn beat(&self) -> Beat<'_> {
        Beat::new(&self.worker.ticker, self.key)
    }

    /// One side has ended, and the other was told.
    pub(crate) fn half_closed(&self) -> bool {
        self.half_closed.load(Ordering::Relaxed)
    }

    /// One side has ended; whether that is news.
    pub(crate) fn note_half_closed(&self) -> bool {
        // One writer.
        let news = !self.half_closed();
        self.half_closed.store(true, Ordering::Relaxed);
        news
    }

    /// Lets the worker give this task a turn.
    pub(crate) async fn enrol(&self) {
        let waker = std::future::poll_fn(|cx| std::task::Poll::Ready(cx.waker().clone())).await;
        if let Some(task) = self.worker.lock().get_mut(self.key as usize) {
            task.waker = Some(waker);
        }
    }

    /// Takes what this session was asked.
    pub(crate) fn orders(&self) -> Vec<Order> {
        self.worker.orders.take(self.key)
    }

    /// Whether `peer` may speak PROXY, and whether there is room: asked before one byte of it is read.
    pub(crate) fn admit(&mut self, peer: PeerAddr) -> Result<(), AdmissionRefused> {
        let gateway = &self.worker.gateway;
        if !gateway.tables.allow(peer.ip()) {
            return Err(AdmissionRefused::NotAllowed(peer));
        }
        gateway.gate.enter(peer, self.worker.places.as_deref())?;
        self.admitted = true;
        Ok(())
    }

    /// Whether the session may be that of the client it announces, and whether there is room for that one.
    pub(crate) fn authorise(&mut self, claimed: ClaimedSource) -> Result<SpoofSource, SessionError> {
        let source = self.worker.authorise(claimed)?;
        self.worker.gateway.gate.enter_client(claimed.ip())?;
        self.counted = true;
        Ok(source)
    }

    /// Gives back what the session took below the limits. It knows `peer` and `client`, so they are not kept here.
    pub(crate) fn leave(&mut self, peer: PeerAddr, client: Option<ClaimedSource>) {
        let gate = &self.worker.gateway.gate;
        if let (Some(client), true) = (client, std::mem::take(&mut self.counted)) {
            gate.leave_client(client.ip());
        }
        if std::mem::take(&mut self.admitted) {
            gate.leave(peer, self.worker.places.as_deref());
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.beat().forget();
        let mut sessions = self.worker.lock();
        let task = sessions.remove(self.key as usize);
        let is_empty = sessions.is_empty();
        if is_empty {
            // The memory of a crowd is not kept for those who come later.
            *sessions = Slab::new();
        }
        // Below the lock: whoever gives orders to sessions that live holds it.
        drop(self.orders());
        drop(sessions);
        drop(task);
        if is_empty {
            self.worker.empty.notify_one();
        }
    }
}

#[cfg(test)]
impl Seat {
    /// The only one of a worker of its own.
    pub(crate) fn alone() -> Self {
        let targets = Targets::new(Some("127.0.0.1:22".parse().expect("valid")), None).expect("valid");
        let gateway = Gateway::new(GatewayConfig::new(AllowList::new(), targets), Unobserved).expect("valid");
        let worker = Worker::new(gateway.shared(), ([127, 0, 0, 1], 2222).into());
        worker.lock().insert(Task::default());
        Self::new(worker, 0)
    }
}
