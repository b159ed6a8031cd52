//! The keeper: the process that has the privileges, and never reads a byte from the network.
//!
//! It reads what is asked for, binds, sets up, starts workers that serve, and cleans up. Start reading at [`run`].

mod activated;
mod announce;
mod backoff;
mod control;
mod crew;
mod denials;
mod elsewhere;
mod event;
mod ground;
mod inquiry;
mod notify;
mod process;
mod questions;
mod service;
mod shift;
mod sockets;
mod source;
mod stop;
mod supervisor;
mod tally;

use self::activated::Activated;
use self::denials::Denials;
use self::event::{Events, Generation};
use self::shift::Shift;
use self::sockets::Sockets;
use self::stop::Stop;
use self::supervisor::Supervisor;
use crate::cli::{RunArgs, RunFileArgs};
use crate::console::Console;
use crate::descriptors;
use crate::exit::{Exit, Failure};
use crate::log::{self, Verbosity};
use crate::privileges;
use crate::runtime;
use crate::spec::Global;

pub(crate) use self::source::Source;
pub(crate) use self::stop::Until;

/// `mmproxy` without a command: runs until SIGTERM or SIGINT.
pub(crate) fn main(args: RunArgs) -> Result<Exit, Failure> {
    log::start(Verbosity::of(args.quiet, args.verbose), args.eyes.log_format)?;
    let mut console = Console::stdout(args.quiet);
    run(&Source::Flags(Box::new(args)), &mut console, Until::Signalled)?;
    Ok(Exit::Ok)
}

/// `mmproxy run`: the same for what a file describes.
pub(crate) fn of_file(args: RunFileArgs) -> Result<Exit, Failure> {
    let source = Source::File(args);
    // Read for this alone: how much is said, and in which form, stands in the file.
    let Global { verbosity, log_format, .. } = source.read()?.global;
    log::start(verbosity, log_format)?;
    let mut console = Console::stdout(verbosity == Verbosity::Quiet);
    run(&source, &mut console, Until::Signalled)?;
    Ok(Exit::Ok)
}

/// Runs a gateway to its clean end in the network namespace of the calling thread.
pub(crate) fn run(source: &Source, console: &mut Console, until: Until) -> Result<(), Failure> {
    descriptors::raise();
    let executable = std::env::current_exe().map_err(|error| Failure::new(Exit::Software, error))?;
    // A wrong command line is told first, also to somebody without privileges.
    let spec = source.read()?;
    let denials = Denials::load(spec.global.deny_state.clone())?;
    privileges::require_spoofing()?;
    runtime::block_on(async {
        // From here on a signal does not end the process before it has cleaned up.
        let stop = Stop::new(until)?;
        let heard = Events::new();
        let mut activated = Activated::from_environment();
        let none = Sockets::default();
        let shift = Shift::prepare(spec, Generation(1), &none, &mut activated, &heard.0, console).await?;
        activated.close_rest();
        Supervisor::new(source, executable, console, stop, heard, (shift, denials)).run().await
    })?
}
