//! The command line of datagrams: what `-p udp` understands beside the rest.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::values::duration;

/// Flags that only `-p udp` takes.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Datagrams (-p udp)")]
pub(crate) struct UdpArgs {
    /// Which datagrams begin with it [default: every]
    #[arg(long, value_enum, value_name = "WHICH")]
    pub(crate) udp_header: Option<UdpHeaderArg>,

    /// How long a flow may be without a datagram either way before it ends; at least 1s [default: 1min]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) udp_idle_timeout: Option<Duration>,

    /// Flows, each with a descriptor, at a time on each address listened on [default: what the limit on open files allows]
    #[arg(long, value_name = "N")]
    pub(crate) udp_max_flows: Option<NonZeroUsize>,

    /// How many of them the clients of one balancer's address may have [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) udp_max_flows_per_balancer: Option<NonZeroUsize>,

    /// How many of them the clients of one network, IPv4 /24 or IPv6 /56, may have [default: a quarter]
    #[arg(long, value_name = "N")]
    pub(crate) udp_max_flows_per_network: Option<NonZeroUsize>,

    /// Whether datagrams of many flows share a system call [default: auto]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(crate) udp_io_uring: Option<IoUringArg>,
}

/// The formats of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HeaderArg {
    /// PROXY protocol version 1: a line of text, in front of connections alone
    V1,
    /// PROXY protocol version 2; replies carry none
    V2,
    /// Cloudflare's Simple Proxy Protocol, in front of datagrams alone; replies carry it too
    Spp,
}

/// Whether io_uring is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum IoUringArg {
    /// Where the kernel has it and nothing forbids it
    Auto,
    /// One system call for each datagram
    Never,
}

/// Which datagrams have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UdpHeaderArg {
    /// All of them; others are dropped
    Every,
    /// The first one from each of the balancer's ports, as Cloudflare Spectrum sends version 2; serves with one worker
    FirstDatagram,
}
