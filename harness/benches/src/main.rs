//! Measures mmproxy beside other gateways and a direct connection.

mod case;
mod charts;
mod cli;
mod clients;
mod datagram;
mod gateway;
mod generator;
mod goals;
mod machine;
mod measure;
mod measured;
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

use std::io;
use std::process::ExitCode;

use clap::Parser;
use harness::isolated_program;

use crate::cli::{Cli, Command};
use crate::record::Record;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command.unwrap_or_default() {
        Command::Run(options) => return isolated_program(|| run::run(&options)),
        Command::Table { record: folder } => Record::read(&folder).map(|record| {
            print!("{}", summary::readme_table(&record, &folder));
            ExitCode::SUCCESS
        }),
        Command::Goals { record } => Record::read(&record).map(|record| goals(&record)),
        Command::Redraw { record } => redraw(&record),
        Command::Target { addresses } => target::serve(&addresses).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("mmproxy-bench: {error}");
        ExitCode::FAILURE
    })
}

fn goals(record: &Record) -> ExitCode {
    let verdicts = goals::verdicts(record);
    for verdict in &verdicts {
        println!("{verdict}");
    }
    if verdicts.iter().any(|verdict| verdict.met == Some(false)) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn redraw(folder: &std::path::Path) -> io::Result<ExitCode> {
    Record::read(folder)?.write(folder)?;
    Ok(ExitCode::SUCCESS)
}
