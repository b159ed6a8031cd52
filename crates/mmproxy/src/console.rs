//! What the gateway tells its operator while it starts: one line at a time, on standard output.

use std::fmt::Display;
use std::io::{self, Write};

/// Where the self-check speaks; each line is flushed, so that a pipe or a journal has it at once.
pub(crate) struct Console {
    out: Box<dyn Write + Send>,
    indent: &'static str,
    quiet: bool,
}

impl Console {
    /// Standard output. `quiet` keeps what is fine to itself.
    pub(crate) fn stdout(quiet: bool) -> Self {
        Self { out: Box::new(io::stdout()), indent: "", quiet }
    }

    /// Standard output, each line behind `indent`.
    pub(crate) fn indented(indent: &'static str) -> Self {
        Self { out: Box::new(io::stdout()), indent, quiet: false }
    }

    /// Nothing is printed: the caller shows the findings in its own way.
    pub(crate) fn silent() -> Self {
        Self { out: Box::new(io::sink()), indent: "", quiet: true }
    }

    /// What is as it should be; not printed when quiet.
    pub(crate) fn fine(&mut self, line: impl Display) {
        if !self.quiet {
            self.always(line);
        }
    }

    /// What the operator must see.
    pub(crate) fn always(&mut self, line: impl Display) {
        // A reader that went away (`mmproxy … | head -1`) must not end the gateway.
        writeln!(self.out, "{}{line}", self.indent).and_then(|()| self.out.flush()).ok();
    }
}
