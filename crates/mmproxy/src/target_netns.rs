//! `--target-netns`: the network namespace that the targets are in, as an operator names it.

mod docker;
mod locate;

use std::fmt;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use mmproxy_forwarder::{EnterError, Namespace};

use self::docker::Container;
pub(crate) use self::locate::{Found, Locator};
use crate::exit::{Exit, Failure};
use crate::privileges;

/// Where the targets are, for every command that connects to them or installs their return path.
#[derive(Args, Clone, Debug)]
pub(crate) struct TargetNetnsArgs {
    /// Network namespace of the targets: a file, a process, a name of `ip netns`, or a container's
    ///
    /// Connections to the targets are made inside it and the return path is installed there; this host's routing is
    /// not touched. A container that is restarted is followed. Needs CAP_SYS_ADMIN.
    #[arg(long, value_name = "PATH|PID|NAME|docker:NAME", help_heading = "Return path")]
    pub(crate) target_netns: Option<NamespaceName>,
}

impl TargetNetnsArgs {
    /// Whether the targets are somewhere else.
    pub(crate) const fn is_given(&self) -> bool {
        self.target_netns.is_some()
    }

    /// Moves the calling thread into the namespace, if one is named, and returns its file: for commands that have
    /// nothing to do outside.
    pub(crate) fn enter(&self) -> Result<Option<PathBuf>, Failure> {
        let Some(name) = &self.target_netns else { return Ok(None) };
        let found = Locator::new(name.clone()).locate()?;
        Namespace::move_this_thread(found.file.as_fd()).map_err(|error| not_entered(name, error))?;
        Ok(Some(found.path()))
    }
}

/// What an operator calls a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamespaceName {
    /// A file: `/run/netns/web`, `/proc/4711/ns/net`.
    Path(PathBuf),
    /// The one a process is in.
    Process(u32),
    /// A name that `ip netns` knows, a file in [`NAMED`].
    Named(String),
    /// The one of a Docker container.
    Docker(Container),
}

impl FromStr for NamespaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(container) = text.strip_prefix("docker:") {
            return container.parse().map(Self::Docker);
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return match text.parse() {
                Ok(0) | Err(_) => Err(format!("{text} is no process number")),
                Ok(pid) => Ok(Self::Process(pid)),
            };
        }
        if text.starts_with('/') {
            return Ok(process_of(text).map_or_else(|| Self::Path(text.into()), Self::Process));
        }
        if text.is_empty() || text.contains(['/', ':', '\0']) || text == "." || text == ".." {
            return Err("expected a path that begins with /, a process number, a name that `ip netns list` shows, or \
                        docker:CONTAINER"
                .to_owned());
        }
        Ok(Self::Named(text.to_owned()))
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Process(pid) => pid.fmt(f),
            Self::Named(name) => name.fmt(f),
            Self::Docker(container) => write!(f, "docker:{container}"),
        }
    }
}

/// The process in `/proc/PID/ns/net`: as a file it would name another process's namespace once the number is reused.
fn process_of(path: &str) -> Option<u32> {
    path.strip_prefix("/proc/")?.strip_suffix("/ns/net")?.parse().ok()
}

/// The failure of setns(2).
pub(crate) fn not_entered(name: &NamespaceName, error: EnterError) -> Failure {
    let permission = matches!(error, EnterError::NotPermitted(_));
    let strange = matches!(error, EnterError::NotANamespace(_));
    let failure = Failure::new(
        if permission {
            Exit::NoPermission
        } else if strange {
            Exit::Config
        } else {
            Exit::Unavailable
        },
        Entering { name: name.to_string(), error },
    );
    if permission {
        privileges::grant(failure, "cap_net_admin,cap_net_raw,cap_sys_admin,cap_sys_ptrace")
    } else if strange {
        failure.hint(
            "a file below /run/netns is one only while it is mounted: `ip netns list`, `ip netns add NAME`",
        )
    } else {
        failure
    }
}

#[derive(Debug, thiserror::Error)]
#[error("--target-netns: network namespace {name}")]
struct Entering {
    name: String,
    #[source]
    error: EnterError,
}

/// Where iproute2 keeps the namespaces that have names (ip-netns(8)).
const NAMED: &str = "/run/netns";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_by_its_shape_what_it_names() {
        for (text, name) in [
            ("/run/netns/web", NamespaceName::Path("/run/netns/web".into())),
            ("4711", NamespaceName::Process(4711)),
            ("/proc/4711/ns/net", NamespaceName::Process(4711)),
            ("/proc/self/ns/net", NamespaceName::Path("/proc/self/ns/net".into())),
            ("web", NamespaceName::Named("web".into())),
            ("web-2.a", NamespaceName::Named("web-2.a".into())),
            ("docker:web", NamespaceName::Docker("web".parse().unwrap())),
        ] {
            assert_eq!(text.parse(), Ok(name), "{text}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in [
            "",
            ".",
            "..",
            "a/b",
            "./web",
            "podman:web",
            "docker:",
            "docker:../info",
            "docker:a b",
            "0",
            "99999999999",
        ] {
            assert!(text.parse::<NamespaceName>().is_err(), "{text}");
        }
    }
}
