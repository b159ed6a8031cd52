//! mmproxy: gives a server behind a load balancer the real client address.
//!
//! Start reading at `keeper`, which has the privileges and starts what serves; `worker` is that. `cli` is the command line
//! as typed, `resolve` what it means.

mod admin;
mod channel;
mod cli;
mod commands;
mod config;
mod console;
mod control;
mod descriptors;
mod escape;
mod exit;
mod eyes;
mod hex;
mod hint;
mod jail;
mod keeper;
mod log;
mod loopback;
mod man;
mod metrics;
mod namespace;
mod privileges;
mod resolve;
mod return_path;
mod runtime;
mod selfcheck;
mod signals;
mod spec;
mod table;
mod target_netns;
mod trace;
mod units;
mod watch;
mod way_in;
mod worker;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Failure};

/// A session is three small blocks at aligned addresses, which this allocator packs without gaps and gives back to the
/// system when sessions end: measured against the C library's, a fifth less memory for idle sessions, and what a crowd
/// took is free again after it has left.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error).into(),
    };
    match dispatch(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("mmproxy: {failure}");
            failure.exit().into()
        }
    }
}

fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    match cli.command {
        None => keeper::main(cli.run),
        Some(Command::Setup(args)) => commands::routing::setup(&args),
        Some(Command::Teardown(args)) => commands::routing::teardown(&args),
        Some(Command::Check(args)) => commands::check::run(&args),
        Some(Command::Probe(args)) => commands::probe::run(&args),
        Some(Command::Decode(args)) => commands::decode::run(&args),
        Some(Command::Encode(args)) => commands::encode::run(&args),
        Some(Command::Status(args)) => commands::control::status(&args),
        Some(Command::Sessions(args)) => commands::control::sessions(&args),
        Some(Command::Kill(args)) => commands::control::kill(&args),
        Some(Command::Trace(args)) => commands::control::trace(&args),
        Some(Command::Top(args)) => commands::top::run(args),
        Some(Command::Deny(command)) => commands::deny::run(&command),
        Some(Command::Reload(args)) => commands::control::reload(&args),
        Some(Command::Run(args)) => keeper::of_file(args),
        Some(Command::Config(command)) => commands::config::run(&command),
        Some(Command::Completions(args)) => Ok(commands::manual::completions(&args)),
        Some(Command::Man(args)) => Ok(commands::manual::page(&args)),
        Some(Command::Demo) => commands::demo::run(),
        Some(Command::Worker) => worker::main(),
        Some(Command::JailProbe(args)) => commands::jail_probe::run(&args),
    }
}

/// Prints what clap has to say; `--help` and `--version` are no mistakes.
fn usage(error: &clap::Error) -> Exit {
    // Nothing is left to tell it to when the terminal has gone.
    error.print().ok();
    if error.use_stderr() { Exit::Usage } else { Exit::Ok }
}
