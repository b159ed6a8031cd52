//! The network, the targets and the gateway.

use std::fs::write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use harness::{Echo, Family, Finished, Metrics, Program, Topology, addr, children, mmproxy, scratch, shell};

use crate::server::Server;

/// Where everything happens.
pub(crate) struct World {
    pub(crate) net: Topology,
    file: PathBuf,
    targets: Mutex<Vec<(Server, Echo)>>,
    gateway: Mutex<Option<Program>>,
}

/// Where the gateway takes connections and datagrams.
pub(crate) const TCP: u16 = 2222;
pub(crate) const UDP: u16 = 5300;
/// Where the targets listen.
const TARGET: u16 = 4000;
const ADMIN: &str = "127.0.0.1:9100";

impl World {
    pub(crate) fn new() -> Self {
        let net = Topology::new();
        // Thousands of connections a minute leave as many ports in TIME_WAIT at the balancer, which closes first.
        net.balancer.set_sysctl("net.ipv4.ip_local_port_range", "1024 65535");
        net.balancer.set_sysctl("net.ipv4.tcp_tw_reuse", "1");
        // Random loss has to hit packets, not 64 KiB at a time.
        for (namespace, device) in [(&net.gateway, "lb0"), (&net.balancer, "gw0")] {
            shell(namespace, &format!("ip link set dev {device} gso_max_segs 1"));
        }
        let world = Self {
            net,
            file: scratch().join("mmproxy.toml"),
            targets: Mutex::new(Vec::new()),
            gateway: Mutex::new(None),
        };
        world.start_targets();
        world
    }

    pub(crate) fn start(&self) {
        self.configure("");
        let path = self.file.to_str().expect("ASCII").to_owned();
        let program = Program::start(&self.net.gateway, &mut mmproxy(["run", "--config", &path]));
        for port in [TCP, UDP] {
            program.expect_line(&[&format!("[+] Listening on [::]:{port}")]);
        }
        *self.gateway.lock().unwrap_or_else(PoisonError::into_inner) = Some(program);
    }

    /// Writes the configuration, with `more` at its end.
    pub(crate) fn configure(&self, more: &str) {
        let service = |name: &str, port: u16, rest: &str| {
            format!(
                "[[service]]\nname = \"{name}\"\nlisten = \"[::]:{port}\"\n\
                 allow = [\"10.0.0.0/24\", \"fd00::/64\"]\ntarget-v4 = \"127.0.0.1:{TARGET}\"\n\
                 target-v6 = \"[::1]:{TARGET}\"\n{rest}"
            )
        };
        let text = format!(
            "[global]\ndrain = \"1h\"\nuser = \"keep\"\nadmin = \"{ADMIN}\"\nverbosity = \"quiet\"\n{}{}{more}",
            service("tcp", TCP, "header-timeout = \"1m\"\n"),
            service("udp", UDP, "protocol = \"udp\"\ntable = 102\n"),
        );
        write(&self.file, text).expect("room");
    }

    pub(crate) fn stop(&self) -> Finished {
        self.stop_targets();
        let program = self.gateway.lock().unwrap_or_else(PoisonError::into_inner).take();
        program.expect("it was started").stop()
    }

    pub(crate) fn start_targets(&self) {
        let pairs = Family::BOTH.map(|family| {
            let address = SocketAddr::new(family.loopback(), TARGET);
            (Server::start(&self.net.gateway, address), Echo::start(&self.net.gateway, address))
        });
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).extend(pairs);
    }

    pub(crate) fn stop_targets(&self) {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Does something with the gateway's process.
    pub(crate) fn with_gateway<T>(&self, action: impl FnOnce(&Program) -> T) -> T {
        let program = self.gateway.lock().unwrap_or_else(PoisonError::into_inner);
        action(program.as_ref().expect("it runs"))
    }

    pub(crate) fn last_lines(&self) -> String {
        let program = self.gateway.lock().unwrap_or_else(PoisonError::into_inner);
        let output = program.as_ref().map(Program::output).unwrap_or_default();
        let lines: Vec<_> = output.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// The keeper.
    pub(crate) fn keeper(&self) -> u32 {
        self.with_gateway(Program::pid)
    }

    /// Its workers, youngest last.
    pub(crate) fn workers(&self) -> Vec<u32> {
        let mut workers = children(self.keeper());
        workers.sort_unstable();
        workers
    }

    /// What the gateway's metrics say, or nothing while nobody answers.
    pub(crate) fn metrics(&self) -> Option<Metrics> {
        Metrics::ask(&self.net.gateway, addr(ADMIN))
    }

    /// Where a balancer of `family` connects to.
    pub(crate) fn address(family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(family.gateway(), port)
    }
}
