//! The record's front page, and the table of the README.

use std::fmt::Write as _;
use std::path::Path;

use crate::case::{Case, Load};
use crate::charts::CHARTS;
use crate::goals::verdicts;
use crate::record::{Record, SubjectRecord};

use crate::subject::{DIRECT, OURS};

use super::{Cell, number, of};

/// Markdown: what was found, on what, with what.
pub(crate) fn page(record: &Record) -> String {
    let mut page = String::new();
    let about = &record.about;
    let machine = &about.machine;
    let congestion = match machine.congestion.as_str() {
        "" => String::new(),
        name => format!("| congestion control | {name} |\n"),
    };
    writeln!(
        page,
        "# Benchmark of {}\n\n\
         How this was measured and how to read it: [docs/benchmarks.md](../../benchmarks.md). Every measurement is a line of\n\
         [raw.csv](raw.csv); commands and versions are in [record.json](record.json) too.\n\n\
         | | |\n|---|---|\n\
         | command | `{}` |\n| source | {} |\n| processor | {} × {} |\n| memory | {} GiB |\n\
         | kernel, system | Linux {}, {} |\n{congestion}| descriptor limit | {} |\n\
         | load before the run | {} |\n| rounds, time of each | {}, {} ms after {} ms of warming up |\n\
         | duration | {} min {} s |",
        about.date,
        about.command,
        about.commit,
        machine.cores,
        machine.cpu,
        machine.memory_gib,
        machine.kernel,
        machine.system,
        machine.descriptor_limit,
        machine.load_average,
        about.rounds,
        about.measured_ms,
        about.warm_up_ms,
        about.took_s / 60,
        about.took_s % 60,
    )
    .ok();
    for (name, why) in &about.missing {
        writeln!(page, "\n**Not measured: {name}**, {why}.").ok();
    }
    rates(&mut page, record);
    for (file, title) in CHARTS {
        writeln!(page, "\n![{title}]({file})").ok();
    }
    latencies(&mut page, record);
    idle(&mut page, record);
    faults(&mut page, record);
    goals(&mut page, record);
    generator(&mut page, record);
    subjects(&mut page, record);
    page
}

/// Markdown for the README: rates as shares of direct, CPU time in brackets.
pub(crate) fn readme_table(record: &Record, folder: &Path) -> String {
    let mut table = String::new();
    let cases = record.cases().filter(|case| !case.variant && !matches!(case.load, Load::Mixed { .. }));
    heading(&mut table, record, "");
    for case in cases.filter(|case| case.name != "idle-limit") {
        let unit = match case.load {
            Load::Idle { .. } => "KiB each".to_owned(),
            Load::Bulk { .. }
            | Load::Connections { .. }
            | Load::PingPong { .. }
            | Load::Mixed { .. }
            | Load::Exchange { .. }
            | Load::Flood { .. } => format!("{} [CPU-s/{}]", case.load.unit(), case.load.cpu_unit().1),
        };
        row(&mut table, record, &format!("{}, {unit}", case.title), |subject| {
            cell(record, case, subject, &|cell| rate_text(cell, false))
        });
    }
    let machine = &record.about.machine;
    writeln!(
        table,
        "\nMedians of {} rounds on {} × {}, Linux {}; in parentheses the share of a direct connection's rate, in brackets \
         the gateway's CPU seconds, (!) marks peers that lost bytes or ended. \
         [The whole record]({}/README.md), [method and noise](docs/benchmarks.md).",
        record.about.rounds,
        machine.cores,
        machine.cpu,
        machine.kernel,
        folder.display(),
    )
    .ok();
    table
}

