//! The command lines about configuration files.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config;

/// `mmproxy config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Tell every mistake in a configuration file, or that there is none
    Check(FileArgs),
    /// Print what a configuration file means, with every default
    Show(FileArgs),
    /// Print a configuration file with every key, its meaning and its default
    Example,
    /// Print a JSON schema of configuration files, for editors
    Schema,
    /// Print a table of all keys, as Markdown
    Reference,
    /// Print the configuration file for flags of mmproxy: `config from-flags -- -l 0.0.0.0:2222 …`
    FromFlags(FromFlagsArgs),
    /// Print the configuration file for flags of go-mmproxy: `config from-go-mmproxy -- -l 0.0.0.0:2222 …`
    FromGoMmproxy(FromGoMmproxyArgs),
}

/// Which file.
#[derive(Args, Clone, Debug)]
pub(crate) struct FileArgs {
    /// The configuration file; `conf.d/*.toml` beside it belong to it
    #[arg(short, long, value_name = "FILE", default_value = config::PATH)]
    pub(crate) config: PathBuf,
}

/// `mmproxy run`.
#[derive(Args, Debug)]
pub(crate) struct RunFileArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,

    /// Print only what is wrong and the addresses listened on
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Log what happens inside each session too
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// `mmproxy config from-flags`.
#[derive(Args, Debug)]
pub(crate) struct FromFlagsArgs {
    /// The flags of mmproxy, behind `--`
    #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub(crate) flags: Vec<std::ffi::OsString>,
}

/// `mmproxy config from-go-mmproxy`.
#[derive(Args, Debug)]
pub(crate) struct FromGoMmproxyArgs {
    /// The flags of go-mmproxy, behind `--`
    #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) flags: Vec<String>,
}
