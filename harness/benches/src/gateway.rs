//! A gateway's process: started, ready, measured, stopped.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::Namespace;
use harness::expect::within;
use rustix::process::{Pid, Signal, kill_process};

use crate::case::Protocol;
use crate::usage::Usage;

/// A running gateway. Stopped when dropped.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    output: PathBuf,
}

/// Why a gateway does not serve; text for the report.
#[derive(Debug, thiserror::Error)]
#[error("{what}; its last words: {words}")]
pub(crate) struct NotServing {
    what: String,
    words: String,
}

impl Gateway {
    /// Starts `command` in `namespace` and waits until it listens on `address`.
    pub(crate) fn start(
        namespace: &Namespace,
        command: &mut Command,
        address: SocketAddr,
        protocol: Protocol,
        ready_line: Option<&str>,
    ) -> Result<Self, NotServing> {
        let output = harness::scratch().join("gateway.log");
        let spawned = File::create(&output).and_then(|file| {
            command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
            namespace.spawn(command)
        });
        let child = spawned.map_err(|error| NotServing {
            what: format!("{} cannot be run: {error}", command.get_program().to_string_lossy()),
            words: String::new(),
        })?;
        let mut gateway = Self { child, output };
        let ready = within(STARTING, || {
            if gateway.ended().is_some() {
                return Some(false);
            }
            let said = ready_line.is_none_or(|line| gateway.words(usize::MAX).contains(line));
            (said && listens(gateway.child.id(), address, protocol)).then_some(true)
        });
        match ready {
            Some(true) => Ok(gateway),
            Some(false) => Err(gateway.not_serving("it ended while starting")),
            None => Err(gateway.not_serving("it does not listen")),
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.child.id())
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(format!("{status}; its last words: {}", self.words(300)))
    }

    fn not_serving(&self, what: &str) -> NotServing {
        NotServing { what: what.to_owned(), words: self.words(500) }
    }

    /// The end of what it wrote.
    fn words(&self, most: usize) -> String {
        tail(&self.output, most).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // Fails only if it has ended already. Asked first, so that it takes back what it installed.
        pid.and_then(|pid| kill_process(pid, Signal::TERM).ok());
        if within(STOPPING, || self.child.try_wait().ok().flatten()).is_none() {
            self.child.kill().ok();
        }
        self.child.wait().ok();
    }
}

fn tail(path: &Path, most: usize) -> io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(most as u64)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Whether a socket of the namespace of `pid` listens on the port of `address`.
fn listens(pid: u32, address: SocketAddr, protocol: Protocol) -> bool {
    // The states of a TCP socket that listens, and of a UDP socket that is bound.
    let (table, state) = match protocol {
        Protocol::Tcp => ("tcp", "0A"),
        Protocol::Udp => ("udp", "07"),
    };
    let port = format!(":{:04X}", address.port());
    [table.to_owned(), format!("{table}6")].iter().any(|table| {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        text.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let local = fields.next().is_some_and(|local| local.ends_with(&port));
            local && fields.nth(1) == Some(state)
        })
    })
}

/// As long as a busy machine may take.
const STARTING: Duration = Duration::from_secs(20);
/// A gateway that drains sessions of ours waits for nothing: they are closed.
const STOPPING: Duration = Duration::from_secs(3);
