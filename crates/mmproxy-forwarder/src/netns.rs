//! A network namespace that a thread of ours is in, so that sockets can be made there.

mod target;

use std::fmt;
use std::future::{Future, ready};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{LocalSet, spawn_local};

pub use self::target::TargetNamespace;
use crate::own::{OwnAddresses, OwnCache};

/// Another network namespace, entered by a thread of its own. A clone is the same one.
///
/// A socket stays in the namespace it was made in, wherever it is used later. So only [`run`](Self::run)'s jobs are
/// inside; what becomes of a socket that a job returns happens on the caller's thread.
///
/// The thread keeps the namespace in existence and ends with the last clone; its sockets keep it in existence after
/// that. Whether the namespace still is the one that is wanted, the caller has to watch.
#[derive(Clone)]
pub struct Namespace {
    inhabitant: Arc<Inhabitant>,
}

struct Inhabitant {
    /// `None` where the caller is inside itself.
    thread: Option<Thread>,
    abandoned: watch::Sender<bool>,
}

struct Thread {
    jobs: mpsc::UnboundedSender<Job>,
    own: OwnCache,
}

/// Makes a future on the thread, where it stays: it need not be `Send`.
type Job = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

impl Namespace {
    /// Starts a thread in the network namespace that `file` refers to: `/run/netns/NAME`, `/proc/PID/ns/net`.
    ///
    /// Needs CAP_SYS_ADMIN, in the user namespace of the caller and in the one that owns the namespace (setns(2)).
    /// The descriptor is not needed afterwards.
    ///
    /// # Errors
    ///
    /// [`EnterError`] tells a missing capability from a file that is no network namespace.
    pub fn enter(file: BorrowedFd<'_>) -> Result<Self, EnterError> {
        let file = file.try_clone_to_owned().map_err(EnterError::Thread)?;
        let (jobs, queue) = mpsc::unbounded_channel();
        let (report, reported) = sync_channel(1);
        thread::Builder::new()
            .name("target-netns".to_owned())
            .spawn(move || match inside(&file) {
                Ok(runtime) => {
                    drop(file);
                    // The receiver waits for this before it does anything else.
                    report.send(Ok(())).ok();
                    work(&runtime, queue);
                }
                Err(error) => drop(report.send(Err(error))),
            })
            .map_err(EnterError::Thread)?;
        reported.recv().unwrap_or_else(|_| Err(EnterError::Thread(io::ErrorKind::BrokenPipe.into())))?;
        let asked = jobs.clone();
        let own = OwnCache::new(Arc::new(move || own_addresses(&asked)), Instant::now())
            .map_err(EnterError::Addresses)?;
        Ok(Self::with(Some(Thread { jobs, own })))
    }

    /// The namespace that the calling thread, and whoever uses this, is in: sockets need nobody else to make them.
    ///
    /// For a process that was put into the targets' namespace as a whole. What is left to say of it is when it is not
    /// the wanted one any more ([`TargetNamespace::leave`]).
    pub fn here() -> Self {
        Self::with(None)
    }

    fn with(thread: Option<Thread>) -> Self {
        Self { inhabitant: Arc::new(Inhabitant { thread, abandoned: watch::Sender::new(false) }) }
    }

    /// Moves the calling thread, and all threads it starts later, into a network namespace for good: for programs that
    /// have nothing to do outside.
    ///
    /// # Errors
    ///
    /// Those of [`enter`](Self::enter).
    pub fn move_this_thread(file: BorrowedFd<'_>) -> Result<(), EnterError> {
        setns(file, CloneFlags::CLONE_NEWNET).map_err(|errno| {
            let error = io::Error::from(errno);
            match error.raw_os_error() {
                Some(libc::EPERM) => EnterError::NotPermitted(error),
                Some(libc::EINVAL) => EnterError::NotANamespace(error),
                _ => EnterError::Thread(error),
            }
        })
    }

