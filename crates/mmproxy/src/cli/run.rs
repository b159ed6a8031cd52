//! The command line of the gateway itself.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use mmproxy_forwarder::{AllowedTarget, parse_network};
use mmproxy_routing::Families;

use super::values::{
    Limit, Probing, Routing, SourceArg, SourceKind, SourcePortArg, address, duration, keepalive, limit,
    target_v4, target_v6,
};
use super::{
    ClientArgs, EyesArgs, HeaderArg, HealthCheckArg, LimitArgs, ReturnPathArgs, SandboxArgs, TproxyArgs,
    UdpArgs,
};
use crate::config::default;
use crate::target_netns::TargetNetnsArgs;

/// The gateway: the original mmproxy's flags and a few more.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// File with the load balancers' networks, one per line; `#` and `;` start comments
    #[arg(
        short = 'a',
        long,
        alias = "allowed-networks",
        value_name = "FILE",
        help_heading = "Who may connect"
    )]
    pub(crate) allowed_subnets: Vec<PathBuf>,

    /// Network or address of a load balancer that may connect; repeatable
    #[arg(long, value_name = "CIDR", value_parser = parse_network, help_heading = "Who may connect")]
    pub(crate) allow: Vec<IpNet>,

    /// Kinds of client address a header may claim although they are refused by default; repeatable
    #[arg(long, value_name = "KIND", value_enum, value_delimiter = ',', help_heading = "Who may connect")]
    pub(crate) allow_source: Vec<SourceKind>,

    #[command(flatten)]
    pub(crate) clients: ClientArgs,

    /// Address and port to listen on, such as `0.0.0.0:2222` or `[::]:2222`; repeatable
    #[arg(short, long, value_name = "ADDR:PORT", required = true, value_parser = address)]
    pub(crate) listen: Vec<SocketAddr>,

    /// Take connections to other addresses and ports too, which a TPROXY rule sends here; --tproxy-ports makes such rules
    #[arg(long, help_heading = "Transparent listener")]
    pub(crate) listen_transparent: bool,

    #[command(flatten)]
    pub(crate) tproxy: TproxyArgs,

    #[command(flatten)]
    pub(crate) targets: TargetArgs,

    /// Connect to the destination that the header names, if --allow-target allows it
    ///
    /// -4 and -6 are then the targets of connections whose header names none, such as health checks.
    #[arg(long, requires = "allow_target")]
    pub(crate) target_from_header: bool,

    /// Destination that a header may name, such as `10.0.0.5:22`, `10.0.0.0/24:20000-20100` or `[2001:db8::5]:22`; repeatable
    #[arg(long, value_name = "CIDR[:PORTS]", requires = "target_from_header")]
    pub(crate) allow_target: Vec<AllowedTarget>,

    /// Where the client's address comes from: a `header`, without which a connection is refused, or the `peer` itself
    #[arg(
        long,
        value_enum,
        default_value = default::SOURCE,
        value_name = "WHERE",
        help_heading = "Who may connect"
    )]
    pub(crate) source: SourceArg,

    /// Formats of headers that are accepted; with -p udp one alone [default: v1,v2; with -p udp v2]
    #[arg(long, value_enum, value_name = "FORMAT", value_delimiter = ',', help_heading = "Who may connect")]
    pub(crate) header: Vec<HeaderArg>,

    #[command(flatten)]
    pub(crate) path: ReturnPathArgs,

    #[command(flatten)]
    pub(crate) netns: TargetNetnsArgs,

    /// Whether to install the return path (and remove it at the end), only look at it, or leave it alone
    #[arg(long, value_enum, default_value = default::ROUTING, value_name = "WHAT", help_heading = "Return path")]
    pub(crate) routing: Routing,

    /// Source port of the connection to the target
    ///
    /// `keep` the client's port or refuse; `prefer` it and fall back to another where it is taken; or always take
    /// an `ephemeral` one.
    #[arg(long, value_enum, default_value = default::SOURCE_PORT, value_name = "POLICY", help_heading = "Connections")]
    pub(crate) source_port: SourcePortArg,

    /// The same as --source-port keep
    #[arg(short = 'P', long, conflicts_with = "source_port", help_heading = "Connections")]
    pub(crate) force_real_client_port: bool,

    /// How long a load balancer may take to send its whole header, from accept; at least 3s
    #[arg(long, value_name = "TIME", default_value = default::HEADER_TIMEOUT, value_parser = duration, help_heading = "Connections")]
    pub(crate) header_timeout: Duration,

    /// How long the target may take to accept a connection
    #[arg(long, value_name = "TIME", default_value = default::CONNECT_TIMEOUT, value_parser = duration, help_heading = "Connections")]
    pub(crate) connect_timeout: Duration,

    /// How long a session may live without a byte that moves, or `off`; then both sides are reset
    #[arg(long, value_name = "TIME", default_value = default::IDLE_TIMEOUT, value_parser = limit, help_heading = "Connections")]
    pub(crate) idle_timeout: Limit,

    /// The same for a session of which one side has ended
    ///
    /// A side that ended and went away looks like one that waits for its answer. As long as bytes move, nothing is cut
    /// off.
    #[arg(long, value_name = "TIME", default_value = default::HALF_CLOSED_TIMEOUT, value_parser = limit, help_heading = "Connections")]
    pub(crate) half_closed_timeout: Limit,

    /// How long what was sent may stay unacknowledged before the kernel gives a connection up, or `off`
    ///
    /// TCP_USER_TIMEOUT, on both sides. Without it the kernel tries again for about a quarter of an hour. With it, it
    /// decides in place of the number of probes when an unanswered keepalive ends a connection.
    #[arg(long, value_name = "TIME", default_value = default::TCP_USER_TIMEOUT, value_parser = limit, help_heading = "Connections")]
    pub(crate) tcp_user_timeout: Limit,

    /// When silent connections are probed, on both sides: after IDLE, then every INTERVAL, PROBES times; or `off`
    #[arg(long, value_name = "IDLE[,INTERVAL[,PROBES]]", default_value = default::KEEPALIVE, value_parser = keepalive, help_heading = "Connections")]
    pub(crate) keepalive: Probing,

    /// How long sessions may go on after SIGTERM or SIGINT
    #[arg(long, value_name = "TIME", default_value = default::DRAIN, value_parser = duration, help_heading = "Connections")]
    pub(crate) drain: Duration,

    /// Connections that may wait to be accepted, for each worker; the kernel caps it at net.core.somaxconn
    #[arg(long, value_name = "N", default_value = default::BACKLOG, value_parser = clap::value_parser!(u32).range(1..=65535), help_heading = "Connections")]
    pub(crate) backlog: u32,

    /// Threads that serve, each with a listener of its own on every address; by default one for each processor that
    /// the process may run on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Connections")]
    pub(crate) workers: Option<u16>,

    /// What becomes of connections that speak for no client, as balancers' health checks do (LOCAL, UNKNOWN)
    ///
    /// They `pass` to the target from the gateway's own address; or the gateway may `answer` them itself, by an end in
    /// order while the target is up and a reset while it is down; or `refuse` them.
    #[arg(long, value_enum, default_value = default::HEALTH_CHECKS, value_name = "POLICY", help_heading = "Connections")]
    pub(crate) health_checks: HealthCheckArg,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,

    #[command(flatten)]
    pub(crate) udp: UdpArgs,

    #[command(flatten)]
    pub(crate) jail: SandboxArgs,

    #[command(flatten)]
    pub(crate) eyes: EyesArgs,

    /// File that keeps what `mmproxy deny` has been told from one start to the next; it is read at the start, and written by
    /// mmproxy
    #[arg(long, value_name = "FILE", help_heading = "Who may connect")]
    pub(crate) deny_state: Option<PathBuf>,

    /// Where `mmproxy status`, `sessions`, `kill`, `trace`, `deny`, `reload` and the like find this one: a Unix socket, for the
    /// user that starts it alone
    #[arg(long, value_name = "PATH", help_heading = "What it tells")]
    pub(crate) control: Option<PathBuf>,

    /// Print only what is wrong and the addresses listened on
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Log what happens inside each session too
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Where connections go.
#[derive(Args, Clone, Copy, Debug)]
#[group(multiple = true)]
pub(crate) struct TargetArgs {
    /// Target for IPv4 clients
    #[arg(short = '4', long, value_name = "IPV4:PORT", value_parser = target_v4)]
    pub(crate) target_v4: Option<SocketAddrV4>,

    /// Target for IPv6 clients
    #[arg(short = '6', long, value_name = "[IPV6]:PORT", value_parser = target_v6)]
    pub(crate) target_v6: Option<SocketAddrV6>,
}

impl TargetArgs {
    /// The families that targets are given for; both where none is given.
    pub(crate) const fn families(self) -> Families {
        match (self.target_v4, self.target_v6) {
            (None, None) => Families::BOTH,
            (v4, v6) => Families { v4: v4.is_some(), v6: v6.is_some() },
        }
    }
}
