//! The command lines about the return path, and what they share with the gateway's.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use mmproxy_routing::{Mark, Ports, Priority, Settings, Table, Transport};

use super::TargetArgs;
use super::values::{FamilyArg, ProtocolArg, ReturnPathMode, address};
use crate::config::{self, default};
use crate::target_netns::TargetNetnsArgs;

/// How replies come back, and which mark, table and priority that takes.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ReturnPathArgs {
    /// What the targets speak
    #[arg(short, long, value_enum, default_value = default::PROTOCOL, value_name = "PROTOCOL")]
    pub(crate) protocol: ProtocolArg,

    /// How replies of the target come back
    #[arg(long, value_enum, default_value = default::RETURN_PATH, value_name = "MODE", help_heading = "Return path")]
    pub(crate) return_path: ReturnPathMode,

    /// Firewall mark (SO_MARK) of the connections to the target; with a mask, only those bits are looked at and changed
    #[arg(short, long, value_name = "N[/MASK]", default_value = default::MARK, help_heading = "Return path")]
    pub(crate) mark: Mark,

    /// Routing table that brings replies back
    #[arg(short, long, value_name = "N", default_value = default::TABLE, help_heading = "Return path")]
    pub(crate) table: Table,

    /// Priority of the routing rule
    #[arg(long, value_name = "N", default_value = default::PRIORITY, help_heading = "Return path")]
    pub(crate) priority: Priority,
}

impl ReturnPathArgs {
    /// The same for the routing crate.
    pub(crate) const fn settings(self) -> Settings {
        Settings { mark: self.mark, table: self.table, priority: self.priority }
    }

    /// The protocol for the routing crate.
    pub(crate) const fn transport(self) -> Transport {
        match self.protocol {
            ProtocolArg::Tcp => Transport::Tcp,
            ProtocolArg::Udp => Transport::Udp,
        }
    }
}

/// Which ports a transparent listener gets beside its own.
#[derive(Args, Clone, Debug)]
pub(crate) struct TproxyArgs {
    /// Hand what comes in for these ports to the listener too, such as `20000-20100`; repeatable
    ///
    /// nftables rules (TPROXY) do that, installed and removed with the return path. A listener on all addresses or on a
    /// loopback one gets what is for any address of this host; one on another address, what is for that.
    #[arg(long, value_name = "PORTS", help_heading = "Transparent listener")]
    pub(crate) tproxy_ports: Vec<Ports>,

    /// Firewall mark of what is handed over, on its way in
    #[arg(long, value_name = "N[/MASK]", default_value = default::TPROXY_MARK, help_heading = "Transparent listener")]
    pub(crate) tproxy_mark: Mark,

    /// Routing table that what is marked so is looked up in
    #[arg(long, value_name = "N", default_value = default::TPROXY_TABLE, help_heading = "Transparent listener")]
    pub(crate) tproxy_table: Table,
}

/// The same with the listener, for commands that do not listen themselves.
#[derive(Args, Clone, Debug)]
pub(crate) struct ListenerArgs {
    /// Address and port that the gateway listens on transparently, for --tproxy-ports; repeatable
    #[arg(short, long, value_name = "ADDR:PORT", value_parser = address, requires = "tproxy_ports", help_heading = "Transparent listener")]
    pub(crate) listen: Vec<SocketAddr>,

    #[command(flatten)]
    pub(crate) tproxy: TproxyArgs,
}

/// What is set up, removed or checked: for which targets, how, where, and for which listener.
#[derive(Args, Debug)]
pub(crate) struct AboutArgs {
    #[command(flatten)]
    pub(crate) targets: TargetArgs,

    #[command(flatten)]
    pub(crate) path: ReturnPathArgs,

    #[command(flatten)]
    pub(crate) netns: TargetNetnsArgs,

    #[command(flatten)]
    pub(crate) listener: ListenerArgs,
}

/// `mmproxy setup`.
#[derive(Args, Debug)]
pub(crate) struct RoutingArgs {
    #[command(flatten)]
    pub(crate) about: AboutArgs,

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
    pub(crate) about: AboutArgs,

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
    pub(crate) about: AboutArgs,

    /// Check every service of a configuration file instead, each with its own targets, return path and namespace
    ///
    /// Without FILE it is the one that `mmproxy run` takes.
    #[arg(
        short, long, value_name = "FILE", num_args = 0..=1, default_missing_value = config::PATH,
        conflicts_with_all = [
            "target_v4", "target_v6", "protocol", "return_path", "mark", "table", "priority", "target_netns",
            "listen", "tproxy_ports", "tproxy_mark", "tproxy_table",
        ],
    )]
    pub(crate) config: Option<PathBuf>,

    /// Connect to nothing: look at routes, sysctls, sockets and firewall rules only
    #[arg(long)]
    pub(crate) no_connect: bool,

    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}