fn rates(page: &mut String, record: &Record) {
    writeln!(
        page,
        "\n## Rates\n\n\
         Median of the rounds, ± the farthest of them; in parentheses the share of what a direct connection did; in brackets\n\
         the gateway's CPU seconds for the unit of the first column. (!) means that there were faults, see below.\n"
    )
    .ok();
    let names = record.about.subjects.iter().map(|subject| subject.name.as_str());
    let names: Vec<_> = std::iter::once("case").chain(names).chain(["mmproxy : best peer"]).collect();
    writeln!(page, "| {} |\n|{}", names.join(" | "), "---|".repeat(names.len())).ok();
    for case in record.cases().filter(|case| !matches!(case.load, Load::Idle { .. })) {
        let title = match case.load {
            Load::Mixed { .. } => format!("{}, {}", case.title, case.load.unit()),
            Load::Bulk { .. }
            | Load::Connections { .. }
            | Load::PingPong { .. }
            | Load::Idle { .. }
            | Load::Exchange { .. }
            | Load::Flood { .. } => {
                format!("{}, {} [CPU-s/{}]", case.title, case.load.unit(), case.load.cpu_unit().1)
            }
        };
        let texts = record.about.subjects.iter();
        let texts = texts.map(|subject| cell(record, case, &subject.name, &|cell| rate_text(cell, true)));
        let cells: Vec<_> = std::iter::once(title).chain(texts).chain([beside_best(record, case)]).collect();
        writeln!(page, "| {} |", cells.join(" | ")).ok();
    }
}

/// Our rate as a multiple of the best peer's, and which peer that is.
fn beside_best(record: &Record, case: &Case) -> String {
    let rate = |name: &str| Some(Cell::of(record, case, name)?.rate?.median);
    let peers = record.about.subjects.iter().map(|subject| subject.name.as_str());
    let peers = peers.filter(|name| ![DIRECT, OURS].contains(name));
    let best = peers.filter_map(|name| Some((name, rate(name)?))).max_by(|one, two| one.1.total_cmp(&two.1));
    match rate(OURS).zip(best) {
        Some((ours, (name, best))) => format!("{:.2} × {name}", ours / best),
        None => "–".to_owned(),
    }
}

fn latencies(page: &mut String, record: &Record) {
    writeln!(page, "\n## Latencies\n\np50 / p99 / p99.9 in microseconds, median of the rounds.\n").ok();
    heading(page, record, "case");
    let timed =
        |case: &&Case| record.lines.iter().any(|line| line.case == case.name && line.p50_us.is_some());
    for case in record.cases().filter(timed) {
        row(page, record, case.title, |subject| {
            cell(record, case, subject, &|cell| match (cell.p50_us, cell.p99_us, cell.p999_us) {
                (Some(p50), Some(p99), Some(p999)) => {
                    format!("{} / {} / {}", number(p50.median), number(p99.median), number(p999.median))
                }
                _ => "–".to_owned(),
            })
        });
    }
}

fn idle(page: &mut String, record: &Record) {
    let cases: Vec<_> = record.cases().filter(|case| matches!(case.load, Load::Idle { .. })).collect();
    if cases.is_empty() {
        return;
    }
    writeln!(
        page,
        "\n## Idle sessions\n\n\
         Resident memory and descriptors of the gateway for one session or flow, and what was still there of all after the\n\
         sessions had been closed. Flows cannot be closed; gateways forget them.\n\n\
         | case | gateway | sessions | not served | KiB each | descriptors each | memory that stays, MiB | descriptors that stay |\n\
         |---|---|---|---|---|---|---|---|"
    )
    .ok();
    for case in cases {
        for subject in record.about.subjects.iter().filter(|subject| subject.name != DIRECT) {
            let Some(cell) = Cell::of(record, case, &subject.name) else { continue };
            let served = format!(
                "| {} | {} | {}{} | {} |",
                case.title,
                subject.name,
                cell.sessions,
                if cell.faults.is_empty() { "" } else { " (!)" },
                cell.idle.refused
            );
            let Some(rate) = cell.rate else {
                writeln!(page, "{served} – | – | – | – |").ok();
                continue;
            };
            write!(page, "{served} {} | {:.1} |", number(rate.median), cell.descriptors).ok();
            match cell.idle.left() {
                Some((mib, descriptors)) => writeln!(page, " {mib:+.1} | {descriptors:+} |").ok(),
                None => writeln!(page, " – | – |").ok(),
            };
        }
    }
}

fn faults(page: &mut String, record: &Record) {
    writeln!(page, "\n## Faults\n").ok();
    let mut any = false;
    for line in record.faults(|_| true) {
        any = true;
        let text = line.faults.split_whitespace().collect::<Vec<_>>().join(" ");
        writeln!(page, "- {}, {}, round {}: {text}", line.case, line.subject, line.round + 1).ok();
    }
    if !any {
        writeln!(
            page,
            "None: every session and datagram came from its client, and no byte was lost or changed."
        )
        .ok();
    }
    let skipped = |subject: &&SubjectRecord| {
        record.lines.iter().any(|line| line.subject == subject.name && !line.skipped.is_empty())
    };
    for subject in record.about.subjects.iter().filter(skipped) {
        let of_it =
            |line: &&crate::measured::Measured| line.subject == subject.name && !line.skipped.is_empty();
        let why = record.lines.iter().find(of_it).map_or("", |line| line.skipped.as_str());
        writeln!(page, "- {} has no figures for UDP: {why}.", subject.name).ok();
    }
}

