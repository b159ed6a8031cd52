//! Everything at once, for minutes or hours: one gateway of one configuration file with TCP and UDP, many clients, and one
//! fault after the other. At the end of each round every session is accounted for, and nothing has leaked.
//!
//! `soak [MINUTES [SEED]]`, 3 minutes by default; the seed is printed, and decides what happens in which order. `MMPROXY_BIN`
//! names the executable. See `ci/soak.sh`.

mod accounts;
mod chance;
mod faults;
mod load;
mod server;
mod world;

use std::env::args;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use harness::{State, isolated_program};

use self::accounts::Accounts;
use self::chance::Chance;
use self::faults::Faults;
use self::load::Load;
use self::world::World;

fn main() -> ExitCode {
    isolated_program(|| match Plan::from_arguments() {
        Ok(plan) => soak(&plan),
        Err(mistake) => {
            eprintln!("soak: {mistake}; usage: soak [MINUTES [SEED]]");
            ExitCode::from(64)
        }
    })
}

/// How long, and what happens.
struct Plan {
    time: Duration,
    seed: u64,
}

impl Plan {
    fn from_arguments() -> Result<Self, String> {
        let mut words = args().skip(1);
        let minutes = words.next().map_or(Ok(3), |word| word.parse::<u64>().map_err(|_| word));
        let minutes = minutes.map_err(|word| format!("{word:?} is no number of minutes"))?;
        if !(1..=24 * 60).contains(&minutes) {
            return Err("from 1 minute to a day".to_owned());
        }
        let seed = match words.next() {
            Some(word) => word.parse().map_err(|_| format!("{word:?} is no seed"))?,
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs()),
        };
        Ok(Self { time: Duration::from_secs(60 * minutes), seed })
    }
}

fn soak(plan: &Plan) -> ExitCode {
    println!("soak: {} minutes, seed {}", plan.time.as_secs() / 60, plan.seed);
    let start = Instant::now();
    let world = World::new();
    let before = State::of(&world.net.gateway);
    let namespaces = accounts::network_namespaces();
    world.start();
    let load = Load::new(plan.seed);
    let verdict = thread::scope(|scope| {
        load.start(&world, scope);
        // Who looks whether clients are served is one.
        let verdict = world.net.balancer.run(|| rounds(plan, start, &world, &load));
        load.end();
        verdict
    });
    let verdict = verdict.and_then(|()| {
        let finished = world.stop();
        if finished.status.code() != Some(0) {
            return Err(format!("the gateway ended with {}; {finished}", finished.status));
        }
        let differences = State::of(&world.net.gateway).differences(&before);
        if !differences.is_empty() {
            return Err(format!("the host is not as it was:\n{}", differences.join("\n")));
        }
        let left = accounts::network_namespaces();
        (left == namespaces).then_some(()).ok_or_else(|| {
            format!("there are network namespaces that were not there before: {left:?}, not {namespaces:?}")
        })
    });
    println!("{}", load.summary());
    match verdict {
        Ok(()) => {
            println!("soak: held for {} s", start.elapsed().as_secs());
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("soak: FAILED after {} s, seed {}: {reason}", start.elapsed().as_secs(), plan.seed);
            eprintln!("The gateway's last lines:\n{}", world.last_lines());
            ExitCode::FAILURE
        }
    }
}

/// Load and faults, a pause, the accounts; again until the time is over.
fn rounds(plan: &Plan, start: Instant, world: &World, load: &Load) -> Result<(), String> {
    let mut accounts = Accounts::new();
    let mut faults = Faults::new(Chance::new(plan.seed));
    for round in 0.. {
        load.resume();
        let until = Instant::now() + ROUND.min(plan.time / 6);
        while Instant::now() < until {
            // The first round is the measure of the others.
            if round > 0 {
                faults.next(world, load, &mut accounts)?;
            }
            thread::sleep(faults.rest());
            accounts.look(world, load)?;
            load.verdict()?;
        }
        load.pause()?;
        let said = accounts.settle(world, load, round == 0)?;
        println!("round {round}: {said}");
        if start.elapsed() >= plan.time {
            break;
        }
    }
    println!("faults: {}", faults.summary());
    println!("closed: {}", accounts.summary());
    faults.expect_each_kind()
}

/// Between two looks at the accounts.
const ROUND: Duration = Duration::from_secs(25);
