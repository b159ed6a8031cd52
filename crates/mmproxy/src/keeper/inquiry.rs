//! What the control socket asks, answered.

use mmproxy_forwarder::Targets;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::info;

use super::control::Asker;
use super::event::Event;
use super::process::WorkerId;
use super::questions::Next;
use super::supervisor::Supervisor;
use crate::channel::{Answer, Order, Question};
use crate::control::{DenyReply, DenyRequest, Meant, Reply, Request, ServiceStatus, Status, WorkerStatus};

impl Supervisor<'_> {
    /// Answers, or has workers answer.
    pub(super) async fn inquire(&mut self, request: Request, asker: Asker) {
        let (workers, now) = (self.living(), Instant::now());
        let next = match request {
            Request::Status => self.questions.count(asker, &workers, now),
            Request::Sessions { client, at_most } => {
                self.questions.sessions(asker, (client, at_most), &workers, now)
            }
            Request::Kill(Meant::Client(client)) => {
                info!(%client, "sessions are closed by the operator");
                self.questions.kill(asker, Question::CloseClients { client }, &workers, now)
            }
            Request::Kill(Meant::Session(name)) => {
                info!(session = %name, "a session is closed by the operator");
                let worker: Vec<_> = workers.into_iter().filter(|worker| worker.0 == name.worker).collect();
                self.questions.kill(asker, Question::Close { id: name.id }, &worker, now)
            }
            Request::Trace { client } => self.questions.trace(asker, client, &workers, now),
            Request::Deny(request) => self.deny(request, asker),
            Request::Reload => return self.reload_for(asker).await,
        };
        self.go_on(next);
    }

    /// A worker wants to know of the sessions of all, its own included.
    pub(super) fn who_is_served(&mut self, worker: WorkerId, number: u64, at_most: usize) {
        let (asker, mut replies) = mpsc::unbounded_channel();
        let events = self.events.clone();
        tokio::spawn(async move {
            if let Some(Reply::Sessions(sessions)) = replies.recv().await {
                events.tell(Event::Gathered(worker, number, sessions));
            }
        });
        let wanted = (None, at_most.min(MOST_SHOWN));
        let next = self.questions.sessions(asker, wanted, &self.living(), Instant::now());
        self.go_on(next);
    }

    fn deny(&mut self, request: DenyRequest, asker: Asker) -> Vec<Next> {
        let (change, reply) = match request {
            DenyRequest::Add { network, for_s, reason, close } => {
                match self.denials.add(network, for_s, reason.as_deref()) {
                    Ok(change) => {
                        info!(%network, for_s, reason, close, "denied by the operator");
                        (Some(change.closing(close)), Reply::Deny(DenyReply::Added { closed: Vec::new() }))
                    }
                    Err(error) => (None, Reply::Refused { reason: error.to_string() }),
                }
            }
            DenyRequest::List => (None, Reply::Deny(DenyReply::Listed(self.denials.rows()))),
            DenyRequest::Remove { network } => {
                let (change, reply) = self.denials.remove(network);
                if change.is_some() {
                    info!(%network, "denied no longer");
                }
                (change, Reply::Deny(reply))
            }
        };
        match (change, reply) {
            (Some(change), Reply::Deny(reply)) => {
                self.questions.deny(asker, (change, reply), &self.living(), Instant::now())
            }
            (_, reply) => {
                // Nobody listens who has lost patience.
                asker.send(reply).ok();
                Vec::new()
            }
        }
    }

    /// Does what questions want done.
    pub(super) fn go_on(&self, next: Vec<Next>) {
        for one in next {
            match one {
                Next::Tell(worker, order) => self.tell(worker, order),
                Next::Status(asker) => {
                    // Nobody listens who has lost patience.
                    asker.send(Reply::Status(Box::new(self.status()))).ok();
                }
            }
        }
    }

    /// Everybody who could answer.
    pub(super) fn living(&self) -> Vec<WorkerId> {
        self.crew.members().map(|(id, _)| id).collect()
    }

    async fn reload_for(&mut self, asker: Asker) {
        if self.stopping.is_some() {
            asker.send(Reply::Refused { reason: "mmproxy is stopping".to_owned() }).ok();
            return;
        }
        // What is read already may not be what is meant.
        let askers =
            if self.crew.is_reloading() { &mut self.next_reload_askers } else { &mut self.reload_askers };
        askers.push(asker);
        self.reload().await;
    }

    fn status(&self) -> Status {
        let shift = &self.shifts[&self.current];
        let services = shift.services.all.iter().map(|service| ServiceStatus {
            name: service.spec.name.clone(),
            protocol: service.return_path.transport().to_string(),
            listen: shift.sockets.addresses_of(service).iter().map(ToString::to_string).collect(),
            targets: service
                .fixed_targets()
                .iter()
                .flat_map(Targets::iter)
                .map(|target| target.to_string())
                .collect(),
        });
        let workers = self.crew.members().map(|(id, member)| WorkerStatus {
            worker: id.0,
            pid: self.processes.get(&id).map_or(0, |process| process.pid().as_raw()),
            state: member.state().to_owned(),
        });
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            services: services.collect(),
            workers: workers.collect(),
            counted: self.tally.all(),
        }
    }

    /// Tells what came of a reload.
    pub(super) fn reload_ended(&mut self, reply: &Reply) {
        for asker in std::mem::take(&mut self.reload_askers) {
            asker.send(reply.clone()).ok();
        }
    }

    /// What a worker that is ready now is to answer, too.
    pub(super) fn brief(&self, worker: WorkerId) {
        if let Some(list) = self.denials.snapshot() {
            self.tell(worker, Order::Deny(vec![list]));
        }
        let next = self.questions.of_new(worker);
        self.go_on(next);
    }

    /// Tells workers nothing any more that nobody wants to hear.
    pub(super) fn look_at_questions(&mut self) {
        let (workers, now) = (self.living(), Instant::now());
        let next = self.questions.look(&workers, now);
        self.go_on(next);
    }

    /// A worker answers nothing any more.
    pub(super) fn forget(&mut self, worker: WorkerId) {
        let next = self.questions.gone(worker);
        self.go_on(next);
    }

    /// A worker answers.
    pub(super) fn note_answer(&mut self, worker: WorkerId, number: u64, answer: Answer) {
        let next = self.questions.answered(number, worker, answer);
        self.go_on(next);
    }
}

/// Whatever a worker asks for: no page shows more.
const MOST_SHOWN: usize = 1000;
