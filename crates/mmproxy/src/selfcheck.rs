//! Would it work? Each target is looked up, connected to as anybody would, and connected to from a stranger's
//! address, as the original mmproxy does at its start.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mmproxy_forwarder::{
    Blame, ClaimedSource, DialError, DialOptions, Family, OwnAddresses, SourcePolicy, TargetAddr, Targets,
    connect_plain, connect_spoofed,
};
use mmproxy_routing::check::Attempt;
use mmproxy_routing::{Mode, Question, Transport, lookup};
use serde::Serialize;

use crate::exit::{Chain, Exit};
use crate::return_path::ReturnPath;

/// Looks at every target, three findings each; a later one is left out when an earlier one settles it.
///
/// Of UDP targets only the first: a datagram that nobody asked for proves nothing, and a server may take offence.
pub(crate) async fn examine(targets: &Targets, path: &ReturnPath, dial: &DialOptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    for target in targets.iter() {
        findings.push(route(target, path).await);
        if path.transport() == Transport::Udp {
            continue;
        }
        let conventional = conventional(target, dial).await;
        let up = conventional.passed();
        findings.push(conventional);
        if up {
            findings.push(spoofed(target, dial).await.0);
        }
    }
    findings
}

/// One thing looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) step: Step,
    /// The target, or for [`Step::Route`] and [`Step::RouteAway`] its address alone.
    pub(crate) target: String,
    #[serde(flatten)]
    pub(crate) problem: Option<Problem>,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// Where packets to the target go.
    Route,
    /// The same for a target that is no address of this host.
    RouteAway,
    /// A connection as any local program would make it.
    Conventional,
    /// A connection from an address that is not this host's.
    Spoofed,
}

impl Step {
    /// Whether a connection was made.
    pub(crate) const fn connects(self) -> bool {
        match self {
            Self::Route | Self::RouteAway => false,
            Self::Conventional | Self::Spoofed => true,
        }
    }
}

/// What is wrong, and what to do about it.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    pub(crate) cause: String,
    pub(crate) cure: String,
    /// The status that a check ends with because of it.
    #[serde(skip)]
    pub(crate) exit: Exit,
}

impl Finding {
    pub(crate) const fn passed(&self) -> bool {
        self.problem.is_none()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, target, problem } = self;
        match (step, problem) {
            (Step::Route, None) => write!(f, "[+] OK. Routing to {target} points to a local machine."),
            (Step::RouteAway, None) => write!(f, "[+] OK. Routing to {target} leads away from this host."),
            (Step::Conventional, None) => {
                write!(f, "[+] OK. Target server {target} is up and reachable using conventional connection.")
            }
            (Step::Spoofed, None) => {
                write!(f, "[+] OK. Target server {target} is up and reachable using spoofed connection.")
            }
            (Step::Route | Step::RouteAway, Some(problem)) => {
                write!(f, "[!] FAILED: Routing to {target}: {problem}")
            }
            (Step::Conventional, Some(problem)) => {
                write!(f, "[!] FAILED: Target server {target} using conventional connection: {problem}")
            }
            (Step::Spoofed, Some(problem)) => {
                write!(f, "[!] FAILED: Target server {target} using spoofed connection: {problem}")
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}.", self.cause, self.cure)
    }
}

/// Asks the kernel where packets to the target go: the return path serves targets of this host alone, or none of them.
pub(crate) async fn route(target: TargetAddr, path: &ReturnPath) -> Finding {
    let ip = target.addr().ip();
    let behind = path.mode(ip.into()) == Some(Mode::Socket);
    let problem = match lookup(&Question::to(ip)).await {
        Ok(Some(route)) if route.is_local() != behind => None,
        Ok(Some(route)) if route.is_local() => Some(Problem {
            cause: "it is an address of this host".to_owned(),
            cure: "Leave --return-path out: mode socket serves targets behind this host alone".to_owned(),
            exit: Exit::Config,
        }),
        Ok(route) => Some(Problem {
            cause: match route.and_then(|route| route.device) {
                Some(device) => format!("packets leave this host through {device}"),
                None => "packets go nowhere".to_owned(),
            },
            cure: if behind {
                format!("`ip route get {ip}` asks the same question")
            } else {
                "Leave --return-path out, name an address of this host, or run mmproxy on the target's own host"
                    .to_owned()
            },
            exit: Exit::Config,
        }),
        Err(error) => Some(Problem {
            cause: Chain(&error).to_string(),
            cure: format!("`ip route get {ip}` asks the same question"),
            exit: Exit::Config,
        }),
    };
    let step = if behind { Step::RouteAway } else { Step::Route };
    Finding { step, target: ip.to_string(), problem }
}

