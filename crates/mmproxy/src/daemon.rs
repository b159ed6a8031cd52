//! The gateway's life in four pieces, one after the other: bind, set up, serve, clean up.

use std::net::SocketAddr;
use std::sync::mpsc;

use caps::Capability;
use mmproxy_forwarder::{
    BindError, Gateway, Listener, Shutdown, TargetChoice, UdpGateway, UdpListener, UdpOptions,
};
use mmproxy_routing::{Lease, Policy};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::cli::{Routing, RunArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::log::{self, SessionLog};
use crate::privileges;
use crate::resolve::{self, Settings};
use crate::return_path;
use crate::runtime;
use crate::selfcheck::{self, Finding, Step};
use crate::signals::Signals;
use crate::target_netns::Elsewhere;
use crate::workers::Workers;

/// `mmproxy` without a command: runs until SIGTERM or SIGINT.
pub(crate) fn main(args: &RunArgs) -> Result<Exit, Failure> {
    log::start(args.quiet, args.verbose);
    let settings = resolve::run(args, raise_descriptor_limit())?;
    run(&settings, &mut Console::stdout(args.quiet), Until::Signalled)?;
    Ok(Exit::Ok)
}

/// When to stop.
pub(crate) enum Until {
    /// On SIGTERM or SIGINT.
    Signalled,
    /// When the other end of `stopped` says so; `ready` hears the first address listened on.
    Told { ready: mpsc::Sender<SocketAddr>, stopped: oneshot::Receiver<()> },
}

/// Runs a gateway to its clean end in the network namespace of the calling thread.
pub(crate) fn run(settings: &Settings, console: &mut Console, until: Until) -> Result<(), Failure> {
    privileges::require_spoofing()?;
    runtime::block_on(async {
        let bound = bind(settings)?;
        // From here on a signal must not end the process before it has cleaned up.
        let stop = Stop::new(until)?;
        let held = Held::set_up(settings, &bound.addresses(), console).await?;
        let served = async {
            announce(&held, settings, console).await;
            serve(settings, bound, console, stop).await
        }
        .await;
        held.clean_up().await;
        served
    })?
}

/// Sockets that are not served yet: one list for each address, with one for each worker.
enum Bound {
    Connections(Vec<Vec<Listener>>),
    Datagrams(UdpOptions, Vec<Vec<UdpListener>>),
}

impl Bound {
    /// Each address once, with the real port.
    fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Connections(listeners) => listeners.iter().map(|shared| shared[0].local_addr()).collect(),
            Self::Datagrams(_, listeners) => listeners.iter().map(|shared| shared[0].local_addr()).collect(),
        }
    }
}

/// Binds, before anything of the host is changed, a socket per address and worker.
fn bind(settings: &Settings) -> Result<Bound, Failure> {
    let workers = settings.workers;
    if let Some(options) = settings.udp {
        let bind =
            |address: &SocketAddr| UdpListener::bind(*address, workers, &options, settings.client_from);
        let listeners = settings.listen.iter().map(|address| bind(address).map_err(not_bound));
        return Ok(Bound::Datagrams(options, listeners.collect::<Result<_, _>>()?));
    }
    let bind = if settings.listen_transparent { Listener::bind_transparent } else { Listener::bind };
    let bind_all = |address: &SocketAddr| {
        // Alone at first: who has the address already is noticed.
        let mut listeners = vec![bind(*address, settings.backlog)?];
        for _ in 1..workers.get() {
            listeners.push(listeners[0].share(settings.backlog)?);
        }
        Ok(listeners)
    };
    let listeners = settings.listen.iter().map(|address| bind_all(address).map_err(not_bound));
    Ok(Bound::Connections(listeners.collect::<Result<_, _>>()?))
}

/// Lets datagrams of many flows share a system call, if that is to be had here.
fn share_calls(listeners: &mut [UdpListener]) {
    for listener in listeners {
        if let Err(error) = listener.use_io_uring() {
            info!(%error, "no io_uring: each datagram costs a system call");
            return;
        }
    }
}

/// What is held for this run: the return path where the targets are, and the way in where the listeners are.
struct Held {
    return_path: ReturnPath,
    way_in: Vec<Lease>,
}

