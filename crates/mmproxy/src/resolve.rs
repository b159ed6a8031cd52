//! The command line as meant: files read, networks merged, defaults applied. Nothing is bound or changed here.

mod limits;
mod udp;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use mmproxy_forwarder::{
    AllowList, AllowListError, ClientFrom, DialOptions, GatewayConfig, SourceClass, SourcePolicy, SourcePort,
    TargetChoice, Targets, TargetsInvalid, TimeoutTooShort, UdpOptions, parse_networks, sessions_within,
};
use mmproxy_routing::families_available;

use crate::cli::{Routing, RunArgs, SourceArg, SourceKind, SourcePortArg, TargetArgs};
use crate::exit::{Exit, Failure};
use crate::return_path::{self, ReturnPath, Served};
use crate::runtime;
use crate::target_netns::TargetNetns;
use crate::way_in::WayIn;
use crate::workers::available_cores;

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

/// Turns the flags into settings, or tells every mistake in them at once. Asks the kernel whose the targets' addresses
/// are, where that decides the return path.
pub(crate) fn run(args: &RunArgs, descriptors: u64) -> Result<Settings, Failure> {
    let workers = match args.workers {
        Some(number) => NonZeroUsize::new(number.into()).unwrap_or(NonZeroUsize::MIN),
        None => available_cores(),
    };
    let udp = udp::options(args, workers, descriptors)?;
    let allowed = allowed(args)?;
    let targets = target_choice(args)?;
    let target_netns = args.netns.place();
    let return_path = return_path(args, &targets)?;
    let way_in = WayIn::new(&args.tproxy, args.path)?;
    let dial = DialOptions::new()
        .timeout(args.connect_timeout)
        .map_err(|error| too_short("--connect-timeout", error))?
        .source_port(source_port(args))
        .keepalive(args.keepalive.0)
        .user_timeout(args.tcp_user_timeout.0)
        .map_err(|error| too_short("--tcp-user-timeout", error))?
        .namespace(target_netns.as_ref().map(|netns| netns.place.clone()));
    let dial = return_path::mark(dial, &return_path);
    let client_from = match args.source {
        SourceArg::Header => ClientFrom::Header,
        SourceArg::Peer => ClientFrom::Peer,
    };
    let gateway = GatewayConfig::new(allowed.clone(), targets.clone())
        .client_from(client_from)
        .sources(
            args.allow_source.iter().fold(SourcePolicy::new(), |policy, kind| policy.allow(class(*kind))),
        )
        .dial(dial.clone())
        .header_timeout(args.header_timeout)
        .map_err(|error| too_short("--header-timeout", error))?
        .idle_timeout(args.idle_timeout.0)
        .map_err(|error| too_short("--idle-timeout", error))?
        .half_closed_timeout(args.half_closed_timeout.0)
        .map_err(|error| too_short("--half-closed-timeout", error))?
        .drain(args.drain);
    let room = sessions_within(beside(workers, args.listen.len(), descriptors));
    let gateway = limits::apply(args, gateway, room)?;
    Ok(Settings {
        listen: args.listen.clone(),
        backlog: args.backlog,
        workers,
        listen_transparent: args.listen_transparent || way_in.is_wanted(),
        udp,
        client_from,
        gateway,
        targets,
        dial,
        allowed,
        return_path,
        way_in,
        routing: args.routing,
        target_netns,
        drain: args.drain,
    })
}

impl Settings {
    /// The targets that are known before a connection comes.
    pub(crate) const fn fixed_targets(&self) -> Option<Targets> {
        match &self.targets {
            TargetChoice::Fixed(targets) => Some(*targets),
            TargetChoice::FromHeader { others, .. } => *others,
        }
    }
}

/// The return path for the targets, wherever they are named.
fn return_path(args: &RunArgs, targets: &TargetChoice) -> Result<ReturnPath, Failure> {
    let elsewhere = args.netns.is_given();
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
    let chosen = runtime::block_on(ReturnPath::choose(args.path, served))??;
    chosen.refuse_unfit()?;
    Ok(chosen)
}

/// What is left of `descriptors` beside those of the workers: a listener for each address, and the runtime's three.
fn beside(workers: NonZeroUsize, addresses: usize, descriptors: u64) -> u64 {
    let taken = workers.get().saturating_mul(addresses.saturating_add(3));
    descriptors.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX))
}

fn target_choice(args: &RunArgs) -> Result<TargetChoice, Failure> {
    if !args.target_from_header {
        return targets(args.targets).map(TargetChoice::Fixed);
    }
    if args.source == SourceArg::Peer {
        return Err(Failure::new(
            Exit::Usage,
            "--target-from-header needs a header, and --source peer asks for none",
        )
        .hint("name the target with -4 or -6"));
    }
    let given = args.targets.target_v4.is_some() || args.targets.target_v6.is_some();
    Ok(TargetChoice::FromHeader {
        allowed: args.allow_target.iter().cloned().collect(),
        others: given.then(|| targets(args.targets)).transpose()?,
    })
}

