//! What mmproxy is to reach beside the others, and whether a record shows it.

use std::fmt;

use crate::case::{CASES, Case};
use crate::record::Record;
use crate::subject::{DIRECT, OURS};
use crate::summary::{Cell, Spread, number};

/// A goal, compared with a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) goal: String,
    /// What was found, on both sides of the comparison.
    pub(crate) found: String,
    /// `None` if the record lacks what it takes to tell.
    pub(crate) met: Option<bool>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not known",
        };
        write!(formatter, "{mark:9} {}: {}", self.goal, self.found)
    }
}

/// All goals, in the order of the cases.
pub(crate) fn verdicts(record: &Record) -> Vec<Verdict> {
    let of = |name| Measure::new(record, name);
    let mut all = Vec::new();
    for (case, rate, cpu) in [
        ("upload-1", 1.05, 0.28),
        ("download-1", 1.05, 0.33),
        ("upload-64", 1.0, 0.25),
        ("download-64", 1.05, 0.27),
    ] {
        all.push(of(case).rate_beside_peers(rate));
        all.push(of(case).cpu_at_most(cpu));
    }
    all.push(of("connections").rate_beside_peers(1.05));
    all.push(of("connections").cpu_beside_haproxy(0.92));
    all.push(of("connections").p99_beside_peers());
    all.push(of("ping-pong-64").rate_beside_peers(1.1));
    all.push(of("ping-pong-64").cpu_beside_peers(0.9));
    all.push(of("ping-pong-64").p99_beside_peers());
    all.push(of("ping-pong-1").ratio_to_direct(0.75));
    all.push(of("ping-pong-1").rate_beside_peers(1.0));
    all.push(mixed(record));
    all.extend(of("idle").idle());
    all.push(of("udp-64").ratio_to_direct(0.6));
    all.push(of("udp-64").rate_beside_peers(1.35));
    all.push(of("udp-64").cpu_at_most(6.5));
    all.push(of("udp-1200").ratio_to_direct(0.5));
    all.push(of("udp-idle").memory_at_most(2.0));
    all
}

/// One case of a record, ours and the others'.
///
/// A peer that lost bytes counts with the rate that it had all the same: the goals become harder by it, not easier.
struct Measure {
    case: &'static Case,
    ours: Option<Cell>,
    peers: Vec<(String, Cell)>,
}

impl Measure {
    fn new(record: &Record, name: &str) -> Self {
        let case = CASES.iter().find(|case| case.name == name).expect("goals name cases that there are");
        let peers = record.about.subjects.iter().map(|subject| subject.name.clone());
        let peers = peers.filter(|name| name != OURS && name != DIRECT);
        Self {
            case,
            ours: Cell::of(record, case, OURS),
            peers: peers.filter_map(|name| Cell::of(record, case, &name).map(|cell| (name, cell))).collect(),
        }
    }

    fn rate_beside_peers(&self, factor: f64) -> Verdict {
        let best = self.best(|cell| cell.rate, f64::max);
        self.compare(
            &format!("rate at least {factor} × the best peer's"),
            |cell| cell.rate,
            best,
            |ours, best| ours >= best * factor,
        )
    }

    fn cpu_beside_peers(&self, factor: f64) -> Verdict {
        let best = self.best(|cell| cell.cpu, f64::min);
        self.compare(
            &format!("CPU time at most {factor} × the best peer's"),
            |cell| cell.cpu,
            best,
            |ours, best| ours <= best * factor,
        )
    }

    fn cpu_beside_haproxy(&self, factor: f64) -> Verdict {
        let haproxy = self.peers.iter().find(|(name, _)| name == "haproxy");
        let haproxy = haproxy.and_then(|(name, cell)| Some((name.clone(), cell.cpu?.median)));
        self.compare(
            &format!("CPU time at most {factor} × HAProxy's"),
            |cell| cell.cpu,
            haproxy,
            |ours, best| ours <= best * factor,
        )
    }

    fn p99_beside_peers(&self) -> Verdict {
        let best = self.best(|cell| cell.p99_us, f64::min);
        self.compare("p99 (µs) at most the best peer's", |cell| cell.p99_us, best, |ours, best| ours <= best)
    }

    fn cpu_at_most(&self, limit: f64) -> Verdict {
        let unit = self.case.load.cpu_unit().1;
        let ours = self.ours.as_ref().and_then(|cell| cell.cpu).map(|cpu| cpu.median);
        self.verdict(&format!("CPU seconds per {unit} at most {limit}"), ours, |ours| ours <= limit)
    }

