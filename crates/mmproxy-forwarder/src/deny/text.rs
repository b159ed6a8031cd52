//! A deny list as text: what is written to a file and read back.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::SystemTime;

use super::{Denial, DenyError, DenyList, checked};
use crate::allowlist::{NetworkProblem, parse_network};
use crate::lines::{LineMistake, TextError};

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
                mistakes.push(LineMistake { line, text: entry.to_owned(), problem });
            }
        }
        TextError::none_of(mistakes).map(|()| list)
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
pub type DenyListError = TextError<DenyProblem>;

/// A line of a deny list that is no entry.
pub type DenyMistake = LineMistake<DenyProblem>;

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
