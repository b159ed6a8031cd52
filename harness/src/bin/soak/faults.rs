//! What goes wrong, one thing after the other.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Namespace, shell};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::accounts::Accounts;
use crate::chance::Chance;
use crate::load::Load;
use crate::world::World;

/// Faults in an order that chance decides.
pub(crate) struct Faults {
    chance: Chance,
    /// What is left of a round through all kinds: so that a short run has each of them.
    left: Vec<Fault>,
    /// How often each kind has happened, and how long the longest took until it was over.
    done: BTreeMap<&'static str, (u64, Duration)>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The same configuration again.
    Reload,
    /// Another service, and then not.
    OtherConfiguration,
    /// A configuration that is none: it changes nothing.
    WrongConfiguration,
    TargetRestart,
    BalancerRestart,
    WorkerKill,
    DescriptorPressure,
    PacketLoss,
}

const KINDS: [Fault; 8] = [
    Fault::Reload,
    Fault::OtherConfiguration,
    Fault::WrongConfiguration,
    Fault::TargetRestart,
    Fault::BalancerRestart,
    Fault::WorkerKill,
    Fault::DescriptorPressure,
    Fault::PacketLoss,
];

impl Faults {
    pub(crate) const fn new(chance: Chance) -> Self {
        Self { chance, left: Vec::new(), done: BTreeMap::new() }
    }

    /// How long nothing goes wrong.
    pub(crate) fn rest(&mut self) -> Duration {
        Duration::from_millis(self.chance.between(200, 1500))
    }

    pub(crate) fn next(&mut self, world: &World, load: &Load, accounts: &mut Accounts) -> Result<(), String> {
        if self.left.is_empty() {
            self.left = KINDS.to_vec();
        }
        let at = self.chance.between(0, self.left.len() as u64 - 1);
        let fault = self.left.swap_remove(usize::try_from(at).expect("small"));
        let start = Instant::now();
        let happened = fault.happen(world, load, accounts, &mut self.chance);
        let (times, longest) = self.done.entry(fault.name()).or_default();
        *times += 1;
        *longest = start.elapsed().max(*longest);
        happened.map_err(|reason| format!("{}: {reason}", fault.name()))
    }

    pub(crate) fn summary(&self) -> String {
        self.done
            .iter()
            .map(|(name, (times, longest))| format!("{times} × {name} (at most {longest:.1?})"))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// A run that left one out has not shown what it claims.
    pub(crate) fn expect_each_kind(&self) -> Result<(), String> {
        let missing: Vec<_> =
            KINDS.iter().map(|kind| kind.name()).filter(|name| !self.done.contains_key(name)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("the time was too short for {missing:?}")) }
    }
}

impl Fault {
    const fn name(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::OtherConfiguration => "other configuration",
            Self::WrongConfiguration => "wrong configuration",
            Self::TargetRestart => "target restart",
            Self::BalancerRestart => "balancer restart",
            Self::WorkerKill => "worker kill",
            Self::DescriptorPressure => "descriptor pressure",
            Self::PacketLoss => "packet loss",
        }
    }

    fn happen(
        self,
        world: &World,
        load: &Load,
        accounts: &mut Accounts,
        chance: &mut Chance,
    ) -> Result<(), String> {
        let moment = |chance: &mut Chance| Duration::from_millis(chance.between(300, 1500));
        match self {
            Self::Reload => reload(world, "applied"),
            Self::OtherConfiguration => {
                let more = "[[service]]\nname = \"more\"\nlisten = \"0.0.0.0:2223\"\nallow = \"10.0.0.0/24\"\n\
                            target-v4 = \"127.0.0.1:4000\"\n";
                world.configure(more);
                reload(world, "applied")?;
                thread::sleep(moment(chance));
                world.configure("");
                reload(world, "applied")
            }
            Self::WrongConfiguration => {
                world.configure("[[service]]\nname = \"tcp\"\n");
                let reloaded = reload(world, "refused");
                world.configure("");
                reloaded
            }
            Self::TargetRestart => {
                load.disturb();
                world.stop_targets();
                thread::sleep(moment(chance));
                world.start_targets();
                load.calm()
            }
            Self::BalancerRestart => {
                load.restart_balancer();
                Ok(())
            }
            Self::WorkerKill => {
                let worker = *world.workers().last().ok_or("there is no worker")?;
                load.disturb();
                accounts.worker_dies(load);
                let pid = Pid::from_raw(worker.try_into().expect("small"));
                kill(pid, Signal::SIGKILL).map_err(|error| format!("process {worker}: {error}"))?;
                load.calm()
            }
            Self::DescriptorPressure => {
                let worker = *world.workers().last().ok_or("there is no worker")?;
                load.disturb();
                limit(&world.net.gateway, worker, &chance.between(3, 60).to_string());
                thread::sleep(moment(chance));
                limit(&world.net.gateway, worker, "");
                load.calm()
            }
            Self::PacketLoss => {
                let percent = chance.between(1, 3);
                let ends = [(&world.net.gateway, "lb0"), (&world.net.balancer, "gw0")];
                load.loss_changes();
                for (namespace, device) in ends {
                    lose(namespace, device, percent);
                }
                thread::sleep(moment(chance) * 2);
                for (namespace, _) in ends {
                    shell(namespace, "nft delete table inet weather");
                }
                load.loss_changes();
                Ok(())
            }
        }
    }
}

/// SIGHUP, and what came of it.
fn reload(world: &World, outcome: &str) -> Result<(), String> {
    let before = reloads(world, outcome)?;
    world.with_gateway(|gateway| gateway.signal(Signal::SIGHUP));
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if reloads(world, outcome)? > before {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(format!("within {PATIENCE:?} no reload was {outcome}"))
}

fn reloads(world: &World, outcome: &str) -> Result<f64, String> {
    let start = Instant::now();
    loop {
        if let Some(said) = world.metrics() {
            let label = format!("outcome=\"{outcome}\"");
            return Ok(said.sum("mmproxy_reloads_total", &label));
        }
        if start.elapsed() > PATIENCE {
            return Err("nobody answers for metrics".to_owned());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Drops `percent` of the packets that come in by `device`.
fn lose(namespace: &Namespace, device: &str, percent: u64) {
    let rule = format!("iifname {device} numgen random mod 100 < {percent} drop");
    shell(
        namespace,
        &format!(
            "nft 'table inet weather {{ chain input {{ type filter hook input priority 0; {rule}; }}; }}'"
        ),
    );
}

/// Sets a process's soft limit of descriptors; to the hard one without a number.
fn limit(namespace: &Namespace, pid: u32, soft: &str) {
    let soft = if soft.is_empty() {
        format!("$(prlimit --pid {pid} --nofile --noheadings --output HARD | tr -d ' ')")
    } else {
        soft.to_owned()
    };
    shell(namespace, &format!("prlimit --pid {pid} --nofile={soft}:"));
}

const PATIENCE: Duration = Duration::from_secs(60);
