//! Targets in another namespace: enter, hold the return path, follow when it is replaced, leave.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mmproxy_forwarder::{Namespace, NamespaceGone, Targets};
use mmproxy_routing::{Lease, Plan};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::event::{Event, Events, Generation};
use super::ground::{Hold, return_paths};
use super::service::{Group, Service};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::eyes::{LOOK, ReturnPathState, is_intact};
use crate::return_path;
use crate::selfcheck::{self, Finding};
use crate::target_netns::{Found, Locator, NamespaceName, not_entered};

/// A hold on the namespace of a group's targets, whose return path is installed there.
///
/// A task looks whether its name still leads to the same one, and tells when it does not.
pub(crate) struct Elsewhere {
    name: NamespaceName,
    present: Arc<Mutex<Option<Namespace>>>,
    /// How the return path there is; `None` where there is none, or nobody asks.
    return_path: Option<Arc<ReturnPathState>>,
    stop: watch::Sender<bool>,
    follower: JoinHandle<()>,
}

impl Elsewhere {
    /// Enters the namespace and installs, or looks at, the return path there.
    pub(crate) async fn enter(
        group: &Group,
        hold: &Hold<'_>,
        console: &mut Console,
    ) -> Result<Self, Failure> {
        let name = group.netns.clone().expect("a group that is elsewhere has the name of where");
        let locator = Arc::new(Locator::new(name.clone()));
        let inside = Inside::enter(&locator, &group.services, console).await?;
        let present = Arc::new(Mutex::new(Some(inside.namespace.clone())));
        let watched = hold.watched && !inside.leases.is_empty();
        let return_path = watched.then(|| Arc::new(ReturnPathState::default()));
        let (stop, stopped) = watch::channel(false);
        let follower = Follower {
            locator,
            services: group.services.clone(),
            drain: hold.drain,
            generation: hold.generation,
            events: hold.events.clone(),
            place: Arc::clone(&present),
            present: Some(inside),
            retired: JoinSet::new(),
            stopped,
            complaint: String::new(),
            return_path: return_path.clone(),
            looked: None,
        };
        Ok(Self { name, present, return_path, stop, follower: tokio::spawn(follower.follow()) })
    }

    /// The namespace, unless it is gone for now.
    pub(crate) fn present(&self) -> Option<Namespace> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The namespace's name, and how the return path there is, if anybody asks.
    pub(crate) fn return_path(&self) -> Option<(String, Arc<ReturnPathState>)> {
        Some((self.name.to_string(), Arc::clone(self.return_path.as_ref()?)))
    }

    /// The self-check, done inside: the kernel is asked there what it would do.
    pub(crate) async fn examine(&self, targets: Targets, service: &Arc<Service>) -> Vec<Finding> {
        let Some(namespace) = self.present() else { return Vec::new() };
        let service = Arc::clone(service);
        let examined = namespace
            .run(async move || selfcheck::examine(&targets, &service.return_path, &service.dial).await)
            .await;
        // The follower has said so already, and will say when it is back.
        examined.unwrap_or_else(|NamespaceGone| Vec::new())
    }

    /// Removes what this run installed in the namespace, and in former ones that still exist.
    pub(crate) async fn leave(self) {
        self.stop.send_replace(true);
        if let Err(panic) = self.follower.await {
            warn!(%panic, "the return path in the target's network namespace was not removed");
        }
    }
}

/// A namespace that was entered, and what is held there.
struct Inside {
    found: Found,
    namespace: Namespace,
    leases: Vec<Lease>,
}

impl Inside {
    /// Finds the namespace, enters it and sets up the return path there.
    async fn enter(
        locator: &Arc<Locator>,
        services: &[Arc<Service>],
        console: &mut Console,
    ) -> Result<Self, Failure> {
        let look = Arc::clone(locator);
        let found = spawn_blocking(move || look.locate())
            .await
            .map_err(|panic| Failure::new(Exit::Software, panic))??;
        let name = locator.name();
        let namespace = Namespace::enter(found.file.as_fd()).map_err(|error| not_entered(name, error))?;
        console.fine(format_args!("[+] The targets are in network namespace {name}."));
        let services = services.to_vec();
        let mut lent = std::mem::replace(console, Console::silent());
        let (lent, leases) = namespace
            .run(async move || {
                let leases = return_paths(&services, &mut lent).await;
                (lent, leases)
            })
            .await
            .map_err(|NamespaceGone| Failure::new(Exit::Software, "setting up the return path panicked"))?;
        *console = lent;
        Ok(Self { found, namespace, leases: leases? })
    }

