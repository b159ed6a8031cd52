//! A gateway that is confined between binding and serving.

use mmproxy_forwarder::{Gateway, Listener, Shutdown, UdpGateway, UdpListener};
use tokio::task::JoinSet;

use crate::cli::RunArgs;
use crate::daemon::raise_descriptor_limit;
use crate::exit::{Exit, Failure};
use crate::log::{self, SessionLog};
use crate::resolve::{self, Settings};
use crate::runtime;
use crate::signals::Signals;
use crate::workers::Workers;

/// Binds what `args` say, calls `confine`, and serves until SIGTERM. Everything after `confine` is what a worker does:
/// runtimes, threads, signals, the addresses of this host.
pub(super) fn run(args: &RunArgs, confine: impl FnOnce() -> Result<(), Failure>) -> Result<Exit, Failure> {
    log::start(args.quiet, args.verbose);
    let settings = resolve::run(args, raise_descriptor_limit())?;
    let address = settings.listen[0];
    match settings.udp {
        None => {
            let first = Listener::bind(address, settings.backlog).map_err(unavailable)?;
            let mut listeners = vec![first];
            for _ in 1..settings.workers.get() {
                listeners.push(listeners[0].share(settings.backlog).map_err(unavailable)?);
            }
            confine()?;
            runtime::block_on(connections(&settings, listeners))??;
        }
        Some(options) => {
            let listeners = UdpListener::bind(address, settings.workers, &options, settings.client_from);
            let listeners = listeners.map_err(unavailable)?;
            confine()?;
            let gateway =
                UdpGateway::new(settings.gateway, options, SessionLog::new()).map_err(unavailable)?;
            runtime::block_on(datagrams(gateway, listeners))??;
        }
    }
    Ok(Exit::Ok)
}

async fn connections(settings: &Settings, listeners: Vec<Listener>) -> Result<(), Failure> {
    let mut signals = Signals::listen().map_err(unavailable)?;
    let gateway = Gateway::new(settings.gateway.clone(), SessionLog::new()).map_err(unavailable)?;
    let workers = Workers::start(settings.workers).map_err(unavailable)?;
    let (shutdown, mut serving) = (Shutdown::new(), JoinSet::new());
    println!("[+] Listening on {}", listeners[0].local_addr());
    for (listener, worker) in listeners.into_iter().zip(workers.handles()) {
        let (gateway, shutdown) = (gateway.clone(), shutdown.clone());
        serving.spawn_on(async move { gateway.serve(listener, &shutdown).await }, worker);
    }
    signals.next().await;
    shutdown.drain();
    serving.join_all().await.into_iter().try_for_each(|served| served.map(drop)).map_err(unavailable)
}

async fn datagrams(gateway: UdpGateway, listeners: Vec<UdpListener>) -> Result<(), Failure> {
    let mut signals = Signals::listen().map_err(unavailable)?;
    let (shutdown, mut serving) = (Shutdown::new(), JoinSet::new());
    println!("[+] Listening on {}", listeners[0].local_addr());
    for listener in listeners {
        let (gateway, shutdown) = (gateway.clone(), shutdown.clone());
        serving.spawn(async move { gateway.serve(listener, &shutdown).await });
    }
    signals.next().await;
    shutdown.drain();
    serving.join_all().await.into_iter().try_for_each(|served| served.map(drop)).map_err(unavailable)
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new(Exit::Unavailable, error)
}
