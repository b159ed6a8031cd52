//! The gateway's life in another namespace: enter, hold the return path, follow when it is replaced, leave.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use mmproxy_forwarder::{DialOptions, Namespace, NamespaceGone, Targets};
use mmproxy_routing::Lease;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{Found, TargetNetns, not_entered};
use crate::console::Console;
use crate::daemon;
use crate::exit::{Exit, Failure};
use crate::resolve::Settings;
use crate::return_path::{self, ReturnPath};
use crate::selfcheck::{self, Finding};

/// A gateway's hold on its targets' namespace.
///
/// Sessions find the namespace in [`TargetNetns::place`]; a task here puts it there, with its return path installed,
/// and takes it away when its name leads elsewhere or nowhere.
pub(crate) struct Elsewhere {
    netns: TargetNetns,
    stop: watch::Sender<bool>,
    follower: JoinHandle<()>,
}

impl Elsewhere {
    /// Enters the namespace and installs, or looks at, the return path there.
    pub(crate) async fn enter(
        netns: &TargetNetns,
        settings: &Settings,
        console: &mut Console,
    ) -> Result<Self, Failure> {
        let settings = Arc::new(settings.clone());
        let inside = Inside::enter(netns, &settings, console).await?;
        netns.place.enter(inside.namespace.clone());
        let (stop, stopped) = watch::channel(false);
        let follower = Follower {
            netns: netns.clone(),
            settings,
            present: Some(inside),
            retired: JoinSet::new(),
            stopped,
            complaint: String::new(),
        };
        Ok(Self { netns: netns.clone(), stop, follower: tokio::spawn(follower.follow()) })
    }

    /// The self-check, done inside: the kernel is asked there what it would do.
    pub(crate) async fn examine(
        &self,
        targets: Targets,
        path: ReturnPath,
        dial: DialOptions,
    ) -> Vec<Finding> {
        let examined = match self.netns.place.present() {
            Ok(namespace) => {
                namespace.run(async move || selfcheck::examine(&targets, &path, &dial).await).await
            }
            Err(gone) => Err(gone),
        };
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
        netns: &TargetNetns,
        settings: &Arc<Settings>,
        console: &mut Console,
    ) -> Result<Self, Failure> {
        let locator = Arc::clone(&netns.locator);
        let found = spawn_blocking(move || locator.locate())
            .await
            .map_err(|panic| Failure::new(Exit::Software, panic))??;
        let name = netns.locator.name();
        let namespace = Namespace::enter(found.file.as_fd()).map_err(|error| not_entered(name, error))?;
        console.fine(format_args!("[+] The targets are in network namespace {name}."));

        let settings = Arc::clone(settings);
        let mut lent = std::mem::replace(console, Console::silent());
        let (lent, leases) = namespace
            .run(async move || {
                let leases = daemon::set_up(&settings, &mut lent).await;
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
    netns: TargetNetns,
    settings: Arc<Settings>,
    present: Option<Inside>,
    /// Namespaces that were left, until the sessions in them have ended.
    retired: JoinSet<()>,
    stopped: watch::Receiver<bool>,
    /// The last failure that was told, so that it is told once.
    complaint: String,
}

impl Follower {
    async fn follow(mut self) {
        let mut pause = SHORTEST_PAUSE;
        while !self.stops_within(pause).await {
            if self.present.as_ref().is_some_and(|inside| inside.found.is_current()) {
                continue;
            }
            self.retire();
            self.enter().await;
            pause = if self.present.is_some() { SHORTEST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        }
        self.netns.place.leave();
        if let Some(inside) = self.present {
            inside.release().await;
        }
        // Each of them has heard that this is the end.
        while self.retired.join_next().await.is_some() {}
    }

    /// Waits for `pause`, or until told to stop.
    async fn stops_within(&mut self, pause: Duration) -> bool {
        // The sender being gone means the same as its word.
        timeout(pause, self.stopped.wait_for(|stopped| *stopped)).await.is_ok()
    }

    /// Takes the namespace away from new sessions. Those in it need its return path until they end: it goes later.
    fn retire(&mut self) {
        let Some(inside) = self.present.take() else { return };
        self.netns.place.leave();
        warn!(
            namespace = %self.netns.locator.name(),
            "the target's network namespace is gone: sessions in it may finish, new ones are refused until it is back"
        );
        let (mut stopped, drain) = (self.stopped.clone(), self.settings.drain);
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
        match Inside::enter(&self.netns, &self.settings, &mut Console::silent()).await {
            Ok(inside) => {
                self.netns.place.enter(inside.namespace.clone());
                self.present = Some(inside);
                self.complaint.clear();
                info!(namespace = %self.netns.locator.name(), "the target's network namespace is back");
            }
            Err(failure) => {
                let reason = failure.reason();
                if reason != self.complaint {
                    warn!(
                        namespace = %self.netns.locator.name(),
                        reason,
                        "the target's network namespace cannot be used"
                    );
                    self.complaint = reason;
                }
            }
        }
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elsewhere").field("netns", &self.netns).finish_non_exhaustive()
    }
}

/// How soon a change is noticed: each look costs one or two system calls.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);

/// How soon a namespace is found that was away for long; a Docker Engine is asked each time.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
