//! The command line as typed. What it means is decided in `resolve`, before anything happens.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use mmproxy_codec::TlvType;
use mmproxy_forwarder::{AllowedTarget, parse_network};
use mmproxy_routing::{Mark, Priority, Settings, Table};

use crate::target_netns::TargetNetnsArgs;

mod values;

pub(crate) use values::{
    FamilyArg, ReturnPathMode, Routing, SourceArg, SourceKind, SourcePortArg, Transport,
};
use values::{address, duration, target_v4, target_v6, tlv};

/// Gives a server behind a load balancer the real client address.
///
/// Listens for connections that begin with a PROXY protocol header (v1 or v2), connects to the target from the
/// client's own address, and relays the bytes. Without a command it runs the gateway.
#[derive(Debug, Parser)]
#[command(name = "mmproxy", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = EXAMPLES, after_long_help = EXIT_STATUS)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// What to do instead of running the gateway.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Install the return path and leave it in place
    Setup(RoutingArgs),
    /// Remove the return path that mmproxy installed
    Teardown(TeardownArgs),
    /// Tell whether a spoofed connection would work, and what is missing if not
    Check(CheckArgs),
    /// Play the load balancer: send a header to a gateway and show what comes back
    Probe(ProbeArgs),
    /// Read header bytes from standard input and print them as JSON
    Decode(DecodeArgs),
    /// Write a header's bytes to standard output
    Encode(EncodeArgs),
    /// Show the whole thing working in a private network namespace, without root
    Demo,
}

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

    /// Address and port to listen on, such as `0.0.0.0:2222` or `[::]:2222`; repeatable
    #[arg(short, long, value_name = "ADDR:PORT", required = true, value_parser = address)]
    pub(crate) listen: Vec<SocketAddr>,

    /// Take connections to other addresses and ports too, which a TPROXY rule sends here
    #[arg(long)]
    pub(crate) listen_transparent: bool,

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
        default_value = "header",
        value_name = "WHERE",
        help_heading = "Who may connect"
    )]
    pub(crate) source: SourceArg,

    #[command(flatten)]
    pub(crate) path: ReturnPathArgs,

    #[command(flatten)]
    pub(crate) netns: TargetNetnsArgs,

    /// Whether to install the return path (and remove it at the end), only look at it, or leave it alone
    #[arg(long, value_enum, default_value = "auto", value_name = "WHAT", help_heading = "Return path")]
    pub(crate) routing: Routing,

    /// Source port of the connection to the target
    ///
    /// `keep` the client's port or refuse; `prefer` it and fall back to another where it is taken; or always take
    /// an `ephemeral` one.
    #[arg(long, value_enum, default_value = "prefer", value_name = "POLICY", help_heading = "Connections")]
    pub(crate) source_port: SourcePortArg,

    /// The same as --source-port keep
    #[arg(short = 'P', long, conflicts_with = "source_port", help_heading = "Connections")]
    pub(crate) force_real_client_port: bool,

    /// How long a load balancer may take to send its whole header, from accept; at least 3s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration, help_heading = "Connections")]
    pub(crate) header_timeout: Duration,

    /// How long the target may take to accept a connection
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration, help_heading = "Connections")]
    pub(crate) connect_timeout: Duration,

    /// How long sessions may go on after SIGTERM or SIGINT
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration, help_heading = "Connections")]
    pub(crate) drain: Duration,

    /// Connections that may wait to be accepted, for each worker; the kernel caps it at net.core.somaxconn
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65535), help_heading = "Connections")]
    pub(crate) backlog: u32,

    /// Threads that serve, each with a listener of its own on every address; by default one for each processor that
    /// the process may run on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Connections")]
    pub(crate) workers: Option<u16>,

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

/// How replies come back, and which mark, table and priority that takes.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct ReturnPathArgs {
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

    /// Address families to set up
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

/// `mmproxy probe`.
#[derive(Args, Debug)]
pub(crate) struct ProbeArgs {
    /// The gateway to connect to
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub(crate) via: SocketAddr,