    /// Gives the return path up, unless another instance uses it.
    async fn release(self) {
        let leases = self.leases;
        // Fails if the release panicked, which was printed then.
        self.namespace.run(async move || return_path::release(leases).await).await.ok();
    }
}

/// Looks again and again whether the namespace is there and the same.
struct Follower {
    locator: Arc<Locator>,
    services: Vec<Arc<Service>>,
    drain: Duration,
    generation: Generation,
    events: Events,
    /// For others to see.
    place: Arc<Mutex<Option<Namespace>>>,
    present: Option<Inside>,
    /// Namespaces that were left, until the sessions in them have ended.
    retired: JoinSet<()>,
    stopped: watch::Receiver<bool>,
    /// The last failure that was told, so that it is told once.
    complaint: String,
    /// How the return path is, for others to see.
    return_path: Option<Arc<ReturnPathState>>,
    /// When somebody looked last.
    looked: Option<Instant>,
}

impl Follower {
    async fn follow(mut self) {
        let mut pause = SHORTEST_PAUSE;
        while !self.stops_within(pause).await {
            if self.present.as_ref().is_some_and(|inside| inside.found.is_current()) {
                self.look().await;
                continue;
            }
            self.retire();
            self.enter().await;
            pause = if self.present.is_some() { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        }
        if let Some(inside) = self.present {
            inside.release().await;
        }
        // Each of them has heard that this is the end.
        while self.retired.join_next().await.is_some() {}
    }

    /// Looks whether the return path is still there, now and then.
    async fn look(&mut self) {
        let (Some(state), Some(inside)) = (&self.return_path, &self.present) else { return };
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return;
        }
        let plans: Vec<Plan> = inside.leases.iter().map(|lease| lease.plan().clone()).collect();
        let intact = inside.namespace.run(async move || is_intact(&plans).await).await;
        state.note(intact.is_ok_and(|intact| intact));
        self.looked = Some(Instant::now());
    }

    /// Waits for `pause`, or until told to stop.
    async fn stops_within(&mut self, pause: Duration) -> bool {
        // The sender being gone means the same as its word.
        timeout(pause, self.stopped.wait_for(|stopped| *stopped)).await.is_ok()
    }

    /// Takes the namespace away from new sessions. Those in it need its return path until they end: it goes later.
    fn retire(&mut self) {
        let Some(inside) = self.present.take() else { return };
        if let Some(state) = &self.return_path {
            state.note(false);
        }
        self.looked = None;
        self.show(None);
        self.events.tell(Event::Left(self.generation, self.name().clone()));
        warn!(
            namespace = %self.name(),
            "the target's network namespace is gone: sessions in it may finish, new ones are refused until it is back"
        );
        let (mut stopped, drain) = (self.stopped.clone(), self.drain);
        self.retired.spawn(async move {
            tokio::select! {
                () = sleep(drain) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
            inside.release().await;
        });
        while self.retired.try_join_next().is_some() {}
    }

    async fn enter(&mut self) {
        match Inside::enter(&self.locator, &self.services, &mut Console::silent()).await {
            Ok(inside) => {
                self.show(Some(inside.namespace.clone()));
                self.events.tell(Event::Entered(
                    self.generation,
                    self.name().clone(),
                    inside.namespace.clone(),
                ));
                self.present = Some(inside);
                self.complaint.clear();
            }
            Err(failure) => {
                let reason = failure.reason();
                if reason != self.complaint {
                    warn!(
                        namespace = %self.name(),
                        reason,
                        "the target's network namespace cannot be used"
                    );
                    self.complaint = reason;
                }
            }
        }
    }

    fn show(&self, present: Option<Namespace>) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = present;
    }

    fn name(&self) -> &NamespaceName {
        self.locator.name()
    }
}

/// How soon a change is noticed: each look costs one or two system calls.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);

/// How soon a namespace is found that was away for long; a Docker Engine is asked each time.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
