//! Measures mmproxy beside other gateways and a direct connection.

mod case;
mod cli;
mod clients;
mod datagram;
mod gateway;
mod generator;
mod machine;
mod measure;
mod pattern;
mod poll;
mod record;
mod run;
mod slots;
mod socket;
mod stage;
mod subject;
mod summary;
mod target;
mod usage;
mod wire;

use std::process::ExitCode;

use clap::Parser;
use harness::isolated_program;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or_default() {
        Command::Run(options) => isolated_program(|| run::run(&options)),
        Command::Target { addresses } => match target::serve(&addresses) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("mmproxy-bench target: {error}");
                ExitCode::FAILURE
            }
        },
    }
}
