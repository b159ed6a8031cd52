//! What came out.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use crate::honest::{Kind, PATIENCE, Tally};
use crate::world::Books;

/// One attack, and what honest clients noticed of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) attack: &'static str,
    pub(crate) calm: Tally,
    pub(crate) attacked: Tally,
    /// Descriptors that the attack was to occupy, and those before and at most.
    pub(crate) held: u32,
    pub(crate) descriptors: (usize, usize),
    pub(crate) grown_kib: usize,
    pub(crate) bound_kib: usize,
    pub(crate) malformed: u32,
    pub(crate) books: Books,
}

impl Outcome {
    /// What was promised and is not so.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = self.books.mistakes.clone();
        for (what, calm, attacked) in self.kinds() {
            let kept = kept(calm, attacked);
            if kept < KEPT {
                let reason = attacked.failure.as_deref().unwrap_or("no failure was seen");
                failures.push(format!("of {what}, {} were answered as undisturbed: {reason}", percent(kept)));
            }
            if calm.share() < KEPT {
                let reason = calm.failure.as_deref().unwrap_or("no failure was seen");
                failures.push(format!(
                    "undisturbed, {} of {what} were answered: {reason}",
                    percent(calm.share())
                ));
            }
        }
        if self.grown_kib > self.bound_kib {
            failures
                .push(format!("memory grew by {} KiB, and {} were allowed", self.grown_kib, self.bound_kib));
        }
        let (before, most) = self.descriptors;
        // A few may have been refused for a reason that the books tell.
        let held = usize::try_from(self.held).expect("small") * 99 / 100;
        if most < before + held {
            failures.push(format!(
                "there was no attack: {most} descriptors at most, {before} before, {held} were to come"
            ));
        }
        let refused = self.refused_headers();
        if refused < u64::from(self.malformed) {
            failures.push(format!("there was no attack: {refused} headers were refused over TCP and UDP"));
        }
        failures.into_iter().map(|failure| format!("{}: {failure}", self.attack)).collect()
    }

    fn kinds(&self) -> [(&'static str, &Kind, &Kind); 2] {
        [
            ("connections", &self.calm.connections, &self.attacked.connections),
            ("questions", &self.calm.questions, &self.attacked.questions),
        ]
    }

    fn refused_headers(&self) -> u64 {
        let all = self.books.closed.iter().chain(&self.books.dropped);
        all.filter(|(reason, _)| reason.starts_with("header_") || *reason == "wrong_family")
            .map(|(_, n)| n)
            .sum()
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (what, calm, attacked) in self.kinds() {
            writeln!(f, "  {what}, undisturbed:  {calm}")?;
            writeln!(f, "  {what}, under attack: {attacked}; {} of that", percent(kept(calm, attacked)))?;
        }
        let Books { opened, closed, dropped, flows, .. } = &self.books;
        let share = |tally: &Tally| percent(tally.cpu.as_secs_f64() / tally.time.as_secs_f64());
        writeln!(
            f,
            "  the gateway used {} of a processor undisturbed, {} under attack",
            share(&self.calm),
            share(&self.attacked)
        )?;
        writeln!(
            f,
            "  memory: {} KiB more at most, {} KiB are documented; descriptors: {} before, {} at most",
            self.grown_kib, self.bound_kib, self.descriptors.0, self.descriptors.1
        )?;
        writeln!(f, "  {opened} sessions: {}", listed(closed))?;
        write!(f, "  {flows} flows; datagrams dropped: {}", listed(dropped))
    }
}

impl Kind {
    /// Of those that came, answered in time.
    fn share(&self) -> f64 {
        ratio(self.answered.len(), self.offered)
    }

    fn percentile(&self, per_mille: usize) -> Duration {
        let mut sorted = self.answered.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * per_mille / 1000).copied().unwrap_or_default()
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} answered within {PATIENCE:?}, half of them in {}, 99 of 100 in {}",
            self.answered.len(),
            self.offered,
            millis(self.percentile(500)),
            millis(self.percentile(990)),
        )?;
        self.failure.as_ref().map_or(Ok(()), |reason| write!(f, " (the first of the others: {reason})"))
    }
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.time += other.time;
        self.connections.add(other.connections);
        self.questions.add(other.questions);
    }
}

impl Kind {
    fn add(&mut self, other: Self) {
        self.offered += other.offered;
        self.answered.extend(other.answered);
        self.failure = self.failure.take().or(other.failure);
    }
}

/// The outcomes as a table for a document.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut lines = vec![
        "| attack | connections kept | questions kept | a connection, half and 99 of 100: undisturbed | under attack | \
         memory grew by | documented |"
            .to_owned(),
        "|---|---|---|---|---|---|---|".to_owned(),
    ];
    for outcome in outcomes {
        let [(_, calm, attacked), (_, asked, asked_under)] = outcome.kinds();
        lines.push(format!(
            "| {} | {} | {} | {}, {} | {}, {} | {} MiB | {} MiB |",
            outcome.attack,
            percent(kept(calm, attacked)),
            percent(kept(asked, asked_under)),
            millis(calm.percentile(500)),
            millis(calm.percentile(990)),
            millis(attacked.percentile(500)),
            millis(attacked.percentile(990)),
            outcome.grown_kib.div_ceil(1024),
            outcome.bound_kib / 1024,
        ));
    }
    lines.join("\n")
}

/// Answered a second under attack, beside undisturbed. Equally many are due in both, or a machine is too slow to ask.
fn kept(calm: &Kind, attacked: &Kind) -> f64 {
    attacked.share() / calm.share().max(f64::MIN_POSITIVE)
}

fn ratio(part: usize, whole: usize) -> f64 {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    number(part) / number(whole.max(1))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn listed(counts: &std::collections::BTreeMap<String, u64>) -> String {
    let counts: Vec<_> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

/// What is promised.
const KEPT: f64 = 0.9;
