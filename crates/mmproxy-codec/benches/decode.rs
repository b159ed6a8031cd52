//! Nanoseconds per header, ours beside the other crates', in one run.

use std::time::Instant;

use mmproxy_codec_benches::{call, rows};

fn main() {
    println!("{:<18} {:<22} {:>9} {:>9} {:>7}", "header", "crate", "ns best", "ns median", "ratio");
    for row in rows() {
        let mut figures: Vec<_> = row.readers.iter().map(|_| Vec::with_capacity(ROUNDS)).collect();
        // Crates take turns, so that a busy moment of the machine hits all of them alike.
        for _ in 0..ROUNDS {
            for (figures, (_, reader)) in figures.iter_mut().zip(&row.readers) {
                let start = Instant::now();
                for _ in 0..CALLS {
                    call(*reader, &row.wire);
                }
                figures.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS));
            }
        }
        figures.iter_mut().for_each(|figures| figures.sort_by(f64::total_cmp));
        let best_other = figures[1..].iter().map(|figures| figures[0]).reduce(f64::min);
        for (figures, (name, _)) in figures.iter().zip(&row.readers) {
            let ratio = match best_other {
                Some(other) if *name == row.readers[0].0 => format!("{:.2}", figures[0] / other),
                _ => String::new(),
            };
            println!(
                "{:<18} {name:<22} {:>9.1} {:>9.1} {ratio:>7}",
                row.name,
                figures[0],
                figures[ROUNDS / 2]
            );
        }
    }
}

/// Calls between two looks at the clock.
const CALLS: u32 = 20_000;
/// Figures per crate and row.
const ROUNDS: usize = 100;
