//! Medians, spreads and ratios, as tables.

mod page;

use std::fmt::Write as _;

use crate::case::{Case, Load};
use crate::measured::Measured;
use crate::record::Record;
use crate::subject::DIRECT;

pub(crate) use page::{page, readme_table};

/// What the rounds of one subject in one case come to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cell {
    pub(crate) rate: Option<Spread>,
    /// Ratio of the medians, this to direct.
    pub(crate) ratio: Option<f64>,
    pub(crate) cpu: Option<Spread>,
    pub(crate) p50_us: Option<Spread>,
    pub(crate) p99_us: Option<Spread>,
    pub(crate) p999_us: Option<Spread>,
    pub(crate) sessions: f64,
    /// Descriptors per session.
    pub(crate) descriptors: f64,
    pub(crate) idle: Idle,
    /// Share of the datagrams.
    pub(crate) lost: f64,
    pub(crate) faults: Vec<String>,
    pub(crate) skipped: Option<String>,
}

/// Before, with, and after idle sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Idle {
    pub(crate) rss_kib: [f64; 3],
    pub(crate) descriptors: [f64; 3],
    pub(crate) refused: f64,
}

impl Idle {
    /// MiB and descriptors more than before that were there afterwards; `None` where nobody looked.
    pub(crate) fn left(&self) -> Option<(f64, f64)> {
        let [before, _, after] = self.rss_kib;
        (after > 0.0).then(|| ((after - before) / 1024.0, self.descriptors[2] - self.descriptors[0]))
    }
}

/// Median, least and greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self { median, least, greatest })
    }

    /// How far the extremes are from the median, in percent of it.
    pub(crate) fn percent(&self) -> f64 {
        if self.median == 0.0 {
            return 0.0;
        }
        (self.greatest - self.median).max(self.median - self.least) / self.median * 100.0
    }
}

impl Cell {
    /// What `subject` did in `case`; `None` if it was not measured.
    pub(crate) fn of(record: &Record, case: &Case, subject: &str) -> Option<Self> {
        let lines: Vec<_> = of(record, case, subject).collect();
        let first = lines.first()?;
        let spread =
            |value: fn(&Measured) -> Option<f64>| Spread::of(lines.iter().filter_map(|line| value(line)));
        let median = |value: fn(&Measured) -> f64| {
            Spread::of(lines.iter().map(|line| value(line))).map_or(0.0, |spread| spread.median)
        };
        let rate = spread(|line| line.rate);
        let direct = Spread::of(of(record, case, DIRECT).filter_map(|line| line.rate));
        let ratio = match (case.load, rate, direct) {
            (Load::Idle { .. }, ..) => None,
            (_, Some(rate), Some(direct)) => Some(rate.median / direct.median),
            (_, None, _) | (_, _, None) => None,
        };
        let sessions = median(|line| line.sessions as f64);
        let descriptors = median(|line| line.descriptors as f64 - line.descriptors_before as f64);
        let operations = median(|line| line.operations);
        let lost = median(|line| line.lost as f64);
        Some(Self {
            rate,
            ratio,
            cpu: spread(|line| line.gateway_cpu_per_unit),
            p50_us: spread(|line| line.p50_us),
            p99_us: spread(|line| line.p99_us),
            p999_us: spread(|line| line.p999_us),
            sessions,
            descriptors: if sessions > 0.0 { descriptors / sessions } else { 0.0 },
            idle: Idle {
                rss_kib: [
                    median(|line| line.rss_before_kib as f64),
                    median(|line| line.rss_kib as f64),
                    median(|line| line.rss_after_kib as f64),
                ],
                descriptors: [
                    median(|line| line.descriptors_before as f64),
                    median(|line| line.descriptors as f64),
                    median(|line| line.descriptors_after as f64),
                ],
                refused: lost,
            },
            lost: if operations + lost > 0.0 { lost / (operations + lost) } else { 0.0 },
            faults: lines
                .iter()
                .filter(|line| !line.faults.is_empty())
                .map(|line| format!("round {}: {}", line.round + 1, line.faults))
                .collect(),
            skipped: (!first.skipped.is_empty()).then(|| first.skipped.clone()),
        })
    }
}

fn of<'a>(record: &'a Record, case: &Case, subject: &str) -> impl Iterator<Item = &'a Measured> {
    let (case, subject) = (case.name, subject.to_owned());
    record.lines.iter().filter(move |line| line.case == case && line.subject == subject)
}

