//! The command lines about the return path, and what they share with the gateway's.

use clap::Args;
use mmproxy_routing::{Mark, Priority, Settings, Table};

use super::TargetArgs;
use super::values::{FamilyArg, ProtocolArg, ReturnPathMode};
use crate::target_netns::TargetNetnsArgs;

/// How replies come back, and which mark, table and priority that takes.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ReturnPathArgs {
    /// What the targets speak
    #[arg(short, long, value_enum, default_value = "tcp", value_name = "PROTOCOL")]
    pub(crate) protocol: ProtocolArg,

    /// How replies of the target come back
    #[arg(long, value_enum, default_value = "auto", value_name = "MODE", help_heading = "Return path")]
    pub(crate) return_path: ReturnPathMode,

    /// Firewall mark (SO_MARK) of the connections to the target
    #[arg(short, long, value_name = "N", default_value = "123", help_heading = "Return path")]
    pub(crate) mark: Mark,

    /// Routing table that brings replies back
    #[arg(short, long, value_name = "N", default_value = "100", help_heading = "Return path")]
    pub(crate) table: Table,

    /// Priority of the routing rule
    #[arg(long, value_name = "N", default_value = "100", help_heading = "Return path")]
    pub(crate) priority: Priority,
}

impl ReturnPathArgs {
    /// The same for the routing crate.
    pub(crate) const fn settings(self) -> Settings {
        Settings { mark: self.mark, table: self.table, priority: self.priority }
    }
}

/// `mmproxy setup`.
#[derive(Args, Debug)]
pub(crate) struct RoutingArgs {
    #[command(flatten)]
    pub(crate) targets: TargetArgs,

    #[command(flatten)]
    pub(crate) path: ReturnPathArgs,

    #[command(flatten)]
    pub(crate) netns: TargetNetnsArgs,

    /// Address families to set up; by default those of the targets, or all that this host has
    #[arg(long, value_enum, default_value = "available")]
    pub(crate) family: FamilyArg,

    /// Print the commands that would do the same, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `mmproxy teardown`.
#[derive(Args, Debug)]
pub(crate) struct TeardownArgs {
    #[command(flatten)]
    pub(crate) targets: TargetArgs,

    #[command(flatten)]
    pub(crate) path: ReturnPathArgs,

    #[command(flatten)]
    pub(crate) netns: TargetNetnsArgs,

    /// Print the commands that would do the same, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Remove it although a running mmproxy uses it
    #[arg(long)]
    pub(crate) force: bool,
}

/// `mmproxy check`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) targets: TargetArgs,

    #[command(flatten)]
    pub(crate) path: ReturnPathArgs,

    #[command(flatten)]
    pub(crate) netns: TargetNetnsArgs,

    /// Connect to nothing: look at routes, sysctls, sockets and firewall rules only
    #[arg(long)]
    pub(crate) no_connect: bool,

    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}
