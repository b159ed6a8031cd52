//! What this process can tell of itself, for the admin address and whoever else asks.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use mmproxy_forwarder::{DenyChange, DialOptions, Family, LiveSession, TargetHealth, Targets, Which};
use mmproxy_routing::{Plan, State, observe};
use tokio::sync::mpsc::Receiver;
use tokio::time::{MissedTickBehavior, interval};

use crate::admin::{AdminState, SessionRow};
use crate::control::NamedSession;
use crate::metrics::{Process, Served, Snapshot};
use crate::trace::Step;
use crate::watch::Watch;
use crate::worker::Curious;

/// The services of this process, the process itself, and what others have counted.
pub(crate) struct Eyes {
    services: Vec<Watch>,
    name: String,
    process: Process,
    threads: usize,
    others: Mutex<Snapshot>,
    curious: Curious,
}

/// Whether everything of the return path was there when somebody looked last.
#[derive(Debug, Default)]
pub(crate) struct ReturnPathState(AtomicU8);

impl Eyes {
    /// Of the process that metrics call `name`.
    pub(crate) fn new(
        services: Vec<Watch>,
        name: String,
        threads: usize,
        process: Process,
        curious: Curious,
    ) -> Self {
        Self { services, name, process, threads, others: Mutex::default(), curious }
    }

    /// What this process has counted.
    pub(crate) fn own(&self) -> Snapshot {
        let mut snapshot = Snapshot { threads: self.threads as u64, ..Snapshot::default() };
        for service in &self.services {
            snapshot.services.insert(service.name.to_string(), service.metrics.snapshot());
        }
        snapshot.processes.insert(self.name.clone(), self.process.snapshot());
        snapshot
    }

    /// This is what others have counted, from now on.
    pub(crate) fn note_others(&self, others: Snapshot) {
        *self.others.lock().unwrap_or_else(PoisonError::into_inner) = others;
    }
}

impl Eyes {
    /// Sessions and flows that live, of these clients, about `at_most` so many.
    pub(crate) async fn sessions_of(&self, client: Option<IpNet>, at_most: usize) -> Vec<SessionRow> {
        let mut rows = Vec::new();
        let asked = if client.is_some() { usize::MAX } else { at_most };
        for service in &self.services {
            let live = match service.metrics.served() {
                Some(Served::Tcp(gateway)) => gateway.sessions(asked).await,
                Some(Served::Udp(gateway)) => gateway.flows(asked).await,
                None => Vec::new(),
            };
            let meant = |session: &&LiveSession| {
                client.is_none_or(|client| Which::Clients(client).matches(session.id, session.claimed))
            };
            rows.extend(live.iter().filter(meant).map(|session| SessionRow::of(&service.name, session)));
        }
        rows.sort_by(|one, other| (&one.service, one.id).cmp(&(&other.service, other.id)));
        rows.truncate(at_most);
        rows
    }

    /// Closes sessions and flows, and tells which.
    pub(crate) async fn close(&self, which: Which) -> Vec<u64> {
        let mut closed = Vec::new();
        for service in &self.services {
            closed.extend(match service.metrics.served() {
                Some(Served::Tcp(gateway)) => gateway.close_sessions(which).await,
                Some(Served::Udp(gateway)) => gateway.close_flows(which).await,
                None => Vec::new(),
            });
        }
        closed.into_iter().map(|id| id.0).collect()
    }

    /// Has every gateway follow the deny list, at once; the future tells which sessions ended for that.
    pub(crate) fn deny(&self, changes: &[DenyChange]) -> impl Future<Output = Vec<u64>> + Send + use<> {
        let mut ending = Vec::new();
        for service in &self.services {
            match service.metrics.served() {
                Some(Served::Tcp(gateway)) => ending.push(gateway.deny(changes)),
                Some(Served::Udp(gateway)) => gateway.deny(changes),
                None => {}
            }
        }
        async move {
            let mut ended = Vec::new();
            for sessions in ending {
                ended.extend(sessions.await.into_iter().map(|id| id.0));
            }
            ended
        }
    }

    /// Each step of the sessions of these clients, by service.
    pub(crate) fn follow(&self, client: IpNet) -> Vec<Receiver<Step>> {
        self.services.iter().map(|service| service.trace.follow(client)).collect()
    }
}

impl AdminState for Eyes {
    fn snapshot(&self) -> Snapshot {
        let mut sum = self.others.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sum.add(&self.own());
        sum
    }

    fn sessions(&self, at_most: usize) -> Pin<Box<dyn Future<Output = Vec<NamedSession>> + Send + '_>> {
        Box::pin(self.curious.sessions(at_most))
    }
}

impl ReturnPathState {
    pub(crate) fn get(&self) -> Option<bool> {
        match self.0.load(Ordering::Relaxed) {
            INTACT => Some(true),
            BROKEN => Some(false),
            _ => None,
        }
    }

    pub(crate) fn note(&self, intact: bool) {
        self.0.store(if intact { INTACT } else { BROKEN }, Ordering::Relaxed);
    }

    /// Looks after `plans` for ever, in the network namespace of the calling thread.
    pub(crate) async fn watch(self: Arc<Self>, plans: Vec<Plan>) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let intact = is_intact(&plans).await;
            self.note(intact);
        }
    }
}

/// Whether everything of `plans` is there, in the network namespace of the calling thread.
pub(crate) async fn is_intact(plans: &[Plan]) -> bool {
    for plan in plans {
        // What cannot be seen is not known to be there.
        let Ok(steps) = observe(plan).await else { return false };
        if !steps.iter().all(|step| matches!(step.state, State::Present(_))) {
            return false;
        }
    }
    true
}

/// Looks after `targets` for ever, for the metrics and for the answers to health checks.
pub(crate) async fn watch_targets(watch: Watch, targets: Targets, dial: DialOptions, health: TargetHealth) {
    let addresses = [Family::V4, Family::V6].into_iter().filter_map(|family| targets.of(family)).collect();
    watch.metrics.watch_targets(addresses, health.clone());
    health.watch(targets, dial, LOOK).await;
}

/// How often targets and the return path are looked at: soon enough for whoever is to act on it, rarely enough not to
/// be seen in a target's accounts.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

const INTACT: u8 = 1;
const BROKEN: u8 = 2;
