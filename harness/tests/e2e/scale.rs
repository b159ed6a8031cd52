//! A host whose routing tables are full of other people's rules and routes.

use std::fmt::Write;
use std::time::{Duration, Instant};

use harness::{State, Target, Topology, addr, isolated, mmproxy, run, shell};

#[test]
fn ten_thousand_foreign_rules_and_routes_are_no_trouble_for_setup_and_check() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let address = target.address().to_string();
        let mut batch = String::new();
        for n in 0..MANY {
            let (high, low) = (n / 256, n % 256);
            writeln!(batch, "rule add from 10.{high}.{low}.1 lookup {} priority {}", 1000 + n, 200 + n)
                .expect("memory");
            writeln!(batch, "route add 172.{}.{low}.0/24 dev lb0", 16 + high).expect("memory");
        }
        let file = harness::scratch().join("batch");
        std::fs::write(&file, batch).expect("a directory of this test's own");
        shell(&net.gateway, &format!("ip -batch {}", file.display()));

        let before = State::of(&net.gateway);
        let timed = |words: &[&str]| {
            let started = Instant::now();
            run(&net.gateway, &mut mmproxy(words.iter().copied()), b"").expect_code(0);
            started.elapsed()
        };
        let once = {
            timed(&["setup"]);
            State::of(&net.gateway)
        };
        for round in 0..3 {
            let set_up = timed(&["setup"]);
            let checked = timed(&["check", "-4", &address]);
            println!("round {round}: setup {set_up:?}, check {checked:?}");
            // Whoever takes time for each foreign rule once more takes minutes.
            assert!(set_up < PATIENCE && checked < PATIENCE, "setup {set_up:?}, check {checked:?}");
        }
        State::of(&net.gateway).expect_unchanged_since(&once);
        timed(&["teardown"]);
        State::of(&net.gateway).expect_unchanged_since(&before);
    });
}

const MANY: u32 = 10_000;

/// A busy machine forgiven.
const PATIENCE: Duration = Duration::from_secs(20);
