//! Mistakes in texts that are read line by line.

use std::error::Error;
use std::fmt::{self, Debug, Display};
use std::num::NonZeroUsize;

/// Every mistake of a text at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError<P> {
    /// Never empty.
    mistakes: Vec<LineMistake<P>>,
}

/// A line that does not say what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: `{}`: {problem}", text.escape_debug())]
pub struct LineMistake<P> {
    /// Counted from 1.
    pub line: NonZeroUsize,
    /// The line without comment and surrounding blanks.
    pub text: String,
    /// What is wrong with it.
    pub problem: P,
}

impl<P> TextError<P> {
    /// Nothing is wrong where there are no mistakes.
    pub(crate) fn none_of(mistakes: Vec<LineMistake<P>>) -> Result<(), Self> {
        if mistakes.is_empty() { Ok(()) } else { Err(Self { mistakes }) }
    }

    /// Each mistake, in the order of the text; at least one.
    pub fn mistakes(&self) -> &[LineMistake<P>] {
        &self.mistakes
    }
}

impl<P: Display> Display for TextError<P> {
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

impl<P: Debug + Display> Error for TextError<P> {}
