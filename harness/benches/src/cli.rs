//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Measures mmproxy beside other gateways and a direct connection, in network namespaces of its own.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measures, and writes a record
    Run(Box<Options>),
    /// Prints the README's table from a record
    Table {
        /// Folder of the record
        record: PathBuf,
    },
    /// Compares a record with the goals; the exit status is 1 if one is missed
    Goals {
        /// Folder of the record
        record: PathBuf,
    },
    /// Writes a record's front page and charts again
    Redraw {
        /// Folder of the record
        record: PathBuf,
    },
    /// The measuring target's process; started by `run`
    #[command(hide = true)]
    Target {
        /// Where to serve
        addresses: Vec<SocketAddr>,
    },
}

impl Default for Command {
    fn default() -> Self {
        Self::Run(Box::default())
    }
}

/// What to measure, and how.
#[derive(Debug, Default, Args)]
pub(crate) struct Options {
    /// One short round, no variants; at most two minutes
    #[arg(long)]
    pub(crate) quick: bool,

    /// Tiny loads that check what arrives and from whom, not how fast; no record unless --record is given
    #[arg(long, conflicts_with = "quick")]
    pub(crate) smoke: bool,

    /// Measure this case alone; repeatable, `idle*` means all that begin so
    #[arg(long, value_name = "CASE")]
    pub(crate) only: Vec<String>,

    /// Measure this subject (and direct, which ratios refer to); repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) subject: Vec<String>,

    /// Another gateway: a command line with {listen}, {target4}, {target6} and {protocol} (tcp or udp) in it; repeatable
    #[arg(long, value_name = "NAME=COMMAND")]
    pub(crate) peer: Vec<String>,

    /// How often each subject has its turn
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<usize>,

    /// The mmproxy executable to measure [default: beside this one]
    #[arg(long, value_name = "PATH")]
    pub(crate) mmproxy: Option<PathBuf>,

    /// TCP congestion control for everybody, of those that a namespace may choose [default: reno, which does not pace]
    #[arg(long, value_name = "NAME")]
    pub(crate) congestion: Option<String>,

    /// Where to write the record [default: docs/benchmarks/DATE]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) record: Option<PathBuf>,

    /// Print the cases and the subjects, and which of them are missing here
    #[arg(long)]
    pub(crate) list: bool,
}
