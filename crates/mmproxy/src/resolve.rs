//! The command line as meant: files read, networks merged, defaults applied. Nothing is bound or changed here.

mod allowed;
mod udp;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use mmproxy_forwarder::{
    AllowList, ClientFrom, DialOptions, GatewayConfig, TargetChoice, Targets, TargetsInvalid, UdpOptions,
};
use mmproxy_routing::families_available;

use crate::cli::{Routing, RunArgs, SourceArg, SourcePortArg, TargetArgs};
use crate::exit::{Exit, Failure};
use crate::return_path::{self, ReturnPath, Served};
use crate::runtime;
use crate::spec::{
    Budget, Global, Invalid, ReturnPathSpec, ServiceSpec, Spec, TargetsSpec, Timeouts, TproxySpec,
};
use crate::target_netns::TargetNetns;
use crate::way_in::WayIn;
use crate::workers::available_cores;

/// Turns the flags into what they mean, or tells every mistake in them at once.
pub(crate) fn run(args: &RunArgs) -> Result<Spec, Failure> {
    let udp = udp::spec(args)?;
    let allowed = allowed::networks(args)?;
    let targets = targets_spec(args)?;
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
        timeouts: Timeouts {
            header: args.header_timeout,
            connect: args.connect_timeout,
            idle: args.idle_timeout.0,
            half_closed: args.half_closed_timeout.0,
            tcp_user: args.tcp_user_timeout.0,
            keepalive: args.keepalive.0,
        },
        udp,
    };
    let workers = args.workers.and_then(|number| NonZeroUsize::new(number.into()));
    Ok(Spec {
        global: Global { workers: workers.unwrap_or_else(available_cores), drain: args.drain },
        services: vec![service],
    })
}

/// Name of the one service that flags describe.
pub(crate) const DEFAULT: &str = "default";

/// What the gateway runs on.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) backlog: u32,
    /// Threads that serve.
    pub(crate) workers: NonZeroUsize,
    pub(crate) listen_transparent: bool,
    /// For datagrams; `None`: connections are served.
    pub(crate) udp: Option<UdpOptions>,
    /// The same as the gateway's.
    pub(crate) client_from: ClientFrom,
    pub(crate) gateway: GatewayConfig,
    /// For the self-check: the same as the gateway's.
    pub(crate) targets: TargetChoice,
    pub(crate) dial: DialOptions,
    /// For the start-up lines: who may connect.
    pub(crate) allowed: AllowList,
    pub(crate) return_path: ReturnPath,
    pub(crate) way_in: WayIn,
    pub(crate) routing: Routing,
    /// Where the targets are, if not here. The gateway's and the self-check's dials know.
    pub(crate) target_netns: Option<TargetNetns>,
    /// How long sessions may go on when they have to end.
    pub(crate) drain: Duration,
}

impl Settings {
    /// The settings of a service. Asks the kernel whose the targets' addresses are, where that decides the return path.
    pub(crate) fn new(spec: &Spec, descriptors: u64) -> Result<Self, Failure> {
        let budget = Budget::within(spec, descriptors);
        let service = &spec.services[0];
        let target_netns = service.target_netns.clone().map(TargetNetns::new);
        let targets = service.target_choice().map_err(|error| invalid(error.into()))?;
        let udp =
            (!service.is_tcp()).then(|| service.datagrams(budget.flows)).transpose().map_err(invalid)?;
        let return_path = return_path(service, &targets)?;
        let way_in = WayIn::new(&service.way_in(), service.path())?;
        let marks = return_path::marks(&return_path);
        let namespace = target_netns.as_ref().map(|netns| netns.place.clone());
        let dial = service.dial(marks, namespace).map_err(invalid)?;
        let gateway = service.gateway(&spec.global, dial.clone(), budget.sessions).map_err(invalid)?;
        Ok(Self {
            listen: service.listen.clone(),
            backlog: service.backlog,
            workers: spec.global.workers,
            listen_transparent: service.is_transparent(),
            udp,
            client_from: service.client_from(),
            gateway,
            targets,
            dial,
            allowed: service.allow_list(),
            return_path,
            way_in,
            routing: service.return_path.routing,
            target_netns,
            drain: spec.global.drain,
        })
    }

    /// The targets that are known before a connection comes.
    pub(crate) const fn fixed_targets(&self) -> Option<Targets> {
        match &self.targets {
            TargetChoice::Fixed(targets) => Some(*targets),
            TargetChoice::FromHeader { others, .. } => *others,
        }
    }
}

/// The return path for the targets, wherever they are named.
fn return_path(service: &ServiceSpec, targets: &TargetChoice) -> Result<ReturnPath, Failure> {
    let elsewhere = service.target_netns.is_some();
    let served = match targets {
        TargetChoice::Fixed(targets) => Served {
            families: return_path::families_of(targets),
            targets: Some(targets),
            allowed: None,
            elsewhere,
        },
        // A header may name a target of either family.
        TargetChoice::FromHeader { allowed, others } => Served {
            families: families_available(),
            targets: others.as_ref(),
            allowed: Some(allowed),
            elsewhere,
        },
    };
    let chosen = runtime::block_on(ReturnPath::choose(service.path(), served))??;
    chosen.refuse_unfit()?;
    Ok(chosen)
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

fn not_targets(error: TargetsInvalid) -> Failure {
    Failure::new(Exit::Usage, error)
        .hint("give the server's own address, such as -4 127.0.0.1:22 or -6 '[::1]:22'")
}

/// The failure of a service that cannot be served as it was asked for.
fn invalid(error: Invalid) -> Failure {
    match error {
        Invalid::Targets(error) => not_targets(error),
        Invalid::TooManyFlows { .. } => Failure::new(Exit::Config, error)
            .hint("raise the limit (ulimit -n, LimitNOFILE=), or ask for fewer"),
        Invalid::TooShort(..) | Invalid::Keepalive(_) => Failure::new(Exit::Usage, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;
    use std::fs;

    fn resolve(line: &str) -> Result<Settings, Failure> {
        let line = format!("mmproxy -l 127.0.0.1:0 -4 127.0.0.1:22 {line}");
        parsed(&line)
    }

    fn parsed(line: &str) -> Result<Settings, Failure> {
        Settings::new(&run(&Cli::try_parse_from(line.split_whitespace()).unwrap().run)?, 1024)
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
        let settings = resolve(&format!("-a {} --allow 192.0.2.0/24", file.path().display())).unwrap();
        for ip in ["10.9.9.9", "192.0.2.200", "2001:db8::7"] {
            assert!(settings.allowed.contains(ip.parse().unwrap()), "{ip}");
        }
        assert!(!settings.allowed.contains("203.0.113.1".parse().unwrap()));
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
        let settings = resolve(&format!("-a {}", file.path().display())).unwrap();
        assert!(settings.allowed.is_empty());
    }

    #[test]
    fn a_header_deadline_below_three_seconds_is_refused_by_name() {
        let failure = resolve("--allow 10.0.0.2 --header-timeout 2s").unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("--header-timeout"), "{failure}");
    }

    #[test]
    fn what_is_meant_survives_the_way_to_a_worker() {
        let line = "mmproxy -p udp --allow 10.0.0.2 -l [::]:1 -4 127.0.0.1:53 --header spp --mark 0x7/0xff \
                    --target-netns docker:web --target-from-header --allow-target 10.0.0.0/8:20-30 --keepalive off";
        let spec = run(&Cli::try_parse_from(line.split_whitespace()).unwrap().run).unwrap();
        let sent = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&sent).unwrap(), spec);
    }
}