fn goals(page: &mut String, record: &Record) {
    writeln!(page, "\n## Goals\n\n| goal | found | |\n|---|---|---|").ok();
    for verdict in verdicts(record) {
        let mark = match verdict.met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "not known",
        };
        writeln!(page, "| {} | {} | {mark} |", verdict.goal, verdict.found).ok();
    }
}

/// Whether the generator or the target was what limited a figure.
fn generator(page: &mut String, record: &Record) {
    writeln!(
        page,
        "\n## Was the bench itself the limit?\n\n\
         CPU time of generator / target / gateway in percent of one core during the measured time (median). Generator and\n\
         target have one thread each (two generators in the mixed cases): near 100, they were the limit, as they are\n\
         meant to be on the direct way alone.\n"
    )
    .ok();
    heading(page, record, "case");
    for case in record.cases().filter(|case| !matches!(case.load, Load::Idle { .. })) {
        row(page, record, case.title, |subject| {
            let median = |value: fn(&crate::measured::Measured) -> f64| {
                let busy = of(record, case, subject).filter(|line| line.seconds > 0.0);
                super::Spread::of(busy.map(|line| value(line) / line.seconds * 100.0))
            };
            let all = [
                median(|line| line.generator_cpu_s),
                median(|line| line.target_cpu_s),
                median(|line| line.gateway_cpu_s),
            ];
            let texts = all.map(|spread| spread.map(|spread| format!("{:.0}", spread.median)));
            match texts {
                [Some(generator), Some(target), Some(gateway)] => {
                    format!("{generator} / {target} / {gateway}")
                }
                _ => "–".to_owned(),
            }
        });
    }
}

fn subjects(page: &mut String, record: &Record) {
    writeln!(page, "\n## Subjects").ok();
    for subject in &record.about.subjects {
        writeln!(page, "\n### {}\n\n{}", subject.name, subject.version).ok();
        if !subject.commands.is_empty() {
            writeln!(page, "\n```\n{}\n```", subject.commands.join("\n")).ok();
        }
        for (name, text) in &subject.files {
            writeln!(page, "\n`{name}`:\n\n```\n{}\n```", text.trim_end()).ok();
        }
    }
}

fn heading(page: &mut String, record: &Record, first: &str) {
    let names = record.about.subjects.iter().map(|subject| subject.name.as_str());
    let names: Vec<_> = std::iter::once(first).chain(names).collect();
    writeln!(page, "| {} |\n|{}", names.join(" | "), "---|".repeat(names.len())).ok();
}

fn row(page: &mut String, record: &Record, title: &str, text: impl Fn(&str) -> String) {
    let cells = record.about.subjects.iter().map(|subject| text(&subject.name));
    let cells: Vec<_> = std::iter::once(title.to_owned()).chain(cells).collect();
    writeln!(page, "| {} |", cells.join(" | ")).ok();
}

fn cell(record: &Record, case: &Case, subject: &str, text: &dyn Fn(&Cell) -> String) -> String {
    let Some(cell) = Cell::of(record, case, subject) else { return "–".to_owned() };
    if cell.skipped.is_some() {
        return "–".to_owned();
    }
    let text = text(&cell);
    if cell.faults.is_empty() { text } else { format!("{text} (!)") }
}

fn rate_text(cell: &Cell, spread: bool) -> String {
    let Some(rate) = cell.rate else { return "–".to_owned() };
    let mut text = number(rate.median);
    if spread {
        write!(text, " ±{:.0} %", rate.percent()).ok();
    }
    if let Some(ratio) = cell.ratio.filter(|_| cell.cpu.is_some()) {
        write!(text, " ({ratio:.2})").ok();
    }
    if let Some(cpu) = cell.cpu {
        write!(text, " [{}]", number(cpu.median)).ok();
    }
    if cell.lost > 0.0005 && cell.sessions == 0.0 {
        write!(text, ", lost {:.1} %", cell.lost * 100.0).ok();
    }
    text
}
