//! How the process ends: statuses that service managers act on, and failures that name their cure.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// Exit statuses, after sysexits(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done; or a clean stop after SIGTERM or SIGINT.
    Ok = 0,
    /// `decode`: the input is a proper prefix of a header.
    Incomplete = 2,
    /// `decode`: the input broke a rule of the protocol.
    BadHeader = 3,
    /// `decode`: the input is not a PROXY header at all.
    NotProxy = 4,
    /// `EX_USAGE`: the command line is wrong.
    Usage = 64,
    /// `EX_UNAVAILABLE`: a target, or an address to listen on, cannot be had.
    Unavailable = 69,
    /// `EX_SOFTWARE`: something that should not happen did.
    Software = 70,
    /// `EX_NOPERM`: a capability is missing.
    NoPermission = 77,
    /// `EX_CONFIG`: a file or the host's set-up is wrong.
    Config = 78,
}

impl From<u8> for Exit {
    /// The status of another process of ours; one that it does not have is a bug of its.
    fn from(status: u8) -> Self {
        const KNOWN: [Exit; 9] = [
            Exit::Ok,
            Exit::Incomplete,
            Exit::BadHeader,
            Exit::NotProxy,
            Exit::Usage,
            Exit::Unavailable,
            Exit::NoPermission,
            Exit::Config,
            Exit::Software,
        ];
        KNOWN.into_iter().find(|exit| *exit as u8 == status).unwrap_or(Self::Software)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command gave up: what went wrong, its cause, what to do about it, and the exit status.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    error: Box<dyn Error + Send + Sync>,
    hints: Vec<String>,
}

impl Failure {
    /// A failure that ends the process with `exit`.
    pub(crate) fn new(exit: Exit, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { exit, error: error.into(), hints: Vec::new() }
    }

    /// Adds a line that tells the operator how to cure it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// What went wrong and its causes in one line, without the cures.
    pub(crate) fn reason(&self) -> String {
        Chain(self.error.as_ref()).to_string()
    }

    /// What cures it, one line each.
    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The status to end with.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    /// `error: what: cause: its cause`, then one `hint:` line for each cure.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", Chain(self.error.as_ref()))?;
        for hint in &self.hints {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// An error and all its sources on one line, separated by colons.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read {0}")]
    struct Outer(&'static str, #[source] io::Error);

    #[test]
    fn a_failure_prints_each_cause_once_and_then_its_cures() {
        let cause = io::Error::new(io::ErrorKind::NotFound, "no such file");
        let failure =
            Failure::new(Exit::Config, Outer("ranges.txt", cause)).hint("create it").hint("or use --allow");
        assert_eq!(
            failure.to_string(),
            "error: cannot read ranges.txt: no such file\n  hint: create it\n  hint: or use --allow"
        );
        assert_eq!(failure.exit() as u8, 78);
    }
}
