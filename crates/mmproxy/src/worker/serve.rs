//! Serving: every service's gateway on its sockets, until the last session has ended.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};

use mmproxy_forwarder::{
    Drained, Gateway, GatewayConfig, HealthChecks, OwnAddresses, ServeError, Shutdown, TargetHealth,
    UdpGateway, UdpOptions,
};
use tokio::task::{JoinError, JoinSet};
use tracing::{info, warn};

use super::sockets::{Inherited, Sockets};
use super::threads::Workers;
use super::{Curious, Surroundings};
use crate::admin::{self, AdminState};
use crate::channel::Assignment;
use crate::exit::{Exit, Failure};
use crate::eyes::{Eyes, watch_targets};
use crate::log;
use crate::metrics::{Process, Served, Snapshot};
use crate::spec::{Budget, Invalid};
use crate::watch::Watch;

/// What a worker serves.
pub(super) struct Serving {
    /// Until told to serve.
    waiting: Vec<Waiting>,
    threads: Workers,
    connections: Shutdown,
    datagrams: Shutdown,
    accepting: JoinSet<Result<Drained, ServeError>>,
    receiving: JoinSet<Result<Drained, ServeError>>,
    udp: Vec<UdpGateway>,
    eyes: Arc<Eyes>,
    admin: Option<std::net::TcpListener>,
    /// Looks after targets, from the start.
    looking: JoinSet<()>,
    /// Answers by the admin address, while this worker accepts.
    answering: JoinSet<()>,
    failed: Option<Failure>,
}

/// A service that is not served yet.
enum Waiting {
    Connections(Gateway, Vec<Vec<mmproxy_forwarder::Listener>>),
    Datagrams(UdpGateway, Vec<Vec<mmproxy_forwarder::UdpListener>>),
}

impl Serving {
    /// Makes gateways and threads, and serves nothing yet.
    pub(super) fn prepare(
        assignment: &Assignment,
        sockets: Sockets,
        budget: Budget,
        surroundings: &Surroundings,
        (process, curious): (Process, Curious),
    ) -> Result<Self, Failure> {
        let global = &assignment.spec.global;
        let mut waiting = Vec::new();
        let mut udp = Vec::new();
        let mut first: Option<Gateway> = None;
        let (mut services, mut looking) = (Vec::new(), JoinSet::new());
        for ((service, marks), sockets) in
            assignment.spec.services.iter().zip(&assignment.marks).zip(sockets.services)
        {
            let dial = service.dial(*marks, surroundings.place.clone()).map_err(invalid)?;
            let (watch, health) = (Watch::new(&service.name), TargetHealth::new());
            // A target of datagrams cannot be asked without sending it something.
            let checked = service.is_tcp()
                && (global.admin.is_some() || service.health_checks() == HealthChecks::Answer);
            if let Some(targets) = service.targets.fixed().ok().flatten().filter(|_| checked) {
                looking.spawn(watch_targets(watch.clone(), targets, dial.clone(), health.clone()));
            }
            let config = service.gateway(global, dial, budget.sessions, health).map_err(invalid)?;
            let config = surroundings.with_addresses(config);
            let gateway = match &first {
                None => Gateway::new(config, watch.clone()),
                Some(first) => first.beside(config, watch.clone()),
            };
            let gateway = gateway.map_err(unavailable)?;
            first.get_or_insert_with(|| gateway.clone());
            match sockets {
                Inherited::Connections(listeners) => {
                    watch.metrics.count_with(Served::Tcp(gateway.clone()));
                    waiting.push(Waiting::Connections(gateway, listeners));
                }
                Inherited::Datagrams(listeners) => {
                    let options: UdpOptions = service.datagrams(budget.flows).map_err(invalid)?;
                    let gateway = UdpGateway::of(gateway, options);
                    watch.metrics.count_with(Served::Udp(gateway.clone()));
                    udp.push(gateway.clone());
                    waiting.push(Waiting::Datagrams(gateway, listeners));
                }
            }
            services.push(watch);
        }
        let threads =
            Workers::start(global.workers).map_err(|error| Failure::new(Exit::Unavailable, error))?;
        Ok(Self {
            waiting,
            threads,
            connections: Shutdown::new(),
            datagrams: Shutdown::new(),
            accepting: JoinSet::new(),
            receiving: JoinSet::new(),
            udp,
            eyes: Arc::new(Eyes::new(
                services,
                surroundings.name(assignment),
                global.workers.get(),
                process,
                curious,
            )),
            admin: sockets.admin,
            looking,
            answering: JoinSet::new(),
            failed: None,
        })
    }

    /// What was counted here so far.
    pub(super) fn counted(&self) -> Snapshot {
        self.eyes.own()
    }

