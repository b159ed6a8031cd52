//! One measurement: one case, one subject, once.

mod idle;

use std::io;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use harness::expect::within;

use crate::case::{Case, Direction, HowMany, Load, Way};
use crate::clients::Clients;
use crate::gateway::Gateway;
use crate::generator::open::open;
use crate::generator::{Outcome, Route, Shared, bulk, connections, datagrams, ping_pong};
use crate::measured::Measured;
use crate::stage::{Stage, TargetProcess};
use crate::subject::Subject;
use crate::target::Counts;
use crate::usage::Usage;
use crate::wire::Role;

/// How long and how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) rounds: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measure: Duration,
    pub(crate) idle_sessions: usize,
    pub(crate) idle_flows: usize,
    /// For the case that goes to the descriptor limit.
    pub(crate) most_sessions: usize,
    pub(crate) variants: bool,
}

/// Measures `subject` on its `stage`.
pub(crate) fn measure(
    case: &Case,
    subject: &Subject,
    round: usize,
    stage: &mut Stage,
    clients: &Clients,
    pace: &Pace,
) -> Measured {
    let mut measured = Measured {
        case: case.name.to_owned(),
        subject: subject.name.clone(),
        round,
        unit: case.load.unit().to_owned(),
        ..Measured::default()
    };
    if let Some(why) = subject.cannot(case) {
        why.clone_into(&mut measured.skipped);
        return measured;
    }
    let gateway = match subject.start(stage, case.family, case.load.protocol()) {
        Ok(gateway) => gateway,
        Err(error) => {
            measured.faults = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            return measured;
        }
    };
    let to = if subject.is_direct() { Stage::direct(case.family) } else { Stage::listen(case.family) };
    let scene = Scene {
        route: Route { to, announce: subject.announce(case.version), clients },
        beside: Route { to: Stage::direct(case.family), announce: None, clients },
        network: stage.network.balancer.clone(),
        pace: *pace,
    };
    let mut run = Run { gateway, target: &mut stage.target, measured };
    run.measured.rss_before_kib = run.gateway_usage().rss_kib;
    run.measured.descriptors_before = run.gateway_usage().descriptors;
    let done = match case.load {
        Load::Idle { how_many: HowMany::Flows } => run.idle_flows(&scene),
        Load::Idle { how_many } => run.idle(&scene, how_many),
        Load::Bulk { .. }
        | Load::Connections { .. }
        | Load::PingPong { .. }
        | Load::Mixed { .. }
        | Load::Exchange { .. }
        | Load::Flood { .. } => run.load(&scene, case.load),
    };
    if let Err(error) = done {
        run.fault(&format!("the bench itself failed: {error}"));
    }
    if let Some(ended) = run.gateway.as_mut().and_then(Gateway::ended) {
        run.fault(&format!("the gateway ended: {ended}"));
    }
    run.measured
}

/// What a load needs to know of where it runs.
struct Scene<'a> {
    route: Route<'a>,
    /// Past the gateway.
    beside: Route<'a>,
    network: harness::Namespace,
    pace: Pace,
}

struct Run<'a> {
    gateway: Option<Gateway>,
    target: &'a mut TargetProcess,
    measured: Measured,
}

/// Everything that is read at the beginning and at the end of the measured time.
struct Moment {
    counts: Counts,
    operations: u64,
    received: u64,
    gateway: Usage,
    generator: Usage,
    target: Usage,
}

