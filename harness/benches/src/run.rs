//! A whole run: all cases, all subjects, in alternation.

use std::env::current_exe;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::case::{CASES, Case, HowMany, Load};
use crate::cli::Options;
use crate::clients::Clients;
use crate::goals;
use crate::machine::Machine;
use crate::measure::{Pace, measure};
use crate::measured::Measured;
use crate::record::{self, Record};
use crate::stage::Stage;
use crate::subject::{DIRECT, Missing, Subject};
use crate::summary;
use crate::usage;

/// Measures, reports, and says by its status whether everything was right.
pub(crate) fn run(options: &Options) -> ExitCode {
    match try_run(options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mmproxy-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(options: &Options) -> Result<ExitCode, String> {
    usage::raise_descriptor_limit().map_err(|error| format!("cannot raise the descriptor limit: {error}"))?;
    let (subjects, missing) = subjects(options)?;
    let pace = pace(options);
    let cases = cases(options, &pace)?;
    if options.list {
        list(&cases, &subjects, &missing);
        return Ok(ExitCode::SUCCESS);
    }
    for missing in &missing {
        eprintln!("mmproxy-bench: {} is not measured: {}", missing.name, missing.why);
    }
    let machine = Machine::here(congestion(options)?);
    let started = Instant::now();
    let lines = measure_all(&cases, &subjects, &pace, &machine.congestion)?;
    let record = Record::new(lines, &cases, &subjects, missing, &pace, started.elapsed(), machine);
    println!("{}", summary::terminal(&record));
    let folder = match (&options.record, options.smoke || !options.only.is_empty()) {
        (Some(folder), _) => Some(folder.clone()),
        (None, true) => None,
        (None, false) => Some(record::default_folder()?),
    };
    if let Some(folder) = folder {
        record.write(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        println!("The record is in {}.", folder.display());
    }
    if !options.smoke && options.only.is_empty() {
        println!("\nGoals:");
        for verdict in goals::verdicts(&record) {
            println!("  {verdict}");
        }
    }
    let broken: Vec<_> = record.faults(|subject| subject.must_be_right).collect();
    for line in &broken {
        eprintln!(
            "mmproxy-bench: FAULT: {} in {}, round {}: {}",
            line.subject, line.case, line.round, line.faults
        );
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure_all(
    cases: &[&Case],
    subjects: &[Subject],
    pace: &Pace,
    congestion: &str,
) -> Result<Vec<Measured>, String> {
    let clients = Clients::default();
    let mut stages = Vec::new();
    for subject in subjects {
        let stage = Stage::new(subject.return_path(), congestion);
        stages.push(stage.map_err(|error| format!("no stage for {}: {error}", subject.name))?);
    }
    let progress = Progress::new(cases.iter().map(|case| rounds(case, pace)).sum::<usize>() * subjects.len());
    let mut lines = Vec::new();
    for case in cases {
        for round in 0..rounds(case, pace) {
            for turn in 0..subjects.len() {
                // Whoever comes after a heavy load has no advantage or disadvantage twice.
                let number = (turn + round) % subjects.len();
                let subject = &subjects[number];
                progress.step(case, subject, round);
                let line = measure(case, subject, round, &mut stages[number], &clients, pace);
                progress.done(&line);
                lines.push(line);
            }
        }
    }
    progress.finish();
    Ok(lines)
}

fn rounds(case: &Case, pace: &Pace) -> usize {
    // What a session costs varies little, and opening many takes long.
    match case.load {
        Load::Idle { how_many: HowMany::DescriptorLimit } => 1,
        Load::Idle { how_many: HowMany::Some | HowMany::Flows } => pace.rounds.min(2),
        Load::Bulk { .. }
        | Load::Connections { .. }
        | Load::PingPong { .. }
        | Load::Mixed { .. }
        | Load::Exchange { .. }
        | Load::Flood { .. } => pace.rounds,
    }
}

/// One that does not pace unless told otherwise: a timer between segments would be what is measured.
fn congestion(options: &Options) -> Result<String, String> {
    const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

    let wanted = options.congestion.as_deref().unwrap_or("reno");
    let allowed = fs::read_to_string(ALLOWED).map_err(|error| format!("{ALLOWED}: {error}"))?;
    if allowed.split_whitespace().any(|name| name == wanted) {
        Ok(wanted.to_owned())
    } else {
        Err(format!("--congestion {wanted}: this kernel lets namespaces choose {}", allowed.trim()))
    }
}

fn pace(options: &Options) -> Pace {
    let millis = Duration::from_millis;
    let mut pace = Pace {
        rounds: 3,
        warm_up: millis(250),
        measure: millis(1000),
        idle_sessions: 3000,
        idle_flows: 10_000,
        most_sessions: 15_000,
        variants: true,
    };
    if options.quick {
        pace = Pace {
            rounds: 1,
            warm_up: millis(150),
            measure: millis(500),
            most_sessions: 5000,
            variants: false,
            ..pace
        };
    }
    if options.smoke {
        pace = Pace {
            rounds: 1,
            warm_up: millis(20),
            measure: millis(100),
            idle_sessions: 200,
            idle_flows: 500,
            most_sessions: 500,
            variants: true,
        };
    }
    pace.rounds = options.rounds.unwrap_or(pace.rounds).max(1);
    pace
}

fn cases(options: &Options, pace: &Pace) -> Result<Vec<&'static Case>, String> {
    if options.only.is_empty() {
        return Ok(CASES.iter().filter(|case| pace.variants || !case.variant).collect());
    }
    for wanted in &options.only {
        if !CASES.iter().any(|case| matches(wanted, case.name)) {
            let names: Vec<_> = CASES.iter().map(|case| case.name).collect();
            return Err(format!("there is no case {wanted}; there are: {}", names.join(", ")));
        }
    }
    Ok(CASES.iter().filter(|case| options.only.iter().any(|wanted| matches(wanted, case.name))).collect())
}

fn matches(wanted: &str, name: &str) -> bool {
    wanted.strip_suffix('*').map_or(wanted == name, |start| name.starts_with(start))
}

fn subjects(options: &Options) -> Result<(Vec<Subject>, Vec<Missing>), String> {
    let mmproxy = match &options.mmproxy {
        Some(path) => path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?,
        None => beside("mmproxy").map_err(|error| format!("where is this executable? {error}"))?,
    };
    if !mmproxy.is_file() {
        return Err(format!(
            "{} is missing: run `cargo build --release -p mmproxy`, or give --mmproxy PATH",
            mmproxy.display()
        ));
    }
    let mut all = Subject::all(&mmproxy);
    let name = |subject: &Result<Subject, Missing>| match subject {
        Ok(subject) => subject.name.clone(),
        Err(missing) => missing.name.clone(),
    };
    for wanted in &options.subject {
        if !all.iter().any(|subject| name(subject) == *wanted) {
            let names: Vec<_> = all.iter().map(name).collect();
            return Err(format!("there is no subject {wanted}; there are: {}", names.join(", ")));
        }
    }
    if !options.subject.is_empty() {
        all.retain(|subject| name(subject) == DIRECT || options.subject.contains(&name(subject)));
    }
    let (mut present, mut missing) = (Vec::new(), Vec::new());
    // Who is described on the command line is meant to be measured.
    for text in &options.peer {
        all.push(Ok(Subject::other(text)?));
    }
    for subject in all {
        match subject {
            Ok(subject) => present.push(subject),
            // What was asked for by name is not left out.
            Err(absent) if options.subject.contains(&absent.name) => {
                return Err(format!("{} cannot be measured: {}", absent.name, absent.why));
            }
            Err(absent) => missing.push(absent),
        }
    }
    Ok((present, missing))
}

fn beside(name: &str) -> io::Result<PathBuf> {
    Ok(current_exe()?.with_file_name(name))
}

fn list(cases: &[&Case], subjects: &[Subject], missing: &[Missing]) {
    println!("Cases:");
    for case in cases {
        println!("  {:22} {}", case.name, case.title);
    }
    println!("\nSubjects:");
    for subject in subjects {
        println!("  {:22} {}", subject.name, subject.version);
    }
    for missing in missing {
        println!("  {:22} MISSING: {}", missing.name, missing.why);
    }
}

/// A bar on a terminal, lines elsewhere.
enum Progress {
    Bar(ProgressBar),
    Lines,
}

impl Progress {
    fn new(steps: usize) -> Self {
        if !io::stderr().is_terminal() {
            return Self::Lines;
        }
        let bar = ProgressBar::new(steps as u64);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}, {eta} left: {msg}");
        bar.set_style(style.expect("the template is a constant"));
        Self::Bar(bar)
    }

    fn step(&self, case: &Case, subject: &Subject, round: usize) {
        match self {
            Self::Bar(bar) => {
                bar.set_message(format!("{}, {}, round {}", case.title, subject.name, round + 1));
            }
            Self::Lines => {}
        }
    }

    fn done(&self, line: &Measured) {
        match self {
            Self::Bar(bar) => {
                if !line.faults.is_empty() {
                    bar.println(summary::line(line));
                }
                bar.inc(1);
            }
            Self::Lines => eprintln!("{}", summary::line(line)),
        }
    }

    fn finish(&self) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines => {}
        }
    }
}
