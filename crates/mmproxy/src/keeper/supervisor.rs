//! Serving: starts workers, keeps them alive, replaces them, and ends them.

mod care;
mod reload;
mod start;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use mmproxy_forwarder::Namespace;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until};
use tracing::{error, info, warn};

use super::announce::announce;
use super::backoff::Backoff;
use super::control::{Asker, Control};
use super::crew::{Action, Crew, Purpose};
use super::denials::Denials;
use super::event::{Event, Events, Generation};
use super::notify;
use super::process::{Ended, Process, WorkerId};
use super::questions::Questions;
use super::shift::Shift;
use super::sockets::Sockets;
use super::source::Source;
use super::stop::Stop;
use super::tally::Tally;
use crate::channel::{Addresses, Order, Report};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::jail::Confined;
use crate::signals::Asked;
use crate::target_netns::NamespaceName;

/// A keeper at work.
pub(crate) struct Supervisor<'a> {
    source: &'a Source,
    console: &'a mut Console,
    pub(super) started: Instant,
    stop: Stop,
    pub(super) events: Events,
    heard: mpsc::UnboundedReceiver<Event>,
    /// Where the executable was at the start: workers are made of what is there now.
    executable: PathBuf,
    pub(super) crew: Crew,
    pub(super) processes: BTreeMap<WorkerId, Process>,
    /// What is served, what is about to be, and what workers that leave still need.
    pub(super) shifts: BTreeMap<Generation, Shift>,
    pub(super) current: Generation,
    last_worker: u64,
    /// Groups that have no worker, and when they get one.
    due: BTreeMap<(Generation, usize), Instant>,
    backoff: BTreeMap<(Generation, usize), Backoff>,
    /// A reload that was asked for during another one.
    reload_again: bool,
    pub(super) stopping: Option<Instant>,
    /// Why serving ends, if nobody asked for it.
    fatal: Option<Failure>,
    /// What was last told about the host's addresses.
    host: Option<Addresses>,
    /// Where requests come from, if anywhere.
    control: Option<Control>,
    pub(super) questions: Questions,
    pub(super) denials: Denials,
    /// Whoever waits for what comes of a reload, and of the next one.
    pub(super) reload_askers: Vec<Asker>,
    pub(super) next_reload_askers: Vec<Asker>,
    /// What workers are confined to.
    in_force: Option<Confined>,
    /// Workers that owe an answer, and since when.
    unanswered: BTreeMap<WorkerId, Instant>,
    pub(super) tally: Tally,
}

impl<'a> Supervisor<'a> {
    pub(crate) fn new(
        source: &'a Source,
        executable: PathBuf,
        console: &'a mut Console,
        stop: Stop,
        (events, heard): (Events, mpsc::UnboundedReceiver<Event>),
        (shift, denials): (Shift, Denials),
    ) -> Self {
        let current = shift.generation;
        let mut tally = Tally::new();
        tally.watch(shift.return_paths.clone());
        Self {
            source,
            console,
            started: Instant::now(),
            stop,
            events,
            heard,
            executable,
            crew: Crew::default(),
            processes: BTreeMap::new(),
            shifts: BTreeMap::from([(current, shift)]),
            current,
            last_worker: 0,
            due: BTreeMap::new(),
            backoff: BTreeMap::new(),
            reload_again: false,
            stopping: None,
            fatal: None,
            host: None,
            control: None,
            questions: Questions::default(),
            denials,
            reload_askers: Vec::new(),
            next_reload_askers: Vec::new(),
            in_force: None,
            unanswered: BTreeMap::new(),
            tally,
        }
    }

