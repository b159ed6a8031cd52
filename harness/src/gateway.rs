//! The real `mmproxy` executable.

use std::env::{current_exe, var_os};
use std::fs::{read_dir, read_to_string};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use nix::sys::signal::Signal;

use crate::expect::eventually;
use crate::netns::Namespace;
use crate::process::{Finished, Program, run};
use crate::target::{Target, try_accept};
use crate::topology::{Family, Topology};

/// A running gateway. Killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    program: Program,
    listening: SocketAddr,
}

/// A gateway's command line, before it is run.
#[derive(Clone, Debug)]
pub struct Flags {
    namespace: Namespace,
    listen: SocketAddr,
    targets: Vec<SocketAddr>,
    /// Of the targets that the test itself plays.
    played: Vec<Arc<TcpListener>>,
    /// Who may connect, if the test says so; else the balancer's two networks.
    allowed: Option<Vec<String>>,
    more: Vec<String>,
    /// Another executable than the one under test; a copy of it, for example.
    executable: Option<PathBuf>,
}

/// The executable under test: `$MMPROXY_BIN`, or the one that cargo built beside the running test.
///
/// # Panics
///
/// If there is none.
pub fn executable() -> PathBuf {
    if let Some(path) = var_os("MMPROXY_BIN") {
        let path = PathBuf::from(path);
        assert!(
            path.is_absolute() && path.is_file(),
            "MMPROXY_BIN is {}, which is no absolute path of a file",
            path.display()
        );
        return path;
    }
    let test = current_exe().expect("/proc names this executable");
    // target/PROFILE/deps/TEST
    let profile = test.ancestors().nth(2).expect("test executables are two folders deep");
    let path = profile.join("mmproxy");
    let release = if profile.ends_with("release") { " --release" } else { "" };
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build -p mmproxy{release}` first, or set MMPROXY_BIN",
        path.display()
    );
    path
}

/// The executable as a command with `arguments`. The caller's environment does not decide what it logs.
pub fn mmproxy<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(executable());
    command.args(arguments).env_remove("RUST_LOG");
    command
}

impl Gateway {
    /// A gateway of `net` that listens on all addresses, allows the balancer, and connects to `target`.
    pub fn to(net: &Topology, target: SocketAddr) -> Flags {
        Flags {
            namespace: net.gateway.clone(),
            // Serves balancers of both families.
            listen: SocketAddr::new(Family::V6.wildcard(), 0),
            targets: vec![target],
            played: Vec::new(),
            allowed: None,
            more: Vec::new(),
            executable: None,
        }
    }

    /// The same, before a target that the test itself plays: what it accepts once the gateway is ready are sessions.
    ///
    /// The gateway's self-check connects to its targets first; those connections are not the test's to see.
    pub fn before(net: &Topology, target: &Target) -> Flags {
        let mut flags = Self::to(net, target.address());
        flags.played.push(target.listener());
        flags
    }

    /// Where a balancer of `family` connects to.
    pub fn address(&self, family: Family) -> SocketAddr {
        let ip = self.listening.ip();
        SocketAddr::new(if ip.is_unspecified() { family.gateway() } else { ip }, self.listening.port())
    }

    /// The address of the line that says it is ready.
    pub fn listening(&self) -> SocketAddr {
        self.listening
    }

    /// Its process, for signals and for what it printed.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The process that serves: the youngest that the gateway's own has started.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn worker(&self) -> u32 {
        eventually("the gateway to have a worker", || children(self.program.pid()).into_iter().max())
    }

    /// The first line, logged or printed, that contains all of `parts`; waits for it.
    ///
    /// # Panics
    ///
    /// If it does not come.
    #[track_caller]
    pub fn expect_log(&self, parts: &[&str]) -> String {
        self.program.expect_line(parts)
    }

    /// SIGTERM, and the end: exit status 0 is expected.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.program.stop().expect_code(0)
    }

    /// SIGINT, and the end: exit status 0 is expected.
    #[track_caller]
    pub fn interrupt(self) -> Finished {
        self.program.signal(Signal::SIGINT);
        self.program.wait().expect_code(0)
    }

    /// SIGKILL: it has no say in what happens then.
    pub fn kill(self) {
        self.program.kill();
    }

    /// Waits for its end without asking for it.
    #[track_caller]
    pub fn wait(self) -> Finished {
        self.program.wait()
    }
}

/// Processes that any thread of `pid` has started (proc_tid_children(5)); none, if it has ended.
pub fn children(pid: u32) -> Vec<u32> {
    let threads = read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

impl Flags {
    /// Adds a target; its family decides between `-4` and `-6`.
    #[must_use]
    pub fn and_to(mut self, target: SocketAddr) -> Self {
        self.targets.push(target);
        self
    }

    /// Connects to `address` instead, by which the same target is reached.
    #[must_use]
    pub fn redirected(mut self, address: SocketAddr) -> Self {
        self.targets = vec![address];
        self
    }

    /// Gives no target on the command line: the header names it.
    #[must_use]
    pub fn without_targets(mut self) -> Self {
        self.targets.clear();
        self.played.clear();
        self
    }

    /// Adds a target that the test itself plays.
    #[must_use]
    pub fn and_before(mut self, target: &Target) -> Self {
        self.played.push(target.listener());
        self.and_to(target.address())
    }

    /// Listens on `address` instead of on all.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// `--allow NETWORK` instead of the balancer's networks.
    #[must_use]
    pub fn allow(mut self, network: &str) -> Self {
        self.allowed.get_or_insert_default().extend(["--allow".to_owned(), network.to_owned()]);
        self
    }

    /// `--allowed-subnets FILE` instead of the balancer's networks.
    #[must_use]
    pub fn allowed_subnets(mut self, file: &str) -> Self {
        self.allowed.get_or_insert_default().extend(["--allowed-subnets".to_owned(), file.to_owned()]);
        self
    }

    /// Adds any other flags.
    #[must_use]
    pub fn with<'a>(mut self, flags: impl IntoIterator<Item = &'a str>) -> Self {
        self.more.extend(flags.into_iter().map(str::to_owned));
        self
    }

    /// Runs a copy of the executable.
    #[must_use]
    pub fn from_copy(mut self, executable: PathBuf) -> Self {
        self.executable = Some(executable);
        self
    }

    /// The command.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.executable.clone().unwrap_or_else(executable));
        command.args(self.arguments()).env_remove("RUST_LOG");
        command
    }

    /// What stands behind the program's name.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--listen".to_owned(), self.listen.to_string()];
        for target in &self.targets {
            arguments.extend([if target.is_ipv4() { "-4" } else { "-6" }.to_owned(), target.to_string()]);
        }
        match &self.allowed {
            Some(allowed) => arguments.extend_from_slice(allowed),
            None => arguments.extend(["--allow", "10.0.0.0/24", "--allow", "fd00::/64"].map(str::to_owned)),
        }
        arguments.extend_from_slice(&self.more);
        arguments
    }

    /// Starts the gateway and waits until it says that it is ready.
    ///
    /// # Panics
    ///
    /// If it does not, with what it printed instead.
    #[track_caller]
    pub fn start(&self) -> Gateway {
        self.start_command(&mut self.command())
    }

    /// The same by way of another program, such as one that takes capabilities away first.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[track_caller]
    pub fn start_under(&self, program: &str, arguments: &[&str]) -> Gateway {
        let command = self.command();
        let mut wrapped = Command::new(program);
        wrapped.args(arguments).arg(command.get_program()).args(command.get_args()).env_remove("RUST_LOG");
        self.start_command(&mut wrapped)
    }

    #[track_caller]
    fn start_command(&self, command: &mut Command) -> Gateway {
        let program = Program::start(&self.namespace, command);
        let line = program.expect_line(&[READY]);
        let address = line.trim_start_matches(READY).split_whitespace().next().unwrap_or_default();
        let listening = address.parse().unwrap_or_else(|_| panic!("no address behind {READY:?} in {line:?}"));
        // The self-check is over, so whatever waits to be accepted is of its making.
        for listener in &self.played {
            while try_accept(listener).is_some() {}
        }
        Gateway { program, listening }
    }

    /// Runs the gateway to its end, because it refuses to start.
    ///
    /// # Panics
    ///
    /// If it starts.
    #[track_caller]
    pub fn run(&self) -> Finished {
        run(&self.namespace, &mut self.command(), b"")
    }
}

/// What the gateway prints, with the address, once it accepts connections there.
const READY: &str = "[+] Listening on ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolated;
    use crate::topology::addr;

    #[test]
    fn flags_become_a_command_line() {
        isolated(|| {
            let net = Topology::new();
            let short = Gateway::to(&net, addr("127.0.0.1:22"));
            let balancers = ["--allow", "10.0.0.0/24", "--allow", "fd00::/64"];
            let expected = [&["--listen", "[::]:0", "-4", "127.0.0.1:22"], balancers.as_slice()].concat();
            assert_eq!(short.arguments(), expected);
            let long = short
                .and_to(addr("[::1]:22"))
                .listen(addr("10.0.0.1:0"))
                .allow("192.0.2.0/24")
                .with(["--quiet"]);
            let expected = [
                "--listen",
                "10.0.0.1:0",
                "-4",
                "127.0.0.1:22",
                "-6",
                "[::1]:22",
                "--allow",
                "192.0.2.0/24",
                "--quiet",
            ];
            assert_eq!(long.arguments(), expected);
        });
    }
}