    /// The client address to announce
    #[arg(long, value_name = "IP:PORT", value_parser = address)]
    pub(crate) source: SocketAddr,

    /// The destination to announce; by default the gateway's address
    #[arg(long, value_name = "IP:PORT", value_parser = address)]
    pub(crate) destination: Option<SocketAddr>,

    #[command(flatten)]
    pub(crate) version: VersionArgs,

    /// Text to send behind the header; \n, \r, \t, \0, \\ and \xHH are understood
    #[arg(long, value_name = "TEXT")]
    pub(crate) send: Option<String>,

    /// How long to wait for the connection, and then for each answer
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub(crate) wait: Duration,
}

/// Which version of the header to write.
#[derive(Args, Clone, Copy, Debug)]
#[group(multiple = false)]
pub(crate) struct VersionArgs {
    /// Write a version 1 header (text)
    #[arg(long)]
    pub(crate) v1: bool,

    /// Write a version 2 header (binary); the default
    #[arg(long)]
    pub(crate) v2: bool,
}

/// `mmproxy decode`.
#[derive(Args, Debug)]
pub(crate) struct DecodeArgs {
    /// The input is text in hexadecimal; blanks and `#` comments are ignored
    #[arg(long)]
    pub(crate) hex: bool,

    /// What carried the bytes
    #[arg(long, value_enum, default_value = "stream")]
    pub(crate) transport: Transport,
}

/// `mmproxy encode`.
#[derive(Args, Debug)]
pub(crate) struct EncodeArgs {
    #[command(flatten)]
    pub(crate) version: VersionArgs,

    /// The client address
    #[arg(long, value_name = "IP:PORT", value_parser = address, required_unless_present = "local", requires = "destination")]
    pub(crate) source: Option<SocketAddr>,

    /// The address the client connected to
    #[arg(long, value_name = "IP:PORT", value_parser = address, required_unless_present = "local", requires = "source")]
    pub(crate) destination: Option<SocketAddr>,

    /// The balancer's own connection: LOCAL in version 2, UNKNOWN in version 1
    #[arg(long, conflicts_with_all = ["source", "destination"])]
    pub(crate) local: bool,

    /// Transport to announce; version 1 knows only `stream`
    #[arg(long, value_enum, default_value = "stream")]
    pub(crate) transport: Transport,

    /// A TLV of a version 2 header, its type and value in hexadecimal, such as 02=6578616d706c65; repeatable
    #[arg(long, value_name = "TYPE=HEX", value_parser = tlv)]
    pub(crate) tlv: Vec<(TlvType, Vec<u8>)>,

    /// Add a CRC32C checksum to a version 2 header
    #[arg(long)]
    pub(crate) crc32c: bool,

    /// Print hexadecimal text instead of bytes
    #[arg(long)]
    pub(crate) hex: bool,
}

const EXAMPLES: &str = "\
Examples:
  mmproxy --allowed-subnets ./ranges.txt -l 0.0.0.0:2222 -4 127.0.0.1:22 -6 '[::1]:22'
  mmproxy --allow 10.0.0.2 -l 0.0.0.0:2222 -4 127.0.0.1:22
  mmproxy demo";

const EXIT_STATUS: &str = "\
Examples:
  mmproxy --allowed-subnets ./ranges.txt -l 0.0.0.0:2222 -4 127.0.0.1:22 -6 '[::1]:22'
  mmproxy --allow 10.0.0.2 -l 0.0.0.0:2222 -4 127.0.0.1:22
  mmproxy demo