pub(crate) async fn conventional(target: TargetAddr, dial: &DialOptions) -> Finding {
    let problem = connect_plain(target, &patient(dial)).await.err().map(|error| Problem {
        cause: Chain(&error).to_string(),
        cure: if error.reason().blame() == Blame::Target {
            "Start the server, or correct the target's address".to_owned()
        } else {
            GRANT.to_owned()
        },
        exit: exit(&error),
    });
    Finding { step: Step::Conventional, target: target.to_string(), problem }
}

/// Connects from an address of the ranges for documentation, which no client and no host has.
///
/// The attempt is for whoever wants to know where it died; `None` if it did not come so far.
pub(crate) async fn spoofed(target: TargetAddr, dial: &DialOptions) -> (Finding, Option<Attempt>) {
    let stranger = match target.family() {
        Family::V4 => SocketAddr::from((STRANGER_V4, 0)),
        Family::V6 => SocketAddr::from((STRANGER_V6, 0)),
    };
    let stranger = ClaimedSource::new(stranger);
    let outcome = match SourcePolicy::new().authorise(stranger, &OwnAddresses::default()) {
        Ok(source) => connect_spoofed(source, target, &patient(dial)).await.map(drop),
        Err(refused) => unreachable!("the policy refuses its own example: {refused}"),
    };
    let attempt = attempt(outcome.as_ref().err());
    // The target has just answered a conventional connection: that no answer came now is the return path's fault.
    let lost =
        |error: &DialError| matches!(error, DialError::TimedOut { .. } | DialError::Unreachable { .. });
    let problem = outcome.err().map(|error| Problem {
        cause: Chain(&error).to_string(),
        cure: if lost(&error) {
            format!(
                "The target is up, so its reply to {} was lost: `mmproxy setup` installs the return path",
                stranger.ip()
            )
        } else if matches!(error, DialError::Refused { .. }) {
            format!(
                "The server takes conventional connections, not those from {}: look at its access rules",
                stranger.ip()
            )
        } else {
            GRANT.to_owned()
        },
        exit: if lost(&error) { Exit::Config } else { exit(&error) },
    });
    (Finding { step: Step::Spoofed, target: target.to_string(), problem }, attempt)
}

const fn attempt(error: Option<&DialError>) -> Option<Attempt> {
    match error {
        None => Some(Attempt::Connected),
        Some(DialError::Refused { .. }) => Some(Attempt::Refused),
        Some(DialError::TimedOut { .. }) => Some(Attempt::TimedOut),
        Some(DialError::Unreachable { .. }) => Some(Attempt::Unreachable),
        Some(DialError::NotPermitted { .. }) => Some(Attempt::NotPermitted),
        Some(_) => None,
    }
}

/// A target of this host answers in microseconds; a whole second forgives a busy one.
fn patient(dial: &DialOptions) -> DialOptions {
    dial.clone()
        .source_port(mmproxy_forwarder::SourcePort::Ephemeral)
        .timeout(PATIENCE)
        .unwrap_or_else(|_| dial.clone())
}

fn exit(error: &DialError) -> Exit {
    match error.reason().blame() {
        Blame::Configuration => Exit::NoPermission,
        Blame::Peer => Exit::Config,
        Blame::Target | Blame::Resources | Blame::Gateway | Blame::Nobody => Exit::Unavailable,
    }
}

const GRANT: &str = "Grant what is missing and start again";

const PATIENCE: Duration = Duration::from_secs(1);

/// TEST-NET-1 (RFC 5737) and the documentation prefix (RFC 3849), as in the original mmproxy.
const STRANGER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const STRANGER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