impl Run<'_> {
    fn fault(&mut self, fault: &str) {
        let faults = &mut self.measured.faults;
        if !faults.is_empty() {
            faults.push_str("; ");
        }
        // One line in tables and on the terminal.
        faults.push_str(&fault.split_whitespace().collect::<Vec<_>>().join(" "));
    }

    fn gateway_usage(&self) -> Usage {
        self.gateway.as_ref().map(Gateway::usage).unwrap_or_default()
    }

    fn load(&mut self, scene: &Scene<'_>, load: Load) -> io::Result<()> {
        let before = self.target.counts()?;
        let shared = Shared::default();
        let beside = Shared::default();
        let (outcome, bulk_outcome, moments) = thread::scope(|scope| {
            let main = scope.spawn(|| scene.network.run(|| generate(load, scene, &shared)));
            let bulk = matches!(load, Load::Mixed { .. })
                .then(|| scope.spawn(|| scene.network.run(|| uploads_beside(load, scene, &beside))));
            let moments = self.watch(scene, &shared, &beside, || main.is_finished());
            shared.stop.store(true, Ordering::Relaxed);
            beside.stop.store(true, Ordering::Relaxed);
            let outcome = main.join().expect("generators do not panic");
            let bulk = bulk.map(|bulk| bulk.join().expect("generators do not panic"));
            (outcome, bulk, moments)
        });
        let outcome = outcome?;
        let (first, last) = moments?;
        let mut faults = outcome.faults.clone();
        if let Some(bulk) = bulk_outcome {
            faults.extend(bulk?.faults);
        }
        for fault in faults {
            self.fault(&fault);
        }
        self.account(load, &outcome, &first, &last);
        self.check(load, &before, &shared, &beside)
    }

    /// Waits until the load runs, then for the time to measure.
    fn watch(
        &mut self,
        scene: &Scene<'_>,
        shared: &Shared,
        beside: &Shared,
        over: impl Fn() -> bool,
    ) -> io::Result<(Moment, Moment)> {
        within(GETTING_READY, || (over() || shared.running.load(Ordering::Relaxed)).then_some(()));
        pause(scene.pace.warm_up, &over);
        shared.measuring.store(true, Ordering::Relaxed);
        let first = self.moment(shared, beside)?;
        pause(scene.pace.measure, &over);
        let last = self.moment(shared, beside)?;
        shared.measuring.store(false, Ordering::Relaxed);
        Ok((first, last))
    }

    fn moment(&mut self, shared: &Shared, beside: &Shared) -> io::Result<Moment> {
        Ok(Moment {
            counts: self.target.counts()?,
            operations: shared.operations.load(Ordering::Relaxed),
            received: shared.received.load(Ordering::Relaxed) + beside.received.load(Ordering::Relaxed),
            gateway: self.gateway_usage(),
            generator: Usage::alone(),
            target: self.target.usage(),
        })
    }

    /// What the two moments say.
    fn account(&mut self, load: Load, outcome: &Outcome, first: &Moment, last: &Moment) {
        let seconds = last.counts.at_ns.saturating_sub(first.counts.at_ns) as f64 / 1e9;
        let operations = match load {
            Load::Bulk { direction: Direction::Upload, .. } => last.counts.received - first.counts.received,
            Load::Bulk { direction: Direction::Download, .. } => last.received - first.received,
            Load::Flood { .. } => last.counts.datagrams - first.counts.datagrams,
            Load::Connections { .. }
            | Load::PingPong { .. }
            | Load::Mixed { .. }
            | Load::Idle { .. }
            | Load::Exchange { .. } => last.operations - first.operations,
        } as f64;
        let measured = &mut self.measured;
        measured.seconds = seconds;
        measured.operations = operations;
        let scale = if matches!(load, Load::Bulk { .. }) { 8.0 / 1e9 } else { 1.0 };
        // Nothing came through: there is a fault to read, but no rate.
        measured.rate = (operations > 0.0 && seconds > 0.0).then(|| operations * scale / seconds);
        let cpu = last.gateway.cpu_since(&first.gateway);
        measured.gateway_cpu_s = cpu.seconds;
        measured.gateway_user_cpu_s = cpu.user;
        // With bulk beside it, the CPU time is not the small messages' own.
        if self.gateway.is_some() && operations > 0.0 && !matches!(load, Load::Mixed { .. }) {
            measured.gateway_cpu_per_unit = Some(cpu.seconds * load.cpu_unit().0 / operations);
        }
        measured.generator_cpu_s = last.generator.cpu_since(&first.generator).seconds;
        measured.target_cpu_s = last.target.cpu_since(&first.target).seconds;
        measured.rss_kib = last.gateway.rss_kib;
        measured.descriptors = last.gateway.descriptors;
        if !outcome.latency.is_empty() {
            let quantile = |quantile| Some(outcome.latency.value_at_quantile(quantile) as f64 / 1e3);
            (measured.p50_us, measured.p99_us, measured.p999_us) =
                (quantile(0.5), quantile(0.99), quantile(0.999));
        }
        measured.lost = outcome.lost;
        if matches!(load, Load::Flood { .. }) {
            measured.lost = (last.operations - first.operations)
                .saturating_sub(last.counts.datagrams - first.counts.datagrams);
        }
    }

    /// Compares what the generator sent with what the target received, and the other way round.
    fn check(&mut self, load: Load, before: &Counts, shared: &Shared, beside: &Shared) -> io::Result<()> {
        let sent = shared.sent.load(Ordering::Relaxed) + beside.sent.load(Ordering::Relaxed);
        let received = shared.received.load(Ordering::Relaxed);
        let uploads = match load {
            Load::Bulk { direction, .. } => Some(direction == Direction::Upload),
            Load::Mixed { .. }
            | Load::Connections { .. }
            | Load::PingPong { .. }
            | Load::Idle { .. }
            | Load::Exchange { .. }
            | Load::Flood { .. } => None,
        };
        // A gateway may end the generator's side while the target still reads what it was sent.
        within(CLOSING, || {
            let counts = self.target.counts().ok()?;
            (counts.closed == counts.accepted).then_some(())
        });
        let after = self.target.counts()?;
        let (there, back) = (after.received - before.received, after.sent - before.sent);
        match uploads {
            Some(true) => {
                (self.measured.sent, self.measured.received) = (sent, there);
                if sent != there {
                    self.fault(&format!("of {sent} bytes sent the target received {there}"));
                }
            }
            Some(false) => {
                (self.measured.sent, self.measured.received) = (back, received);
                // What the target had put into its socket when it was told to stop arrives too, unless it is lost.
                if back != received {
                    self.fault(&format!("of {back} bytes that the target sent {received} arrived"));
                }
            }
            None => {}
        }
        self.measured.wrong_sources = after.strangers - before.strangers;
        if self.measured.wrong_sources > 0 {
            let example = after.stranger.unwrap_or_default();
            self.fault(&format!("{} wrong sources: the target {example}", self.measured.wrong_sources));
        }
        if after.corrupt > before.corrupt {
            self.fault(&format!("the target found {} pieces of other bytes", after.corrupt - before.corrupt));
        }
        Ok(())
    }
}