Exit status:
   0  done, or stopped by SIGTERM or SIGINT
  64  the command line is wrong
  69  a target, or an address to listen on, is not available
  77  a capability is missing
  78  a file, or the host's set-up, is wrong";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(line: &str) -> Result<RunArgs, clap::Error> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.run)
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_command_line_of_the_original_announcement_parses() {
        let args = run("mmproxy --allowed-subnets ./ranges.txt -l 0.0.0.0:2222 -4 127.0.0.1:22 -6 [::1]:22")
            .unwrap();
        assert_eq!(args.allowed_subnets, [PathBuf::from("./ranges.txt")]);
        assert_eq!(args.listen, ["0.0.0.0:2222".parse().unwrap()]);
        assert_eq!(args.targets.target_v4, Some("127.0.0.1:22".parse().unwrap()));
        assert_eq!(args.targets.target_v6, Some("[::1]:22".parse().unwrap()));
        assert_eq!(args.path.settings(), Settings::default());
        assert_eq!(args.source_port, SourcePortArg::Prefer);
    }

    #[test]
    fn both_spellings_of_every_original_flag_parse() {
        for line in [
            "mmproxy -a f --listen 0.0.0.0:1 --target-v4 127.0.0.1:22 -m 5 -t 7 -q -P",
            "mmproxy --allowed-networks f --listen 0.0.0.0:1 --target-v6 [::1]:22 --mark 0x5 --table 7 --verbose \
             --force-real-client-port",
        ] {
            let args = run(line).unwrap();
            assert_eq!((args.path.mark.get(), args.path.table.get()), (5, 7));
            assert!(args.force_real_client_port);
        }
    }

    #[test]
    fn a_target_of_the_other_family_is_refused() {
        assert!(run("mmproxy --allow 10.0.0.2 -l 0.0.0.0:1 -4 [::1]:22").is_err());
        assert!(run("mmproxy --allow 10.0.0.2 -l 0.0.0.0:1 -6 127.0.0.1:22").is_err());
    }

    #[test]
    fn a_wrong_address_is_refused_with_what_to_write_instead() {
        for (flags, cure) in [
            ("-l 2222 -4 127.0.0.1:22", "0.0.0.0:2222"),
            ("-l eth0:2222 -4 127.0.0.1:22", "names are not looked up"),
            ("-l 0.0.0.0:1 -4 localhost:22", "names are not looked up"),
            ("-l 0.0.0.0:1 -4 [::1]:22", "-6 '[::1]:22'"),
            ("-l 0.0.0.0:1 -6 127.0.0.1:22", "-4 127.0.0.1:22"),
            ("-l 0.0.0.0:1 -6 ::1:22", "'[::1]:22'"),
        ] {
            let error = run(&format!("mmproxy --allow 10.0.0.2 {flags}")).unwrap_err().to_string();
            assert!(error.contains(cure), "{flags}: {error}");
        }
    }

    #[test]
    fn a_target_from_the_header_needs_a_header_and_a_list_of_what_it_may_name() {
        let from_header = "mmproxy --allow 10.0.0.2 -l 0.0.0.0:1 --target-from-header";
        assert!(run(from_header).is_err());
        assert!(
            run("mmproxy --allow 10.0.0.2 -l 0.0.0.0:1 -4 127.0.0.1:22 --allow-target 10.0.0.5:22").is_err()
        );
        let args = run(&format!("{from_header} --allow-target 10.0.0.0/8:20000-20100")).unwrap();
        assert_eq!(args.allow_target, ["10.0.0.0/8:20000-20100".parse().unwrap()]);
    }

    #[test]
    fn reserved_marks_tables_and_priorities_are_refused() {
        for flags in
            ["--mark 0", "--table 0", "--table 254", "--table 255", "--priority 0", "--priority 32766"]
        {
            assert!(
                run(&format!("mmproxy --allow 10.0.0.2 -l 0.0.0.0:1 -4 127.0.0.1:22 {flags}")).is_err(),
                "{flags}"
            );
        }
    }

    #[test]
    fn times_have_units_and_bare_numbers_are_seconds() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        assert!(duration("soon").is_err());
    }

    #[test]
    fn commands_do_not_need_the_gateways_flags() {
        for line in [
            "mmproxy demo",
            "mmproxy setup --dry-run",
            "mmproxy decode --hex",
            "mmproxy check -4 127.0.0.1:22",
        ] {
            assert!(Cli::try_parse_from(line.split_whitespace()).is_ok(), "{line}");
        }
    }
}
