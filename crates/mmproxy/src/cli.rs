//! The command line as typed. What it means is decided in `resolve`, before anything happens.

use clap::{Parser, Subcommand};

mod admin;
mod config;
mod control;
mod deny;
mod jail_probe;
mod limits;
mod manual;
mod routing;
mod run;
mod sandbox;
mod tools;
mod udp;
mod values;

pub(crate) use admin::{EyesArgs, HealthCheckArg, LogFormat};
pub(crate) use config::{ConfigCommand, RunFileArgs};
pub(crate) use control::{KillArgs, ReloadArgs, SessionsArgs, StatusArgs, TopArgs, TraceArgs};
pub(crate) use deny::{DenyAddArgs, DenyCommand, DenyListArgs, DenyRemoveArgs, Term};
pub(crate) use jail_probe::{Attempt, JailProbeArgs, ProbeAction};
pub(crate) use limits::{Ceiling, ClientArgs, LimitArgs, Prefixes, Rate};
pub(crate) use manual::{CompletionsArgs, ManArgs, ManualPage};
pub(crate) use routing::{
    AboutArgs, CheckArgs, ListenerArgs, ReturnPathArgs, RoutingArgs, TeardownArgs, TproxyArgs,
};
pub(crate) use run::{RunArgs, TargetArgs};
pub(crate) use sandbox::{KEEP, MissingArg, SandboxArg, SandboxArgs};
pub(crate) use tools::{DecodeArgs, EncodeArgs, ProbeArgs, VersionArgs};
pub(crate) use udp::{HeaderArg, IoUringArg, UdpArgs, UdpHeaderArg};
pub(crate) use values::{
    FamilyArg, Probing, ProtocolArg, ReturnPathMode, Routing, SourceArg, SourceKind, SourcePortArg,
    Transport, duration, keepalive,
};

/// Gives a server behind a load balancer the real client address.
///
/// Listens for connections that begin with a PROXY protocol header (v1 or v2), connects to the target from the
/// client's own address, and relays the bytes. Without a command it runs the gateway.
#[derive(Debug, Parser)]
#[command(name = "mmproxy", version, long_version = LONG_VERSION, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
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
    /// Show how a running mmproxy is
    Status(StatusArgs),
    /// List the sessions of a running mmproxy
    Sessions(SessionsArgs),
    /// End sessions of a running mmproxy
    Kill(KillArgs),
    /// Show each step of some clients' sessions as it happens
    Trace(TraceArgs),
    /// Watch a running mmproxy: rates, sessions, refusals
    Top(TopArgs),
    /// Look at, and change, which clients a running mmproxy denies
    #[command(subcommand)]
    Deny(DenyCommand),
    /// Have a running mmproxy read everything again
    Reload(ReloadArgs),
    /// Run the gateway that a configuration file describes
    Run(RunFileArgs),
    /// Look at configuration files, or make one from a command line
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print what a shell completes command lines with
    Completions(CompletionsArgs),
    /// Print a manual page
    Man(ManArgs),
    /// Show the whole thing working in a private network namespace, without root
    Demo,
    /// Serve for the keeper that started it
    #[command(hide = true)]
    Worker,
    /// Confine itself as a worker does, and try something: for the tests
    #[command(hide = true)]
    JailProbe(Box<JailProbeArgs>),
}

/// `-V` says the version alone.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit ",
    env!("MMPROXY_COMMIT"),
    "\ntarget ",
    env!("MMPROXY_TARGET"),
    ", ",
    env!("MMPROXY_PROFILE"),
    "\nfeatures: ",
    env!("MMPROXY_FEATURES"),
);

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
    use std::path::PathBuf;
    use std::time::Duration;

    use clap::CommandFactory;
    use mmproxy_routing::Settings;

    use super::values::{Limit, Probing};
    use super::*;
    use crate::spec::KeepaliveSpec;

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
    fn every_command_about_the_return_path_takes_protocol_and_mode() {
        for command in ["setup", "teardown", "check -4 127.0.0.1:53", "--allow 10.0.0.2 -l 0.0.0.0:1"] {
            for flags in ["-p udp", "--protocol tcp", "--return-path connmark", "-p udp --return-path socket"]
            {
                let line = format!("mmproxy {command} {flags}");
                assert!(Cli::try_parse_from(line.split_whitespace()).is_ok(), "{line}");
            }
        }
    }

    #[test]
    fn check_takes_a_file_in_the_place_of_flags_or_the_one_of_run() {
        let file = |line: &str| match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Some(Command::Check(args)) => args.config,
            other => panic!("{other:?}"),
        };
        assert_eq!(file("mmproxy check -c x.toml --json"), Some("x.toml".into()));
        assert_eq!(file("mmproxy check --config"), Some(crate::config::PATH.into()));
        assert_eq!(file("mmproxy check -4 127.0.0.1:22"), None);
        assert!(Cli::try_parse_from("mmproxy check -c x.toml -m 5".split_whitespace()).is_err());
    }

    #[test]
    fn limits_are_times_or_off() {
        let line = "mmproxy --allow 10.0.0.2 -l 0.0.0.0:1 -4 127.0.0.1:22";
        let args = run(line).unwrap();
        assert_eq!((args.idle_timeout, args.half_closed_timeout), (Limit(None), Limit(Some(5 * MINUTE))));
        assert_eq!(args.tcp_user_timeout, Limit(None));
        let probing = |idle, interval, probes| Probing(Some(KeepaliveSpec { idle, interval, probes }));
        assert_eq!(args.keepalive, probing(MINUTE, MINUTE / 4, 4));
        let args = run(&format!(
            "{line} --idle-timeout 1h --half-closed-timeout off --tcp-user-timeout 30 --keepalive 1m,5s"
        ))
        .unwrap();
        assert_eq!((args.idle_timeout, args.half_closed_timeout), (Limit(Some(60 * MINUTE)), Limit(None)));
        assert_eq!(args.tcp_user_timeout, Limit(Some(MINUTE / 2)));
        assert_eq!(args.keepalive, probing(MINUTE, Duration::from_secs(5), 4));
        assert_eq!(run(&format!("{line} --keepalive off")).unwrap().keepalive, Probing(None));
        for wrong in
            ["--idle-timeout soon", "--keepalive 1500ms", "--keepalive 1,1,1,1", "--keepalive 1,1,200"]
        {
            assert!(run(&format!("{line} {wrong}")).is_err(), "{wrong}");
        }
    }

    const MINUTE: Duration = Duration::from_secs(60);

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
        for flags in [
            "--mark 0",
            "--mark 0x17b/0xff",
            "--mark 1/0",
            "--table 0",
            "--table 254",
            "--table 255",
            "--priority 0",
            "--priority 32766",
        ] {
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
