//! What a check says: one thing that was looked at, what was found, what it means and what cures it.

use std::fmt;
use std::net::SocketAddr;

use super::fact::Fact;
use crate::mode::Transport;

/// One thing that was looked at.
///
/// `Display` is one line: the subject and what was found. The caller adds the level in its own voice, the reason and
/// the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at.
    pub subject: Subject,
    /// The target that it is about; `None` for the network namespace as a whole.
    pub target: Option<Target>,
    /// How bad it is.
    pub level: Level,
    /// What was found, from a closed set.
    pub fact: Fact,
    /// What was found, with names and numbers; lower case, no full stop.
    pub found: String,
    /// Why it matters; empty where `found` says it all.
    pub why: String,
    /// What cures it, commands in backquotes. `None` where nothing has to be cured.
    pub cure: Option<String>,
    /// How a check ends because of it; `None` for anything but [`Level::Failed`].
    pub exit: Option<ExitKind>,
}

impl Finding {
    /// Something that is as it has to be.
    pub(super) fn ok(subject: Subject, fact: Fact, found: impl Into<String>) -> Self {
        Self {
            subject,
            target: None,
            level: Level::Ok,
            fact,
            found: found.into(),
            why: String::new(),
            cure: None,
            exit: None,
        }
    }

    /// Something to know.
    pub(super) fn note(subject: Subject, fact: Fact, found: impl Into<String>) -> Self {
        Self { level: Level::Note, ..Self::ok(subject, fact, found) }
    }

    /// Something that may become trouble.
    pub(super) fn warning(subject: Subject, fact: Fact, found: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::ok(subject, fact, found) }
    }

    /// Something that keeps spoofed connections from working.
    pub(super) fn failed(subject: Subject, fact: Fact, exit: ExitKind, found: impl Into<String>) -> Self {
        Self { level: Level::Failed, exit: Some(exit), ..Self::ok(subject, fact, found) }
    }

    pub(super) fn at(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }

    pub(super) fn because(self, why: impl Into<String>) -> Self {
        Self { why: why.into(), ..self }
    }

    pub(super) fn cured_by(self, cure: impl Into<String>) -> Self {
        Self { cure: Some(cure.into()), ..self }
    }

    /// Whether it is about this target, or about all of them.
    pub(super) fn concerns(&self, target: Target) -> bool {
        self.target.is_none_or(|about| about == target)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target {
            Some(target) => write!(f, "{} {target}: {}", self.subject, self.found),
            None => write!(f, "{}: {}", self.subject, self.found),
        }
    }
}

/// Where spoofed connections are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The server's address and port.
    pub address: SocketAddr,
    /// What it speaks.
    pub transport: Transport,
}

impl Target {
    /// A TCP server.
    #[must_use]
    pub const fn tcp(address: SocketAddr) -> Self {
        Self { address, transport: Transport::Tcp }
    }

    /// A UDP server.
    #[must_use]
    pub const fn udp(address: SocketAddr) -> Self {
        Self { address, transport: Transport::Udp }
    }
}

/// `127.0.0.1:443/tcp`
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.transport)
    }
}

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Subject {
    /// What this process may do.
    Privileges,
    /// Whether the return path suits the target.
    ReturnPath,
    /// A switch of the kernel, or the state of an interface.
    Kernel,
    /// Where packets to the target go.
    Route,
    /// Where the target's replies to a client go.
    Reply,
    /// The target's socket.
    Listener,
    /// Firewall rules, and what other programs mark.
    Firewall,
    /// A connection that was tried.
    Connection,
}

impl Subject {
    /// Name in reports.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Privileges => "privileges",
            Self::ReturnPath => "return_path",
            Self::Kernel => "kernel",
            Self::Route => "route",
            Self::Reply => "reply",
            Self::Listener => "listener",
            Self::Firewall => "firewall",
            Self::Connection => "connection",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileges => "privileges",
            Self::ReturnPath => "return path for",
            Self::Kernel => "kernel",
            Self::Route => "route to",
            Self::Reply => "reply from",
            Self::Listener => "listener at",
            Self::Firewall => "firewall",
            Self::Connection => "spoofed connection to",
        })
    }
}

/// How bad a finding is, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// As it has to be.
    Ok,
    /// Worth knowing; nothing to do.
    Note,
    /// Works, but with a side effect, or may not work for every client.
    Warning,
    /// Spoofed connections do not work.
    Failed,
}

impl Level {
    /// Name in reports.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// How a check ends because of a finding, after sysexits(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitKind {
    /// `EX_UNAVAILABLE`, 69: the target, or something else that this host should have, is not there.
    Unavailable,
    /// `EX_NOPERM`, 77: this process may not do what it has to.
    Permission,
    /// `EX_CONFIG`, 78: the host or mmproxy is set up in a way that cannot work.
    Configuration,
}

impl ExitKind {
    /// Name in reports.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Permission => "permission",
            Self::Configuration => "configuration",
        }
    }

    /// The exit status.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Unavailable => 69,
            Self::Permission => 77,
            Self::Configuration => 78,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_one_line() {
        let target = Target::tcp(SocketAddr::from(([127, 0, 0, 1], 443)));
        let finding = Finding::ok(Subject::Listener, Fact::Listens, "sshd listens there").at(target);
        assert_eq!(finding.to_string(), "listener at 127.0.0.1:443/tcp: sshd listens there");
        let finding = Finding::note(Subject::Firewall, Fact::FirewallUnseen, "nft is not installed");
        assert_eq!(finding.to_string(), "firewall: nft is not installed");
    }

    #[test]
    fn only_a_failure_ends_a_check() {
        assert_eq!(Finding::warning(Subject::Kernel, Fact::SwitchOff, "").exit, None);
        let failed = Finding::failed(Subject::Kernel, Fact::SwitchOff, ExitKind::Configuration, "");
        assert_eq!(failed.exit.map(ExitKind::code), Some(78));
        assert!(Level::Ok < Level::Note && Level::Note < Level::Warning && Level::Warning < Level::Failed);
    }
}
