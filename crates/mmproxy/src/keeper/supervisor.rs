//! Serving: starts workers, keeps them alive, replaces them, and ends them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use mmproxy_forwarder::{Namespace, OwnAddresses};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until};
use tracing::{error, info, warn};

use super::activated::Activated;
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
use crate::control::Reply;
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

    /// Starts a worker for every group of a generation.
    async fn start(&mut self, purpose: Purpose, generation: Generation) {
        let shift = &self.shifts[&generation];
        let mut workers = Vec::new();
        for group in 0..shift.groups.len() {
            let Some(place) = shift.ground.place(group) else {
                // Its namespace went away in between: the follower says when it is back.
                continue;
            };
            self.last_worker += 1;
            let id = WorkerId(self.last_worker);
            match shift.start(id, group, place, self.executable.clone(), &self.events).await {
                Ok(process) => {
                    self.processes.insert(id, process);
                    workers.push((id, group));
                }
                Err(error) => {
                    workers.iter().for_each(|(id, _)| self.kill(*id));
                    let failure = not_started(&self.executable, error);
                    self.act(Action::Failed(purpose, generation, group, failure)).await;
                    return;
                }
            }
        }
        self.crew.begin(purpose, generation, &workers);
    }

    async fn start_group(
        &mut self,
        purpose: Purpose,
        generation: Generation,
        group: usize,
        place: Option<Namespace>,
    ) {
        let Some(shift) = self.shifts.get(&generation) else { return };
        self.last_worker += 1;
        let id = WorkerId(self.last_worker);
        match shift.start(id, group, place, self.executable.clone(), &self.events).await {
            Ok(process) => {
                self.processes.insert(id, process);
                self.crew.begin(purpose, generation, &[(id, group)]);
            }
            Err(error) => {
                warn!(
                    reason = not_started(&self.executable, error).reason(),
                    "a worker could not be started"
                );
                self.again(generation, group);
            }
        }
    }

    fn started(&mut self) {
        let shift = &self.shifts[&self.current];
        let addresses = shift.addresses();
        for address in &addresses {
            self.console.always(format_args!("[+] Listening on {address}"));
        }
        self.stop.ready(&addresses);
        notify::ready(&self.summary());
    }

    /// A group without worker gets one: at once, or after a pause if that has not helped before.
    fn again(&mut self, generation: Generation, group: usize) {
        if self.stopping.is_some() || generation != self.current {
            return;
        }
        let now = Instant::now();
        let at = self.backoff.entry((generation, group)).or_default().next(now);
        self.due.insert((generation, group), at);
    }

    async fn overdue(&mut self) {
        let now = Instant::now();
        if let Some(deadline) = self.stopping
            && deadline <= now
        {
            warn!("workers did not end in time; they are killed");
            self.processes.values().for_each(Process::kill);
            self.stopping = Some(now + PATIENCE);
        }
        let due: Vec<_> = self.due.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect();
        for (generation, group) in due {
            self.due.remove(&(generation, group));
            let place = self.shifts.get(&generation).and_then(|shift| shift.ground.place(group));
            // Without its namespace nothing can be started; the follower says when it is back.
            if let Some(place) = place {
                self.start_group(Purpose::Restart, generation, group, place).await;
            }
        }
    }

    /// Reads everything again; whatever is wrong with it, what is served stays as it is.
    pub(super) async fn reload(&mut self) {
        if self.crew.is_reloading() {
            self.reload_again = true;
            return;
        }
        info!("reloading");
        notify::reloading();
        let generation = Generation(self.shifts.keys().next_back().map_or(0, |last| last.0) + 1);
        match self.next_shift(generation).await {
            Ok(shift) => {
                self.shifts.insert(generation, shift);
                self.start(Purpose::Reload, generation).await;
            }
            Err(failure) => self.not_reloaded(generation, &failure).await,
        }
    }

    async fn next_shift(&self, generation: Generation) -> Result<Shift, Failure> {
        let former = &self.shifts[&self.current].sockets;
        let spec = self.source.read()?;
        Shift::prepare(
            spec,
            generation,
            former,
            &mut Activated::default(),
            &self.events,
            &mut Console::silent(),
        )
        .await
    }

    async fn reloaded(&mut self, generation: Generation) {
        self.current = generation;
        self.tally.reloaded(true);
        self.tally.watch(self.shifts[&generation].return_paths.clone());
        self.due.clear();
        self.backoff.clear();
        info!("reloaded");
        self.reload_ended(&Reply::Reloaded);
        notify::ready(&self.summary());
        self.retire().await;
        self.once_more().await;
    }

    async fn not_reloaded(&mut self, generation: Generation, failure: &Failure) {
        for line in failure.to_string().lines() {
            error!("{line}");
        }
        self.tally.reloaded(false);
        error!("not reloaded: what was served before is served on");
        self.reload_ended(&Reply::Refused { reason: failure.to_string() });
        // Its workers, if there are any, are on their way out; what they need goes with the last of them.
        if let Some(shift) = self.shifts.remove(&generation) {
            tokio::spawn(shift.ground.release());
        }
        notify::ready(&format!("{}; the last reload was refused", self.summary()));
        self.once_more().await;
    }

    fn summary(&self) -> String {
        let shift = &self.shifts[&self.current];
        let (services, addresses) = (shift.services.all.len(), shift.addresses().len());
        format!("serving on {addresses} addresses, services: {services}")
    }

    async fn once_more(&mut self) {
        if std::mem::take(&mut self.reload_again) {
            self.reload_askers = std::mem::take(&mut self.next_reload_askers);
            Box::pin(self.reload()).await;
        }
    }

    /// Gives up what only workers needed that are gone.
    async fn retire(&mut self) {
        let newest = self.shifts.keys().next_back().copied();
        let over: Vec<_> = self
            .shifts
            .keys()
            .copied()
            .filter(|generation| {
                *generation != self.current && Some(*generation) != newest && !self.crew.has(*generation)
            })
            .collect();
        for generation in over {
            if let Some(shift) = self.shifts.remove(&generation) {
                shift.ground.release().await;
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

    /// What is looked at again and again: do the workers answer, are the host's addresses the same?
    fn beat(&mut self) {
        notify::alive();
        self.look_at_questions();
        self.denials.keep();
        let now = Instant::now();
        let silent: Vec<_> =
            self.unanswered.iter().filter(|(_, since)| **since + HUNG < now).map(|(id, _)| *id).collect();
        for id in silent {
            error!(worker = %id, "a worker does not answer any more; it is killed");
            self.unanswered.remove(&id);
            self.kill(id);
        }
        let serving: Vec<_> = self.crew.serving().collect();
        for (id, member) in &serving {
            if !self.unanswered.contains_key(id) {
                self.unanswered.insert(*id, now);
                self.tell(*id, Order::Ping);
            }
            let elsewhere = self
                .shifts
                .get(&member.generation)
                .is_some_and(|shift| shift.groups[member.group].netns.is_some());
            if elsewhere {
                self.tell_host(*id);
            }
        }
    }

    /// A worker in another namespace cannot ask for the host's addresses.
    fn tell_host(&mut self, id: WorkerId) {
        match OwnAddresses::of_this_host() {
            Ok(own) => {
                let host = Addresses::from(&own);
                if self.host.as_ref() != Some(&host) {
                    self.host = Some(host.clone());
                }
                self.tell(id, Order::Host(host));
            }
            Err(error) => warn!(%error, "cannot read this host's addresses; the last known are used"),
        }
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

fn not_started(executable: &std::path::Path, error: std::io::Error) -> Failure {
    Failure::new(Exit::Unavailable, NotStarted { executable: executable.to_owned(), error })
}

#[derive(Debug, thiserror::Error)]
#[error("cannot start a worker from {executable}")]
struct NotStarted {
    executable: PathBuf,
    #[source]
    error: std::io::Error,
}

/// Between two looks at the workers.
const BEAT: Duration = Duration::from_secs(2);

/// How long a worker may owe an answer: its threads do nothing that takes longer than milliseconds.
const HUNG: Duration = Duration::from_secs(30);

/// How long a worker may take to end once it has nothing left to wait for.
const PATIENCE: Duration = Duration::from_secs(5);