    /// Serves until told to stop, and cleans up.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        if let Some(path) = self.shifts[&self.current].services.global.control.clone() {
            match Control::listen(&path, &self.events) {
                Ok(control) => self.control = Some(control),
                Err(failure) => return self.end(Some(failure)).await,
            }
        }
        let shift = &self.shifts[&self.current];
        announce(&shift.ground, &shift.groups, self.console).await;
        self.start(Purpose::Start, self.current).await;
        self.serve().await;
        let fatal = self.fatal.take();
        self.end(fatal).await
    }

    /// Cleans up.
    async fn end(mut self, fatal: Option<Failure>) -> Result<(), Failure> {
        drop(self.control.take());
        self.denials.keep();
        for shift in std::mem::take(&mut self.shifts).into_values() {
            shift.ground.release().await;
        }
        fatal.map_or(Ok(()), Err)
    }

    async fn serve(&mut self) {
        let mut beat = interval(notify::interval().map_or(BEAT, |most| BEAT.min(most)));
        while !(self.stopping.is_some() && self.crew.is_empty()) {
            let next = self.due.values().copied().chain(self.stopping).min();
            tokio::select! {
                event = self.heard.recv() => {
                    // This value has a sender itself.
                    if let Some(event) = event {
                        self.hear(event).await;
                    }
                }
                asked = self.stop.asked() => self.asked(asked).await,
                _ = beat.tick() => self.beat(),
                () = due(next) => self.overdue().await,
            }
        }
    }

    async fn asked(&mut self, asked: Asked) {
        match (asked, self.stopping) {
            (Asked::Stop(reason), None) => {
                info!(reason, "stopping: no new connections, sessions may finish");
                self.drain();
            }
            (Asked::Stop(reason), Some(_)) => {
                info!(reason, "stopping now: the sessions that are left are reset");
                self.cut();
            }
            (Asked::Reload, None) => self.reload().await,
            (Asked::Reload, Some(_)) => info!("no reload: stopping"),
        }
    }

    async fn hear(&mut self, event: Event) {
        match event {
            Event::Said(id, Report::Ready(confined)) => {
                self.confined(&confined);
                self.brief(id);
                let actions = self.crew.ready(id);
                self.act_all(actions).await;
            }
            Event::Said(id, Report::HandedOver) => {
                let actions = self.crew.handed_over(id);
                self.act_all(actions).await;
            }
            Event::Said(id, Report::Failed { exit, reason, hints }) => {
                let failure = Failure::new(Exit::from(exit), reason);
                let failure = hints.into_iter().fold(failure, Failure::hint);
                let actions = self.crew.failed(id, failure);
                self.act_all(actions).await;
            }
            Event::Said(id, Report::Counted(snapshot)) => {
                self.tally.counted(id, *snapshot);
                // Whoever answers by the admin address knows of the others as soon as it has told of itself.
                self.tell(id, Order::Others(Box::new(self.tally.beside(id))));
            }
            Event::Said(id, Report::Answer(number, answer)) => self.note_answer(id, number, answer),
            Event::Said(id, Report::WhoIsServed(number, at_most)) => self.who_is_served(id, number, at_most),
            Event::Gathered(id, number, sessions) => self.tell(id, Order::Served(number, sessions)),
            Event::Said(id, Report::Pong) => drop(self.unanswered.remove(&id)),
            Event::Ended(id, how) => self.ended(id, how).await,
            Event::Entered(generation, name, place) => self.entered(generation, &name, place).await,
            Event::Left(generation, name) => self.left(generation, &name),
            Event::Asked(request, asker) => self.inquire(request, asker).await,
        }
    }

    async fn ended(&mut self, id: WorkerId, how: Ended) {
        self.processes.remove(&id);
        self.unanswered.remove(&id);
        self.forget(id);
        self.tally.ended(id);
        let failure =
            || Failure::new(Exit::Software, format!("worker {id} ended before it was ready: {how}"));
        let actions = self.crew.ended(id, how, failure);
        self.act_all(actions).await;
        self.retire().await;
    }

    /// The namespace of targets was replaced: a new worker is born into it.
    async fn entered(&mut self, generation: Generation, name: &NamespaceName, place: Namespace) {
        let Some(group) = self.group_in(generation, name) else { return };
        self.due.remove(&(generation, group));
        self.start_group(Purpose::Follow, generation, group, Some(place)).await;
    }

    fn left(&self, generation: Generation, name: &NamespaceName) {
        let Some(group) = self.group_in(generation, name) else { return };
        for (id, member) in self.crew.members() {
            if (member.generation, member.group) == (generation, group) {
                self.tell(id, Order::NamespaceGone);
            }
        }
    }

    fn followed(&self, generation: Generation, group: usize) {
        let groups = self.shifts.get(&generation).map(|shift| &shift.groups);
        if let Some(name) = groups.and_then(|groups| groups.get(group)?.netns.as_ref()) {
            info!(namespace = %name, "the target's network namespace is back");
        }
    }

    /// Says what is in force: once, and again when it is another thing.
    fn confined(&mut self, confined: &Confined) {
        if self.in_force.as_ref() == Some(confined) {
            return;
        }
        info!(%confined, "workers are confined");
        for gap in confined.gaps() {
            warn!("{gap}");
        }
        self.in_force = Some(confined.clone());
    }

    fn group_in(&self, generation: Generation, name: &NamespaceName) -> Option<usize> {
        let groups = &self.shifts.get(&generation).filter(|_| generation == self.current)?.groups;
        groups.iter().position(|group| group.netns.as_ref() == Some(name))
    }

    async fn act_all(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.act(action).await;
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Tell(id, Order::Serve) => {
                // Whoever answers by the admin address knows what the one before it had counted.
                self.tell(id, Order::Others(Box::new(self.tally.beside(id))));
                self.tell(id, Order::Serve);
            }
            Action::Tell(id, order) => self.tell(id, order),
            Action::Kill(id) => self.kill(id),
            Action::Done(Purpose::Start, ..) => self.started(),
            Action::Done(Purpose::Reload, generation, _) => self.reloaded(generation).await,
            Action::Done(Purpose::Restart, ..) => info!("another worker serves"),
            Action::Done(Purpose::Follow, generation, group) => self.followed(generation, group),
            Action::Failed(Purpose::Start, _, _, failure) => {
                self.fatal = Some(failure);
                self.drain();
            }
            Action::Failed(Purpose::Reload, generation, _, failure) => {
                self.not_reloaded(generation, &failure).await;
            }
            Action::Failed(Purpose::Restart | Purpose::Follow, generation, group, failure) => {
                warn!(reason = failure.reason(), "a worker could not be started");
                self.again(generation, group);
            }
            Action::Lost(generation, group, how) => {
                self.tally.lost();
                if self.stopping.is_none() {
                    error!(%how, "a worker ended: its sessions are lost, another one is started");
                    self.again(generation, group);
                }
            }
        }
    }

    fn drain(&mut self) {
        let drain = self.shifts[&self.current].services.global.drain;
        self.stopping = Some(Instant::now() + drain + PATIENCE);
        // Workers that are killed then have their own patience.
        notify::stopping(drain + 3 * PATIENCE);
        self.due.clear();
        // Workers close theirs: with these, whoever connects is refused instead of waiting for nobody.
        self.shifts.values_mut().for_each(|shift| shift.sockets = Sockets::default());
        for action in self.crew.drain() {
            match action {
                Action::Tell(id, order) => self.tell(id, order),
                Action::Kill(id) => self.kill(id),
                Action::Done(..) | Action::Failed(..) | Action::Lost(..) => {}
            }
        }
    }

    fn cut(&mut self) {
        self.stopping = Some(Instant::now() + PATIENCE);
        self.processes.values().for_each(|process| process.order(Order::Cut));
    }

    pub(super) fn tell(&self, id: WorkerId, order: Order) {
        if let Some(process) = self.processes.get(&id) {
            process.order(order);
        }
    }

    fn kill(&self, id: WorkerId) {
        if let Some(process) = self.processes.get(&id) {
            process.kill();
        }
    }
}

/// Waits until `at`, or for ever.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Between two looks at the workers.
const BEAT: Duration = Duration::from_secs(2);

/// How long a worker may take to end once it has nothing left to wait for.
const PATIENCE: Duration = Duration::from_secs(5);