    /// Who can tell of it.
    pub(super) fn eyes(&self) -> Arc<Eyes> {
        Arc::clone(&self.eyes)
    }

    /// What others have counted.
    pub(super) fn note_others(&self, others: Snapshot) {
        self.eyes.note_others(others);
    }

    /// Serves on every socket: connections on a thread for each socket of an address, datagrams on threads of their own.
    pub(super) fn serve(&mut self) {
        if let Some(listener) = self.admin.take() {
            let state = Arc::clone(&self.eyes) as Arc<dyn AdminState>;
            match admin::serve(listener, state) {
                Ok(server) => drop(self.answering.spawn(server)),
                // The services are worth more than those who look at them.
                Err(error) => warn!(%error, "the admin address is not served"),
            }
        }
        for service in std::mem::take(&mut self.waiting) {
            match service {
                Waiting::Connections(gateway, addresses) => {
                    for listeners in addresses {
                        for (listener, thread) in
                            listeners.into_iter().zip(self.threads.handles().iter().cycle())
                        {
                            let (gateway, shutdown) = (gateway.clone(), self.connections.clone());
                            self.accepting
                                .spawn_on(async move { gateway.serve(listener, &shutdown).await }, thread);
                        }
                    }
                }
                Waiting::Datagrams(gateway, addresses) => {
                    for listener in addresses.into_iter().flatten() {
                        let (gateway, shutdown) = (gateway.clone(), self.datagrams.clone());
                        self.receiving.spawn(async move { gateway.serve(listener, &shutdown).await });
                    }
                }
            }
        }
    }

    /// Another worker takes what comes from now on: returns when this one does not any more.
    ///
    /// Sessions go on. Flows end, so that the other worker can have their addresses: the next datagram begins them anew.
    pub(super) async fn hand_over(&mut self) {
        self.waiting.clear();
        self.looking.abort_all();
        self.answering.abort_all();
        self.connections.drain();
        self.datagrams.cut();
        while let Some(ended) = self.receiving.join_next().await {
            self.note(ended);
        }
    }

    /// Takes nothing any more; what lives may finish.
    pub(super) fn drain(&mut self) {
        self.waiting.clear();
        self.looking.abort_all();
        self.connections.drain();
        self.datagrams.drain();
    }

    /// Resets what is left.
    pub(super) fn cut(&mut self) {
        self.drain();
        self.connections.cut();
        self.datagrams.cut();
    }

    /// Answers when every thread has had a turn.
    pub(super) async fn answer(&self) {
        for thread in self.threads.handles() {
            // It is dropped with its runtime, and then nobody asks any more.
            thread.spawn(async {}).await.ok();
        }
    }

    /// Waits for the end of everything, which comes after it was told to stop, or when a socket breaks.
    pub(super) async fn ended(&mut self) -> Result<Exit, Failure> {
        if !self.waiting.is_empty() {
            return pending().await;
        }
        loop {
            let ended = tokio::select! {
                Some(ended) = self.accepting.join_next() => ended,
                Some(ended) = self.receiving.join_next() => ended,
                else => break,
            };
            if !self.note(ended) {
                // The others cannot do its work: end in order, and the keeper starts anew.
                self.drain();
            }
        }
        self.udp.iter().for_each(|gateway| log::counted(&gateway.counts()));
        self.failed.take().map_or(Ok(Exit::Ok), Err)
    }

    /// Remembers how serving a socket ended, and tells whether it was in order.
    fn note(&mut self, ended: Result<Result<Drained, ServeError>, JoinError>) -> bool {
        let failure = match ended {
            Ok(Ok(drained)) => {
                info!(finished = drained.finished, cut = drained.cut, "listener closed");
                return true;
            }
            Ok(Err(error)) => Failure::new(Exit::Unavailable, error),
            Err(panic) => Failure::new(Exit::Software, panic),
        };
        self.failed.get_or_insert(failure);
        false
    }
}

impl Surroundings {
    /// Where the worker is not in the host's network namespace: policy refuses the host's addresses as clients, too.
    fn with_addresses(&self, config: GatewayConfig) -> GatewayConfig {
        let Some(host) = self.host.clone() else { return config };
        config.own_addresses(move || own_and(&host))
    }
}

fn own_and(host: &Arc<Mutex<crate::channel::Addresses>>) -> std::io::Result<OwnAddresses> {
    let inside = OwnAddresses::of_this_host()?;
    Ok(host.lock().unwrap_or_else(PoisonError::into_inner).and(&inside))
}

fn invalid(error: Invalid) -> Failure {
    Failure::new(Exit::Config, error)
}

fn unavailable(error: ServeError) -> Failure {
    Failure::new(Exit::Unavailable, error)
}