    fn ratio_to_direct(&self, least: f64) -> Verdict {
        let ours = self.ours.as_ref().and_then(|cell| cell.ratio);
        self.verdict(&format!("rate at least {least} × direct"), ours, |ours| ours >= least)
    }

    fn idle(&self) -> [Verdict; 3] {
        let ours = self.ours.as_ref().filter(|cell| cell.sessions > 0.0);
        let memory = ours.and_then(|cell| cell.rate).map(|rate| rate.median);
        let descriptors = ours.map(|cell| cell.descriptors);
        let back = ours.map(|cell| {
            let [before, with, after] = cell.idle.rss_kib;
            let stays = after - before;
            let right = cell.idle.descriptors[2] <= cell.idle.descriptors[0]
                && stays <= ((with - before) * STAYS).max(STAYS_KIB);
            (right, cell.idle.descriptors[2] - cell.idle.descriptors[0], stays / 1024.0)
        });
        [
            self.verdict("KiB per session at most 1.5", memory, |ours| ours <= 1.5),
            self.verdict("descriptors per session at most 2", descriptors, |ours| ours <= 2.0),
            Verdict {
                goal: format!("{}: descriptors and memory are given back", self.case.title),
                found: back.map_or_else(String::new, |(_, descriptors, mib)| {
                    format!("{descriptors:+} descriptors, {mib:+.1} MiB")
                }),
                met: back.map(|(right, ..)| right),
            },
        ]
    }

    fn memory_at_most(&self, limit: f64) -> Verdict {
        let ours = self.ours.as_ref().and_then(|cell| cell.rate).map(|rate| rate.median);
        self.verdict(&format!("KiB each at most {limit}"), ours, |ours| ours <= limit)
    }

    /// The best of the peers: its name and median.
    fn best(&self, value: fn(&Cell) -> Option<Spread>, better: fn(f64, f64) -> f64) -> Option<(String, f64)> {
        let values = self.peers.iter().filter_map(|(name, cell)| Some((name.clone(), value(cell)?.median)));
        #[expect(clippy::float_cmp, reason = "one of the two comes back unchanged")]
        values.reduce(|one, two| if better(one.1, two.1) == one.1 { one } else { two })
    }

    fn compare(
        &self,
        goal: &str,
        value: fn(&Cell) -> Option<Spread>,
        other: Option<(String, f64)>,
        holds: impl Fn(f64, f64) -> bool,
    ) -> Verdict {
        let ours = self.ours.as_ref().and_then(value).map(|spread| spread.median);
        let both = ours.zip(other);
        Verdict {
            goal: format!("{}: {goal}", self.case.title),
            found: both.as_ref().map_or_else(String::new, |(ours, (name, other))| {
                format!("{} beside {} of {name} (× {:.2})", number(*ours), number(*other), ours / other)
            }),
            met: both.map(|(ours, (_, other))| holds(ours, other)),
        }
    }

    fn verdict(&self, goal: &str, ours: Option<f64>, holds: impl Fn(f64) -> bool) -> Verdict {
        Verdict {
            goal: format!("{}: {goal}", self.case.title),
            found: ours.map_or_else(String::new, number),
            met: ours.map(holds),
        }
    }
}

/// What bulk does to small messages when it takes the same way, compared with bulk that only takes the same machine.
fn mixed(record: &Record) -> Verdict {
    let p99 = |name| Measure::new(record, name).ours.and_then(|cell| cell.p99_us).map(|spread| spread.median);
    let both = p99("mixed").zip(p99("mixed-direct"));
    Verdict {
        goal: "100-byte ping-pong beside 4 uploads: p99 (µs) at most 3 × that beside uploads that pass the gateway by"
            .to_owned(),
        found: both.map_or_else(String::new, |(mixed, direct)| {
            format!("{} beside {} (× {:.2})", number(mixed), number(direct), mixed / direct)
        }),
        met: both.map(|(mixed, direct)| mixed <= 3.0 * direct),
    }
}

/// Of what sessions had added, how much may stay when they are gone: an allocator keeps its last pages.
const STAYS: f64 = 0.25;
/// … but so much in any case, for pages that are not empty and code that was read from disk meanwhile.
const STAYS_KIB: f64 = 2048.0;

#[cfg(test)]
mod tests;