impl Held {
    async fn set_up(
        settings: &Settings,
        listening: &[SocketAddr],
        console: &mut Console,
    ) -> Result<Self, Failure> {
        let return_path = ReturnPath::set_up(settings, console).await?;
        let way_in = match policy(settings.routing) {
            Some(policy) => settings.way_in.acquire(listening, policy, console).await,
            None => Ok(Vec::new()),
        };
        match way_in {
            Ok(way_in) => Ok(Self { return_path, way_in }),
            Err(failure) => {
                return_path.clean_up().await;
                Err(failure)
            }
        }
    }

    async fn clean_up(self) {
        return_path::release(self.way_in).await;
        self.return_path.clean_up().await;
    }
}

/// The return path, held for this run where the targets are.
enum ReturnPath {
    Here(Vec<Lease>),
    Elsewhere(Elsewhere),
}

impl ReturnPath {
    async fn set_up(settings: &Settings, console: &mut Console) -> Result<Self, Failure> {
        match &settings.target_netns {
            None => set_up(settings, console).await.map(Self::Here),
            Some(netns) => Elsewhere::enter(netns, settings, console).await.map(Self::Elsewhere),
        }
    }

    /// The self-check's findings about every target.
    async fn examine(&self, settings: &Settings) -> Vec<Finding> {
        let Some(targets) = settings.fixed_targets() else { return Vec::new() };
        match self {
            Self::Here(_) => selfcheck::examine(&targets, &settings.return_path, &settings.dial).await,
            Self::Elsewhere(elsewhere) => {
                elsewhere.examine(targets, settings.return_path, settings.dial.clone()).await
            }
        }
    }

    async fn clean_up(self) {
        match self {
            Self::Here(leases) => return_path::release(leases).await,
            Self::Elsewhere(elsewhere) => elsewhere.leave().await,
        }
    }
}

/// Installs, or looks at, the return path, and claims it for this run, in the calling thread's network namespace.
pub(crate) async fn set_up(settings: &Settings, console: &mut Console) -> Result<Vec<Lease>, Failure> {
    match policy(settings.routing) {
        Some(policy) => return_path::acquire(settings.return_path, policy, console).await,
        None => Ok(Vec::new()),
    }
}

/// What may be done about missing objects; `None` where they are nobody's business.
const fn policy(routing: Routing) -> Option<Policy> {
    match routing {
        Routing::Off => None,
        Routing::Check => Some(Policy::CheckOnly),
        Routing::Auto => Some(Policy::Install),
    }
}

/// Tells what the targets answer and who may connect. A target that is down now may come up later, so nothing
/// here keeps the gateway from serving.
async fn announce(held: &Held, settings: &Settings, console: &mut Console) {
    let findings = held.return_path.examine(settings).await;
    for finding in &findings {
        if finding.passed() {
            console.fine(finding);
        } else {
            console.always(finding);
        }
    }
    if findings.iter().any(|finding| finding.step == Step::Spoofed && !finding.passed()) {
        console.always(
            "[!] `mmproxy check` with the same targets says where the connection dies, and what cures it.",
        );
    }
    if let TargetChoice::FromHeader { allowed, .. } = &settings.targets {
        for target in allowed.iter() {
            console.fine(format_args!("[+] A header may name as its target: {target}"));
        }
    }
    if settings.allowed.is_empty() {
        warn!("the list of allowed networks is empty: nobody may connect");
        console.always("[!] The list of allowed networks is empty: nobody may connect.");
    }
    for network in settings.allowed.iter().take(SHOWN_NETWORKS) {
        console.fine(format_args!("[+] Allowed to connect: {network}"));
    }
    if let more @ 1.. = settings.allowed.len().saturating_sub(SHOWN_NETWORKS) {
        console.fine(format_args!("[+] Allowed to connect: {more} more networks"));
    }
}