/// The targets, each a possible one.
pub(crate) fn targets(args: TargetArgs) -> Result<Targets, Failure> {
    Targets::new(args.target_v4, args.target_v6).map_err(|error: TargetsInvalid| {
        Failure::new(Exit::Usage, error)
            .hint("give the server's own address, such as -4 127.0.0.1:22 or -6 '[::1]:22'")
    })
}

/// The networks of every file and flag together. Neither given is a refusal: an open gateway would let anybody
/// take any address.
fn allowed(args: &RunArgs) -> Result<AllowList, Failure> {
    if args.allowed_subnets.is_empty() && args.allow.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            "nobody may connect: neither --allowed-subnets nor --allow is given",
        )
        .hint(
            "name your load balancers: --allow 10.0.0.2, or --allowed-subnets FILE with one network per line",
        ));
    }
    let cure = "name the load balancers with --allow";
    Ok(networks(&args.allowed_subnets, &args.allow, cure)?.into_iter().collect())
}

/// The networks of `files` and `flags` together, or every mistake in all of them; `cure` is what would do without a file.
fn networks(files: &[PathBuf], flags: &[IpNet], cure: &str) -> Result<Vec<IpNet>, Failure> {
    let mut networks = flags.to_vec();
    let mut problems = Vec::new();
    for path in files {
        match read(path) {
            Ok(listed) => networks.extend(listed),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        return Ok(networks);
    }
    let text: Vec<String> = problems.iter().map(NetworkFileError::describe).collect();
    let failure = Failure::new(Exit::Config, text.join("\n"));
    Err(if problems.iter().any(|problem| matches!(problem, NetworkFileError::Parse { .. })) {
        failure.hint("each line is one network or address; text behind # or ; is a comment")
    } else {
        failure.hint(format!("correct the path or the file's permissions, or {cure}"))
    })
}

fn read(path: &Path) -> Result<Vec<IpNet>, NetworkFileError> {
    let text =
        fs::read_to_string(path).map_err(|error| NetworkFileError::Read { path: path.into(), error })?;
    parse_networks(&text).map_err(|error| NetworkFileError::Parse { path: path.into(), error })
}

/// Why a file of networks cannot be used.
#[derive(Debug)]
enum NetworkFileError {
    Read { path: PathBuf, error: io::Error },
    Parse { path: PathBuf, error: AllowListError },
}

impl NetworkFileError {
    /// One line for an unreadable file, `FILE:LINE: …` for each mistake in a readable one.
    fn describe(&self) -> String {
        match self {
            Self::Read { path, error } => format!("cannot read {}: {error}", path.display()),
            Self::Parse { path, error } => {
                let lines = error.mistakes().iter().map(|mistake| {
                    format!("{}:{}: `{}` is {}", path.display(), mistake.line, mistake.text, mistake.problem)
                });
                lines.collect::<Vec<_>>().join("\n")
            }
        }
    }
}

const fn source_port(args: &RunArgs) -> SourcePort {
    match args.source_port {
        _ if args.force_real_client_port => SourcePort::Keep,
        SourcePortArg::Keep => SourcePort::Keep,
        SourcePortArg::Prefer => SourcePort::Prefer,
        SourcePortArg::Ephemeral => SourcePort::Ephemeral,
    }
}

const fn class(kind: SourceKind) -> SourceClass {
    match kind {
        SourceKind::Loopback => SourceClass::Loopback,
        SourceKind::Unspecified => SourceClass::Unspecified,
        SourceKind::Multicast => SourceClass::Multicast,
        SourceKind::Broadcast => SourceClass::Broadcast,
        SourceKind::LinkLocal => SourceClass::LinkLocal,
        SourceKind::Own => SourceClass::Own,
    }
}

fn too_short(flag: &str, error: TimeoutTooShort) -> Failure {
    Failure::new(Exit::Usage, format!("{flag}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn resolve(line: &str) -> Result<Settings, Failure> {
        let line = format!("mmproxy -l 127.0.0.1:0 -4 127.0.0.1:22 {line}");
        run(&Cli::try_parse_from(line.split_whitespace()).unwrap().run, 1024)
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
        let args = |line: &str| Cli::try_parse_from(line.split_whitespace()).unwrap().run;
        let failure = run(&args("mmproxy --allow 10.0.0.2 -l 0.0.0.0:1"), 1024).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("-4 127.0.0.1:22"), "{failure}");
        assert!(run(&args("mmproxy --allow 10.0.0.2 -l 0.0.0.0:1 -6 [::1]:22"), 1024).is_ok());
    }

    #[test]
    fn a_connection_without_header_names_no_target() {
        let line = "mmproxy --allow 10.0.0.2 -l 0.0.0.0:1 --target-from-header --allow-target 10.0.0.0/8 --source peer";
        let failure = run(&Cli::try_parse_from(line.split_whitespace()).unwrap().run, 1024).unwrap_err();
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
}
