//! The command line as meant: files read, networks merged, defaults applied. Nothing is bound or changed here.

mod limits;
mod networks;
mod udp;

use std::num::NonZeroUsize;

use mmproxy_forwarder::{Targets, TargetsInvalid};

use crate::cli::{HealthCheckArg, ProtocolArg, RunArgs, SandboxArgs, SourceArg, SourcePortArg, TargetArgs};
use crate::exit::{Exit, Failure};
use crate::log::Verbosity;
use crate::spec::{Global, JailSpec, ReturnPathSpec, ServiceSpec, Spec, TargetsSpec, Timeouts, TproxySpec};
use crate::worker::available_cores;

/// Turns the flags into what they mean, or tells every mistake in them at once.
pub(crate) fn run(args: &RunArgs) -> Result<Spec, Failure> {
    let udp = udp::spec(args)?;
    let allowed = networks::allowed(args)?;
    let clients = networks::clients(&args.clients)?;
    let limits = limits::spec(args)?;
    let targets = targets_spec(args)?;
    if args.health_checks == HealthCheckArg::Answer && args.path.protocol == ProtocolArg::Udp {
        let wrong = "--health-checks answer answers connections, and -p udp has none";
        return Err(Failure::new(Exit::Usage, wrong).hint("let datagrams pass, or refuse them"));
    }
    let service = ServiceSpec {
        name: DEFAULT.to_owned(),
        protocol: args.path.protocol,
        listen: args.listen.clone(),
        backlog: args.backlog,
        listen_transparent: args.listen_transparent,
        tproxy: TproxySpec {
            ports: args.tproxy.tproxy_ports.clone(),
            mark: args.tproxy.tproxy_mark,
            table: args.tproxy.tproxy_table,
        },
        source: args.source,
        allowed,
        clients,
        allow_source: args.allow_source.clone(),
        source_port: if args.force_real_client_port { SourcePortArg::Keep } else { args.source_port },
        targets,
        target_netns: args.netns.target_netns.clone(),
        return_path: ReturnPathSpec {
            mode: args.path.return_path,
            routing: args.routing,
            mark: args.path.mark,
            table: args.path.table,
            priority: args.path.priority,
        },
        health_checks: args.health_checks,
        timeouts: Timeouts {
            header: args.header_timeout,
            connect: args.connect_timeout,
            idle: args.idle_timeout.0,
            half_closed: args.half_closed_timeout.0,
            tcp_user: args.tcp_user_timeout.0,
            keepalive: args.keepalive.0,
        },
        limits,
        udp,
    };
    let workers = args.workers.and_then(|number| NonZeroUsize::new(number.into()));
    Ok(Spec {
        global: Global {
            workers: workers.unwrap_or_else(available_cores),
            max_sessions: args.limits.max_sessions,
            drain: args.drain,
            verbosity: Verbosity::of(args.quiet, args.verbose),
            jail: jail(&args.jail)?,
            log_format: args.eyes.log_format,
            admin: args.eyes.admin,
        },
        services: vec![service],
    })
}

/// Name of the one service that flags describe.
pub(crate) const DEFAULT: &str = "default";

fn jail(args: &SandboxArgs) -> Result<JailSpec, Failure> {
    let user =
        args.user().map_err(|error| Failure::new(Exit::Config, error).hint("--user keep changes no user"))?;
    Ok(JailSpec {
        user,
        sandbox: args.sandbox(),
        may_lack: args.may_lack(),
        keep_net_admin: args.keep_net_admin,
    })
}

fn targets_spec(args: &RunArgs) -> Result<TargetsSpec, Failure> {
    let TargetArgs { target_v4: v4, target_v6: v6 } = args.targets;
    if !args.target_from_header {
        targets(args.targets)?;
        return Ok(TargetsSpec { v4, v6, from_header: None });
    }
    if args.source == SourceArg::Peer {
        return Err(Failure::new(
            Exit::Usage,
            "--target-from-header needs a header, and --source peer asks for none",
        )
        .hint("name the target with -4 or -6"));
    }
    Ok(TargetsSpec { v4, v6, from_header: Some(args.allow_target.clone()) })
}

