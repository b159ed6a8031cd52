//! A deny list as text: what is written to a file and read back.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::SystemTime;

use super::{Denial, DenyError, DenyList, checked};
use crate::allowlist::{NetworkProblem, parse_network};

impl DenyList {
    /// Reads a list; entries whose time has come are left out. Blank lines are ignored; what follows `#` or `;` is the
    /// entry's reason.
    ///
    /// A list of networks alone, as an [`AllowList`](crate::AllowList) is read from, denies them for ever.
    ///
    /// # Errors
    ///
    /// Every mistake of the text at once.
    pub fn parse(text: &str, capacity: usize, now: SystemTime) -> Result<Self, DenyListError> {
        let mut list = Self::with_capacity(capacity);
        let mut mistakes = Vec::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (line, number) in text.lines().zip(1..) {
            let (entry, reason) = line.split_once(['#', ';']).unwrap_or((line, ""));
            let entry = entry.trim();
            if entry.is_empty() {
                continue;
            }
            if let Err(problem) = list.take_in(entry, reason, now) {
                let line = NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
                mistakes.push(DenyMistake { line, text: entry.to_owned(), problem });
            }
        }
        if mistakes.is_empty() { Ok(list) } else { Err(DenyListError { mistakes }) }
    }

    fn take_in(&mut self, entry: &str, reason: &str, now: SystemTime) -> Result<(), DenyProblem> {
        let mut words = entry.split_whitespace();
        let network = parse_network(words.next().unwrap_or_default())?;
        let until = match (words.next(), words.next(), words.next()) {
            (None, ..) => None,
            (Some("until"), Some(time), None) => {
                Some(humantime::parse_rfc3339(time).map_err(|_| DenyProblem::Time)?)
            }
            _ => return Err(DenyProblem::Shape),
        };
        let reason = (!reason.trim().is_empty()).then(|| checked(reason)).transpose()?;
        let denial = Denial { until, reason };
        if denial.is_in_force(now) { Ok(self.put(network, denial, now)?) } else { Ok(()) }
    }
}

/// An entry a line, as [`DenyList::parse`] reads them.
impl fmt::Display for DenyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (network, denial) in &self.entries {
            write!(f, "{network}")?;
            if let Some(until) = denial.until {
                write!(f, " until {}", humantime::format_rfc3339(until))?;
            }
            if let Some(reason) = &denial.reason {
                write!(f, " # {reason}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The mistakes in the text of a deny list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenyListError {
    /// Never empty.
    mistakes: Vec<DenyMistake>,
}

impl DenyListError {
    /// Each mistake, in the order of the text; at least one.
    pub fn mistakes(&self) -> &[DenyMistake] {
        &self.mistakes
    }
}

impl fmt::Display for DenyListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, mistake) in self.mistakes.iter().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for DenyListError {}

/// A line that is no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: `{}`: {problem}", text.escape_debug())]
pub struct DenyMistake {
    /// Counted from 1.
    pub line: NonZeroUsize,
    /// The line without its reason and surrounding blanks.
    pub text: String,
    /// What is wrong with it.
    pub problem: DenyProblem,
}

/// What is wrong with a line of a deny list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DenyProblem {
    /// It does not begin with a network.
    #[error(transparent)]
    Network(#[from] NetworkProblem),
    /// Something else than `until` and a time follows the network.
    #[error("expected a network, or a network and `until` with a time")]
    Shape,
    /// The word behind `until` is no time.
    #[error("expected a time such as 2026-11-27T18:00:00Z")]
    Time,
    /// It is an entry, and could not be added.
    #[error(transparent)]
    Entry(#[from] DenyError),
}
