//! Where what is asked for can be read, and read again.

use crate::cli::{RunArgs, RunFileArgs};
use crate::config;
use crate::exit::Failure;
use crate::log::Verbosity;
use crate::resolve;
use crate::spec::Spec;

/// Flags or a configuration file, and the files that they name.
pub(crate) enum Source {
    Flags(Box<RunArgs>),
    File(RunFileArgs),
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
            Self::File(args) => {
                let mut spec = config::load(&args.file.config).map_err(config::Mistakes::report)?;
                if args.quiet || args.verbose {
                    spec.global.verbosity = Verbosity::of(args.quiet, args.verbose);
                }
                Ok(spec)
            }
        }
    }
}