/// Serves on every listener, each on a worker, until told to stop or one breaks, and ends the others with it.
async fn serve(
    settings: &Settings,
    bound: Bound,
    console: &mut Console,
    mut stop: Stop,
) -> Result<(), Failure> {
    let shutdown = Shutdown::new();
    let mut serving = JoinSet::new();
    let (config, unavailable) = (settings.gateway.clone(), |error| Failure::new(Exit::Unavailable, error));
    // Until everything has ended: their threads.
    let mut workers = None;
    let mut datagrams = None;
    let addresses = bound.addresses();
    match bound {
        Bound::Connections(listeners) => {
            let gateway = Gateway::new(config, SessionLog::new()).map_err(unavailable)?;
            let workers = workers.insert(
                Workers::start(settings.workers).map_err(|error| Failure::new(Exit::Unavailable, error))?,
            );
            for shared in listeners {
                for (listener, worker) in shared.into_iter().zip(workers.handles()) {
                    let (gateway, shutdown) = (gateway.clone(), shutdown.clone());
                    serving.spawn_on(async move { gateway.serve(listener, &shutdown).await }, worker);
                }
            }
        }
        Bound::Datagrams(options, listeners) => {
            let gateway = UdpGateway::new(config, options, SessionLog::new()).map_err(unavailable)?;
            let mut listeners: Vec<_> = listeners.into_iter().flatten().collect();
            if settings.udp_io_uring {
                share_calls(&mut listeners);
            }
            for listener in listeners {
                // It has a thread of its own.
                let (gateway, shutdown) = (gateway.clone(), shutdown.clone());
                serving.spawn(async move { gateway.serve(listener, &shutdown).await });
            }
            datagrams = Some(gateway);
        }
    }
    for address in &addresses {
        console.always(format_args!("[+] Listening on {address}"));
    }
    stop.ready(&addresses);

    let mut result = Ok(());
    let mut stopping = false;
    loop {
        let broken = tokio::select! {
            ended = serving.join_next() => match ended {
                None => {
                    if let Some(gateway) = datagrams {
                        log::counted(&gateway.counts());
                    }
                    return result;
                }
                Some(Ok(Ok(drained))) => {
                    info!(finished = drained.finished, cut = drained.cut, "listener closed");
                    continue;
                }
                Some(Ok(Err(error))) => Failure::new(Exit::Unavailable, error),
                Some(Err(panic)) => Failure::new(Exit::Software, panic),
            },
            reason = stop.asked() => {
                if stopping {
                    info!(reason, "stopping now: the sessions that are left are reset");
                    shutdown.cut();
                } else {
                    info!(reason, "stopping: no new connections, sessions may finish");
                    shutdown.drain();
                }
                stopping = true;
                continue;
            }
        };
        // The others cannot do its work: end in order and let the service manager start anew.
        result = result.and(Err(broken));
        shutdown.drain();
        stopping = true;
    }
}

/// Hears when to stop.
enum Stop {
    Signals(Signals),
    Told {
        ready: mpsc::Sender<SocketAddr>,
        stopped: oneshot::Receiver<()>,
    },
    /// Told once; there is no second time.
    Over,
}

impl Stop {
    fn new(until: Until) -> Result<Self, Failure> {
        match until {
            Until::Signalled => {
                Signals::listen().map(Self::Signals).map_err(|error| Failure::new(Exit::Software, error))
            }
            Until::Told { ready, stopped } => Ok(Self::Told { ready, stopped }),
        }
    }

    fn ready(&self, addresses: &[SocketAddr]) {
        if let (Self::Told { ready, .. }, Some(address)) = (self, addresses.first()) {
            // Whoever asked has gone: it will not connect, and `stopped` ends this run.
            ready.send(*address).ok();
        }
    }

    /// Waits for the next request to stop.
    async fn asked(&mut self) -> &'static str {
        match self {
            Self::Signals(signals) => signals.next().await,
            Self::Told { stopped, .. } => {
                // Dropping the other end is the same as saying so.
                stopped.await.ok();
                *self = Self::Over;
                "told to"
            }
            Self::Over => std::future::pending().await,
        }
    }
}

/// Raises the soft limit on descriptors to the hard one and returns what it is then.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return POSIX_OPEN_MAX };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            warn!(%error, soft, hard, "the limit on descriptors could not be raised");
            soft
        }
    }
}

fn not_bound(error: BindError) -> Failure {
    let refused = error.error.kind() == std::io::ErrorKind::PermissionDenied;
    let failure = Failure::new(if refused { Exit::NoPermission } else { Exit::Unavailable }, error);
    if refused && !privileges::has(Capability::CAP_NET_BIND_SERVICE) {
        return failure.hint("ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE");
    }
    failure.hint("`ss -ltnp` lists who listens; `ip address` lists the addresses of this host")
}

/// A list of every cloud's balancers would push the findings off the screen.
const SHOWN_NETWORKS: usize = 40;

/// What POSIX promises at least, should the kernel not tell.
const POSIX_OPEN_MAX: u64 = 20;