/// One measurement, for the terminal.
pub(crate) fn line(line: &Measured) -> String {
    let mut text = format!("{:22} {:12} {}", line.case, line.subject, line.round + 1);
    if let Some(rate) = line.rate {
        write!(text, "  {} {}", number(rate), line.unit).ok();
    }
    if let Some(cpu) = line.gateway_cpu_per_unit {
        write!(text, "  [{} CPU-s/unit]", number(cpu)).ok();
    }
    if let (Some(p50), Some(p99)) = (line.p50_us, line.p99_us) {
        write!(text, "  p50 {} p99 {} µs", number(p50), number(p99)).ok();
    }
    let busy = |seconds: f64| if line.seconds > 0.0 { seconds / line.seconds * 100.0 } else { 0.0 };
    if line.seconds > 0.0 {
        write!(
            text,
            "  busy: generator {:.0} %, target {:.0} %, gateway {:.0} %",
            busy(line.generator_cpu_s),
            busy(line.target_cpu_s),
            busy(line.gateway_cpu_s)
        )
        .ok();
    }
    if line.sessions > 0 {
        write!(
            text,
            "  {} sessions, descriptors {} {} {}, RSS {} {} {} KiB",
            line.sessions,
            line.descriptors_before,
            line.descriptors,
            line.descriptors_after,
            line.rss_before_kib,
            line.rss_kib,
            line.rss_after_kib
        )
        .ok();
    }
    if line.lost > 0 {
        write!(text, "  lost {}", line.lost).ok();
    }
    if !line.skipped.is_empty() {
        write!(text, "  not measured: {}", line.skipped).ok();
    }
    if !line.faults.is_empty() {
        write!(text, "  FAULT: {}", line.faults).ok();
    }
    text
}

/// The whole run, for the terminal.
pub(crate) fn terminal(record: &Record) -> String {
    let mut text = String::new();
    for case in record.cases() {
        let unit = case.load.unit();
        writeln!(text, "\n{} ({unit})", case.title).ok();
        for subject in &record.about.subjects {
            let Some(cell) = Cell::of(record, case, &subject.name) else { continue };
            writeln!(text, "  {:12} {}", subject.name, plain(&cell, case)).ok();
        }
    }
    text
}

fn plain(cell: &Cell, case: &Case) -> String {
    if let Some(why) = &cell.skipped {
        return format!("– ({why})");
    }
    let mut text = String::new();
    match cell.rate {
        Some(rate) => write!(text, "{:>9} ±{:.0} %", number(rate.median), rate.percent()).ok(),
        None => write!(text, "{:>9}", "–").ok(),
    };
    if let Some(ratio) = cell.ratio {
        write!(text, "  ×{ratio:.2}").ok();
    }
    if let Some(cpu) = cell.cpu {
        write!(text, "  {} CPU-s/{}", number(cpu.median), case.load.cpu_unit().1).ok();
    }
    if let (Some(p50), Some(p99), Some(p999)) = (cell.p50_us, cell.p99_us, cell.p999_us) {
        write!(
            text,
            "  p50 {} p99 {} p99.9 {} µs",
            number(p50.median),
            number(p99.median),
            number(p999.median)
        )
        .ok();
    }
    if cell.sessions > 0.0 && cell.rate.is_some() {
        write!(text, "  {} of them, {:.1} descriptors each", cell.sessions, cell.descriptors).ok();
        if let Some((mib, descriptors)) = cell.idle.left() {
            write!(text, "; after them {descriptors:+} descriptors, {mib:+.1} MiB").ok();
        }
    }
    if cell.lost > 0.0 && !matches!(case.load, Load::Idle { .. }) {
        write!(text, "  lost {:.2} %", cell.lost * 100.0).ok();
    }
    for fault in &cell.faults {
        write!(text, "\n      FAULT {fault}").ok();
    }
    text
}

/// Three digits that count.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if digits > 0 {
        return text;
    }
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let mut grouped = String::new();
    for (position, digit) in text.chars().enumerate() {
        if position > 0 && (text.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_its_median_in_the_middle() {
        let spread = Spread::of([3.0, 1.0, 2.0].into_iter()).unwrap();
        assert_eq!(spread, Spread { median: 2.0, least: 1.0, greatest: 3.0 });
        assert_eq!(spread.percent(), 50.0);
        assert_eq!(Spread::of([1.0, 2.0].into_iter()).unwrap().median, 1.5);
        assert_eq!(Spread::of(std::iter::empty()), None);
    }

    #[test]
    fn numbers_have_three_digits_that_count_and_groups_of_three() {
        for (value, text) in [
            (0.123, "0.12"),
            (1.0, "1.00"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1234.0, "1,234"),
            (1_234_567.0, "1,234,567"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
