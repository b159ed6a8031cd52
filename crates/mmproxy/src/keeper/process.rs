//! A worker's process: started with its sockets, spoken to, and heard until it has ended.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use mmproxy_forwarder::Namespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tracing::{debug, warn};

use super::event::{Event, Events};
use crate::channel::{Assignment, Ear, Mouth, Order, Report, halves};
use crate::jail::{Confinement, lending};

/// Number of a worker process, unique while the keeper lives; starts at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkerId(pub(crate) u64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A running worker.
///
/// Whatever becomes of it, its last event is [`Event::Ended`].
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    orders: mpsc::UnboundedSender<Order>,
}

impl Process {
    /// Starts one from the executable that is at `executable` now, in `place` if its targets are in another network
    /// namespace, and has it prepare.
    ///
    /// # Errors
    ///
    /// No such executable, no process, no descriptors.
    pub(crate) async fn start(
        id: WorkerId,
        executable: PathBuf,
        sockets: Vec<OwnedFd>,
        assignment: Assignment,
        place: Option<Namespace>,
        events: &Events,
    ) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let Confinement { keep_bind_low_ports, keep_net_admin, .. } = assignment.confinement;
        let start =
            move || lending(keep_bind_low_ports, keep_net_admin, || spawn(&executable, theirs, sockets));
        let child = match &place {
            None => start()?,
            // A process is born into the namespace of the thread that makes it.
            Some(namespace) => {
                let started = namespace.run(async move || start()).await;
                started.map_err(|gone| io::Error::new(io::ErrorKind::NotFound, gone))??
            }
        };
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("process numbers are positive and small"));
        let (mouth, ear) = halves::<Order, Report>(ours, LONGEST_REPORT)?;
        let (orders, queue) = mpsc::unbounded_channel();
        tokio::spawn(speak(mouth, queue));
        let attendant = Attendant { id, child, place, events: events.clone() };
        tokio::spawn(attendant.attend(ear));
        let process = Self { pid, orders };
        debug!(worker = %id, %pid, "worker started");
        process.order(Order::Prepare(Box::new(assignment)));
        Ok(process)
    }

    /// Tells it something; it may have ended.
    pub(crate) fn order(&self, order: Order) {
        self.orders.send(order).ok();
    }

    /// Its number for the kernel.
    pub(crate) const fn pid(&self) -> Pid {
        self.pid
    }

    /// Ends it without its consent.
    pub(crate) fn kill(&self) {
        // The attendant has not reaped it as long as this value is asked: its number is nobody else's, unless it has
        // ended just now, and then the event of that is on its way.
        kill(self.pid, Signal::SIGKILL).ok();
    }
}

/// How a worker's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself, with this status.
    Exited(u8),
    /// By this signal.
    Killed(i32),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Killed(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "{signal}"),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, signal) => Self::Killed(signal.unwrap_or_default()),
        }
    }
}

fn spawn(executable: &Path, channel: UnixStream, sockets: Vec<OwnedFd>) -> io::Result<Child> {
    let number = sockets.len();
    let mappings =
        sockets.into_iter().zip(FIRST..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    let mut command = Command::new(executable);
    command
        .arg(COMMAND)
        .stdin(Stdio::from(OwnedFd::from(channel)))
        // sd_listen_fds(3), without LISTEN_PID: its number is not known before it exists.
        .env("LISTEN_FDS", number.to_string())
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDNAMES")
        // These are between the keeper and its service manager.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .env_remove("WATCHDOG_PID")
        .fd_mappings(mappings.collect())
        .map_err(io::Error::other)?;
    command.spawn()
}

/// Passes orders on, until there is nobody to give or to take any.
async fn speak(mut mouth: Mouth<Order>, mut queue: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = queue.recv().await {
        if mouth.say(&order).await.is_err() {
            return;
        }
    }
}

/// Listens to a worker, and reaps it.
struct Attendant {
    id: WorkerId,
    child: Child,
    /// Its thread started the worker, which is killed when that thread ends (`PR_SET_PDEATHSIG`).
    place: Option<Namespace>,
    events: Events,
}

impl Attendant {
    async fn attend(mut self, mut ear: Ear<Report>) {
        // What it said is heard to the end before its end is told: the socket ends with the process.
        loop {
            match ear.hear().await {
                Ok(Some(report)) => self.events.tell(Event::Said(self.id, report)),
                Ok(None) => break,
                Err(error) => {
                    // A worker that makes no sense cannot be led.
                    warn!(worker = %self.id, %error, "a worker is not understood; it is ended");
                    self.child.kill().ok();
                    break;
                }
            }
        }
        let mut child = self.child;
        // Neither fails for a child that nobody else waits for.
        let ended = spawn_blocking(move || child.wait().map_or(Ended::Killed(0), Ended::from)).await;
        self.events.tell(Event::Ended(self.id, ended.unwrap_or(Ended::Killed(0))));
        drop(self.place);
    }
}

/// The hidden command that a worker is.
const COMMAND: &str = "worker";

/// The first descriptor that is handed over (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;

/// More than a worker has to say at a time.
const LONGEST_REPORT: u64 = 64 << 20;
