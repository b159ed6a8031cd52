//! The command lines of what is asked of a running mmproxy.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use mmproxy_forwarder::parse_network;

use super::values::duration;
use crate::control::SessionName;

/// Which running mmproxy is meant.
#[derive(Args, Clone, Debug)]
pub(crate) struct ControlArgs {
    /// Its control socket
    #[arg(long, value_name = "PATH", default_value = "/run/mmproxy/control.sock")]
    pub(crate) control: PathBuf,
}

/// `mmproxy status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) control: ControlArgs,

    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mmproxy sessions`.
#[derive(Args, Debug)]
pub(crate) struct SessionsArgs {
    #[command(flatten)]
    pub(crate) control: ControlArgs,

    /// Only sessions whose client, as announced, is in this network
    #[arg(long, value_name = "CIDR", value_parser = parse_network)]
    pub(crate) client: Option<IpNet>,

    /// No more than this many
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) at_most: usize,

    /// Print a JSON object for each session instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mmproxy kill`.
#[derive(Args, Debug)]
pub(crate) struct KillArgs {
    #[command(flatten)]
    pub(crate) control: ControlArgs,

    /// The session, as `mmproxy sessions` names it, such as `3.17`
    #[arg(required_unless_present = "client", conflicts_with = "client")]
    pub(crate) session: Option<SessionName>,

    /// All sessions whose client, as announced, is in this network
    #[arg(long, value_name = "CIDR", value_parser = parse_network)]
    pub(crate) client: Option<IpNet>,
}

/// `mmproxy trace`.
#[derive(Args, Debug)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    pub(crate) control: ControlArgs,

    /// Sessions whose client, as announced, is in this network; before there is a header, the balancer counts as client
    #[arg(long, value_name = "CIDR", value_parser = parse_network)]
    pub(crate) client: IpNet,

    /// Print a JSON object for each step
    #[arg(long)]
    pub(crate) json: bool,
}

/// `mmproxy top`.
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) control: ControlArgs,

    /// How often to look, at least 100ms
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,

    /// Only sessions whose client, as announced, is in this network
    #[arg(long, value_name = "CIDR", value_parser = parse_network)]
    pub(crate) client: Option<IpNet>,

    /// Sort among no more sessions than this; each is looked at each time
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) at_most: usize,
}

/// `mmproxy reload`.
#[derive(Args, Debug)]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    pub(crate) control: ControlArgs,

    /// Where no mmproxy answers at the control socket, send SIGHUP to this process and do not wait for what comes of it
    #[arg(long, value_name = "PID", value_parser = process)]
    pub(crate) or_signal: Option<i32>,
}

/// 0 and negative numbers mean groups of processes to kill(2).
fn process(text: &str) -> Result<i32, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "the number of a process is expected, such as $MAINPID in a unit".to_owned())
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < SHORTEST_INTERVAL { Err("at least 100ms".to_owned()) } else { Ok(interval) }
}

/// Each look has every worker count, and look at its sessions.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_process_can_be_signalled() {
        assert_eq!(process("4711"), Ok(4711));
        for group in ["0", "-1", "keeper", "", "99999999999"] {
            assert!(process(group).is_err_and(|error| error.contains("$MAINPID")), "{group}");
        }
    }
}