    /// Runs `job` inside and returns what it made.
    ///
    /// Jobs take turns on one thread: they may wait, in the way of async code, but must not block. A job that was
    /// begun is finished even if nobody waits for its result any more.
    ///
    /// # Errors
    ///
    /// [`NamespaceGone`] if the job panicked: there is no result then.
    ///
    /// # Panics
    ///
    /// If the namespace is [`here`](Self::here): there is no thread to run it, and no need for one.
    pub async fn run<F>(&self, job: impl FnOnce() -> F + Send + 'static) -> Result<F::Output, NamespaceGone>
    where
        F: Future + 'static,
        F::Output: Send,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || {
            Box::pin(async move {
                // Nobody waits for the result of a dial that met its deadline.
                answer.send(job().await).ok();
            })
        });
        let thread = self.thread().expect("the caller knows that it is not inside");
        thread.jobs.send(job).map_err(|_| NamespaceGone)?;
        answered.await.map_err(|_| NamespaceGone)
    }

    /// Runs `job`, which must not block, inside and waits for what it made, for a second at most: for a thread that has
    /// no async code to wait in.
    pub(crate) fn run_blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NamespaceGone> {
        match self.thread() {
            Some(thread) => ask(&thread.jobs, job).map_err(|_| NamespaceGone),
            None => Ok(job()),
        }
    }

    /// Whether the caller has to ask for sockets that are made inside.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.thread().is_some()
    }

    fn thread(&self) -> Option<&Thread> {
        self.inhabitant.thread.as_ref()
    }

    /// Whether both are the same one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inhabitant, &other.inhabitant)
    }

    /// The addresses of its interfaces, as of two seconds ago at most; beside them the error if they could not be
    /// read again. `None` where they are those of the calling thread's namespace.
    pub(crate) fn own_addresses(&self) -> Option<(Arc<OwnAddresses>, Option<io::Error>)> {
        self.thread().map(|thread| thread.own.at(Instant::now()))
    }

    /// Tells everybody who holds a [`Lifeline`] of it that it is not the wanted one any more.
    fn abandon(&self) {
        self.inhabitant.abandoned.send_replace(true);
    }

    /// Hears when it is abandoned, without keeping its thread.
    pub(crate) fn lifeline(&self) -> Lifeline {
        Lifeline(self.inhabitant.abandoned.subscribe())
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("abandoned", &self.inhabitant.abandoned.borrow())
            .finish_non_exhaustive()
    }
}

/// Why a namespace could not be entered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnterError {
    /// setns(2) needs CAP_SYS_ADMIN here and in the user namespace that owns the network namespace.
    #[error("not permitted to enter the network namespace; setns(2) needs CAP_SYS_ADMIN")]
    NotPermitted(#[source] io::Error),
    /// The file is something else: an ordinary file where a namespace was mounted before, for example.
    #[error("this is no network namespace")]
    NotANamespace(#[source] io::Error),
    /// No descriptor, thread or memory for it.
    #[error("cannot put a thread into the network namespace")]
    Thread(#[source] io::Error),
    /// Inside, the kernel did not tell the namespace's own addresses, which policy has to refuse.
    #[error("cannot learn the network namespace's own addresses")]
    Addresses(#[source] io::Error),
}

/// The namespace that targets are in is not there, or is not the same any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the target's network namespace is gone")]
pub struct NamespaceGone;

/// A session's tie to the namespace its target is in.
#[derive(Debug)]
pub(crate) struct Lifeline(watch::Receiver<bool>);

impl Lifeline {
    /// Returns when the namespace was abandoned.
    pub(crate) async fn cut(mut self) {
        // Its last handle being gone means the same.
        self.0.wait_for(|abandoned| *abandoned).await.ok();
    }
}

/// Moves the calling thread into the namespace and makes what runs its jobs.
fn inside(file: &OwnedFd) -> Result<Runtime, EnterError> {
    Namespace::move_this_thread(file.as_fd())?;
    Builder::new_current_thread().enable_all().build().map_err(EnterError::Thread)
}

/// Runs jobs until nobody can send one any more.
fn work(runtime: &Runtime, mut queue: mpsc::UnboundedReceiver<Job>) {
    let jobs = LocalSet::new();
    jobs.block_on(runtime, async {
        while let Some(job) = queue.recv().await {
            // Its result goes its own way. A panic in it ends this task and no other.
            drop(spawn_local(async move { job().await }));
        }
    });
}

/// `getifaddrs(3)` inside, for a caller who cannot wait in the way of async code.
fn own_addresses(jobs: &mpsc::UnboundedSender<Job>) -> io::Result<OwnAddresses> {
    ask(jobs, OwnAddresses::of_this_host)?
}

/// What `job` makes inside, for a caller who cannot wait in the way of async code.
fn ask<T: Send + 'static>(
    jobs: &mpsc::UnboundedSender<Job>,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (answer, answered) = sync_channel(1);
    let job: Job = Box::new(move || {
        // Nobody listens who has lost patience.
        answer.send(job()).ok();
        Box::pin(ready(()))
    });
    jobs.send(job).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    answered.recv_timeout(PATIENCE).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))
}

/// How long a question may take that is answered in microseconds unless the machine is overwhelmed.
const PATIENCE: Duration = Duration::from_secs(1);
