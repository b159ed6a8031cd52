//! `mmproxy config`: configuration files looked at, shown, and made from command lines.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Parser;

use crate::cli::{Cli, ConfigCommand};
use crate::config;
use crate::exit::{Exit, Failure};

/// Runs one of the commands.
pub(crate) fn run(command: &ConfigCommand) -> Result<Exit, Failure> {
    let text = match command {
        ConfigCommand::Check(args) => {
            let spec = config::load(&args.config).map_err(config::Mistakes::report)?;
            let (count, plural) = (spec.services.len(), if spec.services.len() == 1 { "" } else { "s" });
            format!("[+] OK. {} describes {count} service{plural}.\n", args.config.display())
        }
        ConfigCommand::Show(args) => {
            config::show(&config::load(&args.config).map_err(config::Mistakes::report)?)
        }
        ConfigCommand::Example => config::example(),
        ConfigCommand::Schema => config::schema(),
        ConfigCommand::Reference => config::reference(),
        ConfigCommand::FromFlags(args) => match flags(&args.flags) {
            Ok(cli) => config::text_of_flags(&cli.run).map_err(config::Mistakes::report)?,
            Err(error) => return Ok(crate::usage(&error)),
        },
        ConfigCommand::FromGoMmproxy(args) => config::text_of_go_mmproxy(&args.flags)?,
    };
    // Whoever stops reading early, as `head` does, has seen what they wanted.
    io::stdout().lock().write_all(text.as_bytes()).ok();
    Ok(Exit::Ok)
}

/// A command line of the gateway, with or without its first word.
fn flags(words: &[OsString]) -> Result<Cli, clap::Error> {
    let name = words.first().filter(|word| *word == "mmproxy");
    let words = words.iter().skip(usize::from(name.is_some())).cloned();
    Cli::try_parse_from([OsString::from("mmproxy")].into_iter().chain(words))
}
