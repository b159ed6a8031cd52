//! Whether what the gateway counts is what was done, and whether it gives everything back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{read_dir, read_link};
use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Metrics, Usage};

use crate::load::Load;
use crate::world::World;

/// The gateway's books beside the load's.
pub(crate) struct Accounts {
    /// How many connections had been made when; the last [`MEMORY`] of it.
    made: Vec<(Instant, u64)>,
    /// Connections that a killed worker had not told its keeper of, at the very most.
    may_be_missing: u64,
    /// How many were missing at the end of the last round.
    missing: u64,
    /// What keeper and worker used at the end of the first round.
    first: Option<[Usage; 2]>,
    closed: BTreeMap<String, u64>,
}

impl Accounts {
    pub(crate) const fn new() -> Self {
        Self { made: Vec::new(), may_be_missing: 0, missing: 0, first: None, closed: BTreeMap::new() }
    }

    /// A worker is about to be killed: what it counted since it last told its keeper is lost. It tells it every second.
    pub(crate) fn worker_dies(&mut self, load: &Load) {
        let now = load.counts.made.load(SeqCst);
        let then = self.made.iter().rev().find(|(at, _)| at.elapsed() >= MEMORY).map_or(0, |(_, made)| *made);
        self.may_be_missing += now - then;
    }

    /// Whatever happens, sessions that were opened are active or closed, and so are flows.
    pub(crate) fn look(&mut self, world: &World, load: &Load) -> Result<(), String> {
        self.made.push((Instant::now(), load.counts.made.load(SeqCst)));
        if let Some(old) = self.made.iter().rposition(|(at, _)| at.elapsed() >= MEMORY) {
            self.made.drain(..old);
        }
        // Nobody answers while a worker is replaced.
        world.metrics().map_or(Ok(()), |said| balanced(&said))
    }

    /// With every lane at rest: each session that was made is accounted for, and descriptors and memory are back.
    pub(crate) fn settle(&mut self, world: &World, load: &Load, first: bool) -> Result<String, String> {
        let made = load.counts.made.load(SeqCst);
        let said = eventually("every session to be closed", || {
            let said = world.metrics().ok_or("nobody answers for metrics")?;
            balanced(&said)?;
            match said.count("mmproxy_sessions_active") {
                0 => Ok(said),
                active => Err(format!("{active} sessions are active")),
            }
        })?;
        let opened = said.count("mmproxy_sessions_opened_total");
        let missing = made
            .checked_sub(opened)
            .ok_or_else(|| format!("{opened} sessions were opened, but {made} connections were made"))?;
        let newly = missing.checked_sub(self.missing).ok_or("sessions turned up that had been missing")?;
        if newly > self.may_be_missing {
            return Err(format!(
                "{newly} connections of {made} are not accounted for, and killed workers explain {} at most",
                self.may_be_missing
            ));
        }
        (self.missing, self.may_be_missing) = (missing, 0);
        self.closed = said.by_reason("mmproxy_sessions_closed_total");
        if let Some(panicked) = self.closed.get("panicked") {
            return Err(format!("{panicked} sessions panicked"));
        }
        let usage = self.usage(world, first)?;
        Ok(format!(
            "{made} sessions made, {opened} closed for a reason, {missing} lost with their worker's count; {usage}"
        ))
    }

    /// One worker is left, and it and the keeper use what they used at the end of the first round.
    fn usage(&mut self, world: &World, first: bool) -> Result<String, String> {
        let usage = eventually("workers, descriptors and memory to be back", || {
            let workers = world.workers();
            let [worker] = workers[..] else { return Err(format!("there are {} workers", workers.len())) };
            let of = |pid| Usage::of(pid).ok_or_else(|| format!("process {pid} has ended"));
            let usage = [of(world.keeper())?, of(worker)?];
            if let (Some(before), false) = (self.first, first) {
                for (before, now) in before.iter().zip(&usage) {
                    if now.descriptors > before.descriptors + FLOWS {
                        return Err(format!(
                            "{} descriptors, {} before",
                            now.descriptors, before.descriptors
                        ));
                    }
                    if now.resident_kib > before.resident_kib + GROWTH_KIB {
                        return Err(format!("{} KiB, {} KiB before", now.resident_kib, before.resident_kib));
                    }
                }
            }
            Ok(usage)
        })?;
        self.first.get_or_insert(usage);
        let [keeper, worker] = usage;
        Ok(format!(
            "keeper {} descriptors, {} KiB; worker {} descriptors, {} KiB",
            keeper.descriptors, keeper.resident_kib, worker.descriptors, worker.resident_kib
        ))
    }

    pub(crate) fn summary(&self) -> String {
        self.closed.iter().map(|(reason, number)| format!("{number} {reason}")).collect::<Vec<_>>().join(", ")
    }
}

/// Longer than a worker keeps what it counted for itself, also on a machine that is busy.
const MEMORY: Duration = Duration::from_secs(10);
/// Flows of datagrams live on for a while: as many as there are clients and balancers.
const FLOWS: usize = 32;
/// Beside the first round: allocators keep some of what the largest crowd took.
const GROWTH_KIB: usize = 16 << 10;

fn balanced(said: &Metrics) -> Result<(), String> {
    for kind in ["sessions", "flows"] {
        let of = |what: &str| said.count(&format!("mmproxy_{kind}_{what}"));
        let (opened, active, closed) = (of("opened_total"), of("active"), of("closed_total"));
        if active + closed != opened {
            return Err(format!("{opened} {kind} were opened, {active} are active and {closed} closed"));
        }
    }
    Ok(())
}

/// Network namespaces that a process is in.
pub(crate) fn network_namespaces() -> BTreeSet<PathBuf> {
    let processes = read_dir("/proc").expect("/proc is mounted").flatten();
    processes.filter_map(|process| read_link(process.path().join("ns/net")).ok()).collect()
}

fn eventually<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(reason) if start.elapsed() > PATIENCE => {
                return Err(format!("waited {PATIENCE:?} for {what}: {reason}"));
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