/// The targets, each a possible one.
pub(crate) fn targets(args: TargetArgs) -> Result<Targets, Failure> {
    Targets::new(args.target_v4, args.target_v6).map_err(not_targets)
}

/// The failure of a service without a target that could be one.
pub(crate) fn not_targets(error: TargetsInvalid) -> Failure {
    Failure::new(Exit::Usage, error)
        .hint("give the server's own address, such as -4 127.0.0.1:22 or -6 '[::1]:22'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;
    use std::fs;

    fn resolve(line: &str) -> Result<Spec, Failure> {
        let line = format!("mmproxy -l 127.0.0.1:0 -4 127.0.0.1:22 {line}");
        parsed(&line)
    }

    fn parsed(line: &str) -> Result<Spec, Failure> {
        run(&Cli::try_parse_from(line.split_whitespace()).unwrap().run)
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn without_any_allow_list_it_refuses_and_names_both_flags() {
        let failure = resolve("").unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        let text = failure.to_string();
        assert!(text.contains("--allowed-subnets") && text.contains("--allow"), "{text}");
    }

    #[test]
    fn one_target_is_needed_and_enough() {
        let failure = parsed("mmproxy --allow 10.0.0.2 -l 0.0.0.0:1").unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("-4 127.0.0.1:22"), "{failure}");
        assert!(parsed("mmproxy --allow 10.0.0.2 -l 0.0.0.0:1 -6 [::1]:22").is_ok());
    }

    #[test]
    fn a_connection_without_header_names_no_target() {
        let line = "mmproxy --allow 10.0.0.2 -l 0.0.0.0:1 --target-from-header --allow-target 10.0.0.0/8 --source peer";
        let failure = parsed(line).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
    }

    #[test]
    fn files_and_flags_are_one_list() {
        let file = file("# balancers\n10.0.0.5/8\n\n2001:db8::7 ; a bare address\n");
        let spec = resolve(&format!("-a {} --allow 192.0.2.0/24", file.path().display())).unwrap();
        let allowed = spec.services[0].allow_list();
        for ip in ["10.9.9.9", "192.0.2.200", "2001:db8::7"] {
            assert!(allowed.contains(ip.parse().unwrap()), "{ip}");
        }
        assert!(!allowed.contains("203.0.113.1".parse().unwrap()));
    }

    #[test]
    fn every_mistake_of_every_file_is_told_with_its_line() {
        let (one, two) = (file("10.0.0.0/8\n10.0.0.0/33\n"), file("nonsense\n"));
        let (one, two) = (one.path().display().to_string(), two.path().display().to_string());
        let failure = resolve(&format!("-a {one} -a {two} -a /nonexistent/ranges.txt")).unwrap_err();
        assert_eq!(failure.exit(), Exit::Config);
        let text = failure.to_string();
        assert!(text.contains(&format!("{one}:2: ")), "{text}");
        assert!(text.contains(&format!("{two}:1: ")), "{text}");
        assert!(text.contains("cannot read /nonexistent/ranges.txt"), "{text}");
    }

    #[test]
    fn an_empty_file_allows_nobody_but_is_no_mistake() {
        let file = file("# nobody yet\n");
        let spec = resolve(&format!("-a {}", file.path().display())).unwrap();
        assert!(spec.services[0].allowed.is_empty());
    }

    #[test]
    fn what_is_meant_survives_the_way_to_a_worker() {
        let line = "mmproxy -p udp --allow 10.0.0.2 -l [::]:1 -4 127.0.0.1:53 --header spp --mark 0x7/0xff \
                    --target-netns docker:web --target-from-header --allow-target 10.0.0.0/8:20-30 --keepalive off \
                    --allow-client 192.0.2.0/24";
        let limits = "mmproxy --allow 10.0.0.2 -l [::]:1 -4 127.0.0.1:22 --max-sessions 9 --max-sessions-per-client off \
                      --max-sessions-per-client-network 4 --client-networks 16,48 --new-sessions-per-second 5,6";
        for line in [line, limits] {
            let spec = parsed(line).unwrap();
            let sent = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<Spec>(&sent).unwrap(), spec);
        }
    }
}
