//! Where one subject is measured: two namespaces, a cable, and the measuring target.

use std::env::current_exe;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use harness::{Family, Topology, shell};

use crate::target::{Counts, READY};
use crate::usage::Usage;

/// A subject's own network and target.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) network: Topology,
    pub(crate) target: TargetProcess,
}

impl Stage {
    /// # Errors
    ///
    /// When the target does not start.
    pub(crate) fn new(return_path: ReturnPath, congestion: &str) -> io::Result<Self> {
        let network = Topology::new();
        for namespace in [&network.balancer, &network.gateway] {
            // For IPv6, too. Sockets take it over when they are made.
            namespace.set_sysctl("net.ipv4.tcp_congestion_control", congestion);
            // As Linux has it by itself. A host that was tuned for far away senders lets tens of MiB wait for a reader,
            // who then finds none of it in a cache: more by chance than by anything that a gateway does.
            namespace.set_sysctl("net.ipv4.tcp_rmem", "4096 131072 6291456");
            namespace.set_sysctl("net.ipv4.tcp_wmem", "4096 16384 4194304");
            // One subject's measurement says nothing to the next one's connections.
            namespace.set_sysctl("net.ipv4.tcp_no_metrics_save", "1");
        }
        // The generator opens tens of thousands of connections from one address within a minute.
        network.balancer.set_sysctl("net.ipv4.ip_local_port_range", "1024 65535");
        network.balancer.set_sysctl("net.ipv4.tcp_tw_reuse", "1");
        match return_path {
            ReturnPath::Own => {}
            ReturnPath::Operators => {
                shell(&network.gateway, OPERATORS_ROUTES);
            }
        }
        let target = TargetProcess::start(&network)?;
        Ok(Self { network, target })
    }

    /// Where gateways listen.
    pub(crate) fn listen(family: Family) -> SocketAddr {
        (family.gateway(), LISTEN).into()
    }

    /// The target, as a gateway reaches it.
    pub(crate) fn target(family: Family) -> SocketAddr {
        (family.loopback(), TARGET).into()
    }

    /// The target, as the generator reaches it past the gateway.
    pub(crate) fn direct(family: Family) -> SocketAddr {
        (family.gateway(), TARGET).into()
    }
}

/// Who makes the way back for spoofed connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReturnPath {
    /// The gateway itself, or nobody because nothing is spoofed.
    Own,
    /// The operator, as the peers' manuals ask.
    Operators,
}

/// What the manuals of the peers tell the operator to set up for targets on loopback addresses.
pub(crate) const OPERATORS_ROUTES: &str = "\
ip rule add from 127.0.0.0/8 iif lo lookup 123
ip route add local 0.0.0.0/0 dev lo table 123
ip -6 rule add from ::1/128 iif lo lookup 123
ip -6 route add local ::/0 dev lo table 123
";

/// The measuring target's process.
#[derive(Debug)]
pub(crate) struct TargetProcess {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl TargetProcess {
    fn start(network: &Topology) -> io::Result<Self> {
        let mut command = Command::new(current_exe()?);
        command.arg("target").stdin(Stdio::piped()).stdout(Stdio::piped());
        for family in Family::BOTH {
            command.args([Stage::target(family).to_string(), Stage::direct(family).to_string()]);
        }
        let mut child = network.gateway.spawn(&mut command)?;
        let (questions, answers) = (child.stdin.take(), child.stdout.take());
        let mut target = Self {
            child,
            questions: questions.expect("piped"),
            answers: BufReader::new(answers.expect("piped")),
        };
        let ready = target.line()?;
        if ready == READY { Ok(target) } else { Err(io::Error::other("the target did not start")) }
    }

    /// What it has seen so far.
    pub(crate) fn counts(&mut self) -> io::Result<Counts> {
        writeln!(self.questions)?;
        self.questions.flush()?;
        Ok(serde_json::from_str(&self.line()?)?)
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.child.id())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for TargetProcess {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Below the ports of spoofed clients.
const LISTEN: u16 = 2222;
const TARGET: u16 = 8080;
