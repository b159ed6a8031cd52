//! Flags for those who look on.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::values::address;

/// Logs, metrics, health.
#[derive(Args, Debug)]
pub(crate) struct EyesArgs {
    /// Serve metrics, health and a status page by HTTP on this address, such as `127.0.0.1:9100`
    ///
    /// Whoever reaches it sees the clients' addresses: it has neither password nor encryption.
    #[arg(long, value_name = "ADDR:PORT", value_parser = address, help_heading = "Eyes")]
    pub(crate) admin: Option<SocketAddr>,

    /// Form of the log on standard error; without it text, or journald's where systemd says that standard error is the journal
    #[arg(long, value_enum, value_name = "FORM", help_heading = "Eyes")]
    pub(crate) log_format: Option<LogFormat>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
    /// To systemd's journal, with fields
    Journald,
}

/// What becomes of connections that speak for no client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HealthCheckArg {
    /// They reach the target
    Pass,
    /// The gateway answers: an end in order if the target is up, a reset if it is down
    Answer,
    /// They are reset
    Refuse,
}