/// The load's own thread.
fn generate(load: Load, scene: &Scene<'_>, shared: &Shared) -> io::Result<Outcome> {
    let sessions = |role, count| -> io::Result<_> {
        let opened = open(&scene.route, role, count, PATIENCE)?;
        let fault = opened.fault();
        shared.running.store(true, Ordering::Relaxed);
        Ok((opened.sessions, fault))
    };
    let (mut outcome, fault) = match load {
        Load::Bulk { direction, streams } => {
            let (open, fault) = sessions(role(direction), streams)?;
            (bulk::run(direction, open, shared)?, fault)
        }
        Load::PingPong { connections, size } => {
            let (open, fault) = sessions(Role::Echo, connections)?;
            (ping_pong::run(open, size, shared)?, fault)
        }
        Load::Mixed { .. } => {
            let (open, fault) = sessions(Role::Echo, MIXED_CONNECTIONS)?;
            (ping_pong::run(open, MIXED_SIZE, shared)?, fault)
        }
        Load::Connections { at_once } => {
            shared.running.store(true, Ordering::Relaxed);
            (connections::run(&scene.route, at_once, shared)?, None)
        }
        Load::Exchange { size, flows } => (datagrams::exchange(&scene.route, size, flows, shared)?, None),
        Load::Flood { size, flows } => (datagrams::flood(&scene.route, size, flows, shared)?, None),
        Load::Idle { .. } => (Outcome::new(), None),
    };
    if let Some(fault) = fault {
        outcome.fault(fault);
    }
    Ok(outcome)
}

/// The bulk half of a mixed load, in a thread of its own so that it does not hold up the small messages here.
fn uploads_beside(load: Load, scene: &Scene<'_>, shared: &Shared) -> io::Result<Outcome> {
    let route = if load == (Load::Mixed { bulk: Way::Direct }) { &scene.beside } else { &scene.route };
    let opened = open(route, Role::Sink, MIXED_UPLOADS, PATIENCE)?;
    let fault = opened.fault();
    let mut outcome = bulk::run(Direction::Upload, opened.sessions, shared)?;
    if let Some(fault) = fault {
        outcome.fault(fault);
    }
    Ok(outcome)
}

const fn role(direction: Direction) -> Role {
    match direction {
        Direction::Upload => Role::Sink,
        Direction::Download => Role::Source,
    }
}

/// Sleeps, but no longer than the load runs.
fn pause(time: Duration, over: &impl Fn() -> bool) {
    let start = Instant::now();
    while !over() {
        let Some(left) = time.checked_sub(start.elapsed()) else { return };
        thread::sleep(left.min(Duration::from_millis(20)));
    }
}

const MIXED_CONNECTIONS: usize = 16;
const MIXED_SIZE: usize = 100;
const MIXED_UPLOADS: usize = 4;
/// How long nothing may happen while sessions are opened.
const PATIENCE: Duration = Duration::from_secs(4);
const GETTING_READY: Duration = Duration::from_secs(20);
/// How long a gateway may take to let go of what was closed.
const CLOSING: Duration = Duration::from_secs(5);
