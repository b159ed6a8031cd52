//! Where what is asked for can be read, and read again.

use crate::cli::RunArgs;
use crate::exit::Failure;
use crate::resolve;
use crate::spec::Spec;

/// Flags, and the files that they name.
pub(crate) enum Source {
    Flags(Box<RunArgs>),
}

impl Source {
    /// What is asked for now.
    ///
    /// # Errors
    ///
    /// Every mistake in it.
    pub(crate) fn read(&self) -> Result<Spec, Failure> {
        match self {
            Self::Flags(args) => resolve::run(args),
        }
    }
}
