//! What honest clients notice of a balancer that means harm: how many of them are answered in time, undisturbed and under
//! each attack, in turns, and what the gateway's memory grows to.
//!
//! `hostile [SECONDS [TURNS [ATTACK]]]`: so long is each turn with and each without the attack, so many are there of both, and
//! the attack is the one whose name begins so, or each in turn. The executable is that of `MMPROXY_BIN`. See `ci/hostile.sh`.
//!
//! Honest traffic comes at a fixed rate, far below what the gateway can serve, whether it is answered or not, and each
//! question is timed from the moment it was due. So what is measured is whether clients are kept waiting. How much work
//! the machine could do at most, which depends on everything else that runs on it, is another question, and that
//! of `mmproxy-bench`.

mod attack;
mod attacks;
mod honest;
mod pace;
mod report;
mod server;
mod world;

use std::env::args;
use std::process::ExitCode;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Usage, isolated_program};

use self::attack::Attack;
use self::honest::{Honest, Tally};
use self::report::Outcome;
use self::world::World;

fn main() -> ExitCode {
    isolated_program(|| match Plan::from_arguments() {
        Ok(plan) => hostile(&plan),
        Err(mistake) => {
            eprintln!("hostile: {mistake}; usage: hostile [SECONDS [TURNS [ATTACK]]]");
            ExitCode::from(64)
        }
    })
}

/// How long, and how often.
#[derive(Clone, Debug)]
struct Plan {
    turn: Duration,
    turns: u32,
    /// What the names of the attacks begin with.
    attack: String,
}

impl Plan {
    fn from_arguments() -> Result<Self, String> {
        let mut words = args().skip(1);
        let turn = Duration::from_secs(number(words.next(), 20, 5..=600)?);
        let turns = u32::try_from(number(words.next(), 3, 1..=100)?).expect("at most 100");
        Ok(Self { turn, turns, attack: words.next().unwrap_or_default() })
    }

    /// How many a second make `total` in all turns together, and `most` at most.
    fn rate(&self, total: u32, most: u32) -> u32 {
        total.div_ceil(self.seconds()).min(most)
    }

    /// Of all turns under attack together.
    fn seconds(&self) -> u32 {
        self.turns * u32::try_from(self.turn.as_secs()).expect("at most 600")
    }
}

fn number(word: Option<String>, default: u64, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let Some(word) = word else { return Ok(default) };
    let number = u64::from_str(&word).map_err(|_| format!("{word:?} is no number"))?;
    range.contains(&number).then_some(number).ok_or_else(|| format!("{number} is not in {range:?}"))
}

fn hostile(plan: &Plan) -> ExitCode {
    println!(
        "hostile: {} honest connections and {} honest questions a second; {} turns of {} s without and with each attack",
        honest::RATE,
        honest::RATE,
        plan.turns,
        plan.turn.as_secs()
    );
    let crowd = world::raise_descriptors();
    let attacks = Attack::all(plan, crowd);
    let attacks = attacks.iter().filter(|attack| attack.name.starts_with(&plan.attack));
    let outcomes: Vec<_> = attacks.map(|attack| under(attack, plan)).collect();
    println!("\n{}", report::table(&outcomes));
    let failures: Vec<_> = outcomes.iter().flat_map(Outcome::failures).collect();
    for failure in &failures {
        eprintln!("hostile: FAILED: {failure}");
    }
    if outcomes.is_empty() {
        eprintln!("hostile: no attack is called {:?}", plan.attack);
    }
    if failures.is_empty() && !outcomes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A gateway of its own, honest traffic all the time, and the attack in every other turn.
fn under(attack: &Attack, plan: &Plan) -> Outcome {
    println!("\n{}: {}", attack.name, attack.what);
    let world = World::start(attack.configuration);
    let honest = Honest::start(&world);
    // What the first clients touch is in memory then.
    honest.turn(WARM_UP);
    let before = world.usage();
    let (mut calm, mut attacked, mut peak) = (Tally::default(), Tally::default(), before);
    for _ in 0..plan.turns {
        let start = world.usage().cpu;
        calm.add(honest.turn(plan.turn));
        calm.cpu += world.usage().cpu - start;
        let start = world.usage().cpu;
        let end = Instant::now() + plan.turn;
        let (tally, highest) = thread::scope(|scope| {
            let attacker = scope.spawn(|| world.net.balancer.run(|| attack.run(end)));
            let watcher = scope.spawn(|| watch(&world, end));
            let tally = honest.turn(plan.turn);
            let highest = watcher.join().expect("the watcher does not panic");
            attacker.join().expect("the attacker does not panic");
            (tally, highest)
        });
        attacked.add(tally);
        attacked.cpu += world.usage().cpu - start;
        peak.resident_kib = peak.resident_kib.max(highest.resident_kib);
        peak.descriptors = peak.descriptors.max(highest.descriptors);
        // What the attack has left behind is no part of the next calm turn.
        world.settle(honest::RATE);
    }
    drop(honest);
    let outcome = Outcome {
        attack: attack.name,
        calm,
        attacked,
        held: attack.held,
        descriptors: (before.descriptors, peak.descriptors),
        grown_kib: peak.resident_kib.saturating_sub(before.resident_kib),
        bound_kib: attack.bound_kib,
        malformed: attack.malformed,
        books: world.end(),
    };
    println!("{outcome}");
    outcome
}

/// The most that the worker used until `end`.
fn watch(world: &World, end: Instant) -> Usage {
    let mut most = world.usage();
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(200));
        let now = world.usage();
        most.resident_kib = most.resident_kib.max(now.resident_kib);
        most.descriptors = most.descriptors.max(now.descriptors);
    }
    most
}

/// Long enough for every path of the honest traffic.
const WARM_UP: Duration = Duration::from_secs(3);
