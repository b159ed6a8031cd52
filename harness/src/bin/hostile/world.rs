//! The network, the targets and the gateway.

use std::collections::BTreeMap;
use std::fs::write;
use std::net::{Ipv4Addr, SocketAddr};

use harness::expect::eventually;
use harness::{Echo, Metrics, Program, Topology, Usage, addr, children, mmproxy, scratch, shell};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::attack::Configuration;
use crate::server;

/// A gateway before its targets, and a way to it for everybody.
pub(crate) struct World {
    pub(crate) net: Topology,
    /// One, or one for connections and one for datagrams.
    gateways: Vec<Gateway>,
    _echo: Echo,
}

/// A process that keeps, and the one that serves.
struct Gateway {
    program: Program,
    worker: u32,
    admin: SocketAddr,
}

/// Where the gateway takes connections and datagrams, by whose balancer it is connected to: the balancer's namespace has one
/// address for each, and its routes choose it.
pub(crate) struct Way {
    pub(crate) tcp: &'static str,
    pub(crate) udp: &'static str,
}

/// Honest clients' balancer, 10.0.0.2.
pub(crate) const HONEST: Way = Way { tcp: "10.0.0.1:2222", udp: "10.0.0.1:5300" };
/// The balancer that somebody has taken over, 10.0.0.3: allowed like the other.
pub(crate) const HOSTILE: Way = Way { tcp: "10.0.0.9:2222", udp: "10.0.0.9:5300" };
/// Somebody who is in no allowed network, 10.1.0.3.
pub(crate) const STRANGER: Way = Way { tcp: "10.0.0.10:2222", udp: "10.0.0.10:5300" };

const TARGET: &str = "127.0.0.1:4000";

/// What the gateway has counted in the end.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) opened: u64,
    pub(crate) closed: BTreeMap<String, u64>,
    pub(crate) dropped: BTreeMap<String, u64>,
    pub(crate) flows: u64,
    /// What is wrong with them, or with how it ended.
    pub(crate) mistakes: Vec<String>,
}

impl World {
    pub(crate) fn start(configuration: Configuration) -> Self {
        let net = Topology::new();
        // Thousands of connections a second leave as many ports in TIME_WAIT at whoever closes first.
        net.balancer.set_sysctl("net.ipv4.ip_local_port_range", "1024 65535");
        net.balancer.set_sysctl("net.ipv4.tcp_tw_reuse", "1");
        shell(
            &net.balancer,
            "ip address add 10.0.0.3/24 dev gw0 && ip address add 10.1.0.3/24 dev gw0 && \
             ip route add 10.0.0.9/32 dev gw0 src 10.0.0.3 && ip route add 10.0.0.10/32 dev gw0 src 10.1.0.3",
        );
        shell(
            &net.gateway,
            "ip address add 10.0.0.9/24 dev lb0 && ip address add 10.0.0.10/24 dev lb0 && \
             ip route add 10.1.0.0/24 dev lb0",
        );
        server::start(&net.gateway, addr(TARGET));
        let echo = Echo::start(&net.gateway, addr(TARGET));
        let service = |name: &str, port: u16, rest: &str| {
            format!(
                "[[service]]\nname = \"{name}\"\nlisten = \"0.0.0.0:{port}\"\nallow = [\"10.0.0.0/24\"]\n\
                 target-v4 = \"{TARGET}\"\n{rest}\n"
            )
        };
        let connections = service("tcp", 2222, configuration.connections);
        let datagrams = service("udp", 5300, "protocol = \"udp\"\ntable = 102\nudp-max-flows = 2000");
        let gateways = if configuration.together {
            vec![Gateway::start(&net, 9100, &[connections, datagrams].concat())]
        } else {
            vec![Gateway::start(&net, 9100, &connections), Gateway::start(&net, 9101, &datagrams)]
        };
        Self { net, gateways, _echo: echo }
    }

    /// What those who serve use.
    pub(crate) fn usage(&self) -> Usage {
        let mut sum = Usage::default();
        for gateway in &self.gateways {
            let usage = Usage::of(gateway.worker);
            let usage =
                usage.unwrap_or_else(|| panic!("the worker has ended:\n{}", gateway.program.output()));
            sum.descriptors += usage.descriptors;
            sum.resident_kib += usage.resident_kib;
            sum.cpu += usage.cpu;
        }
        sum
    }

    fn metrics(&self) -> impl Iterator<Item = Metrics> {
        self.gateways
            .iter()
            .map(|gateway| eventually("metrics", || Metrics::ask(&self.net.gateway, gateway.admin)))
    }

    /// The sum of a counter.
    fn count(&self, metric: &str) -> u64 {
        self.metrics().map(|metrics| metrics.count(metric)).sum()
    }

    /// Waits until no more sessions live than honest clients have at a time.
    pub(crate) fn settle(&self, honest: u32) {
        let most = u64::from(honest);
        eventually("the attack's sessions to end", || {
            (self.count("mmproxy_sessions_active") <= most).then_some(())
        });
    }

    /// Stops the gateway; what it had counted.
    pub(crate) fn end(self) -> Books {
        self.settle(0);
        let mut books = Books::default();
        let mut lost = 0;
        for metrics in self.metrics() {
            books.closed.append(&mut metrics.by_reason("mmproxy_sessions_closed_total"));
            books.dropped.append(&mut metrics.by_reason("mmproxy_datagrams_dropped_total"));
            books.opened += metrics.count("mmproxy_sessions_opened_total");
            books.flows += metrics.count("mmproxy_flows_opened_total");
            lost += metrics.count("mmproxy_worker_restarts_total");
        }
        let sum: u64 = books.closed.values().sum();
        if sum != books.opened {
            books.mistakes.push(format!("{} sessions were opened, {sum} closed", books.opened));
        }
        if lost > 0 || books.closed.contains_key("panicked") {
            books.mistakes.push(format!("{lost} workers were lost; {:?}", books.closed));
        }
        for gateway in self.gateways {
            let finished = gateway.program.stop();
            if finished.status.code() != Some(0) {
                books.mistakes.push(format!("the gateway ended with {}: {finished}", finished.status));
            }
        }
        books
    }
}

impl Gateway {
    fn start(net: &Topology, admin: u16, services: &str) -> Self {
        let admin = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), admin);
        let file = scratch().join(format!("{}.toml", admin.port()));
        write(&file, format!("[global]\nadmin = \"{admin}\"\nverbosity = \"quiet\"\n{services}"))
            .expect("room");
        let path = file.to_str().expect("ASCII");
        let program = Program::start(&net.gateway, &mut mmproxy(["run", "--config", path]));
        for port in [2222, 5300] {
            if services.contains(&format!(":{port}\"")) {
                program.expect_line(&[&format!("[+] Listening on 0.0.0.0:{port}")]);
            }
        }
        let worker = eventually("the gateway to have a worker", || children(program.pid()).into_iter().max());
        Self { program, worker, admin }
    }
}

/// Connects to the gateway.
pub(crate) async fn connect(way: &str) -> std::io::Result<TcpStream> {
    TcpSocket::new_v4()?.connect(addr(way)).await
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Raises the limit on descriptors, here and for the gateway; how large a crowd there is room for.
///
/// Both ends of a session are this process's, and two descriptors of it are the gateway's.
pub(crate) fn raise_descriptors() -> u32 {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    let wanted = hard.max(131_072);
    // Only the machine's root may have more than the limit.
    let granted = setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).map_or(hard, |()| wanted);
    setrlimit(Resource::RLIMIT_NOFILE, granted, granted).expect("the soft limit may be raised");
    // Of the gateway's, flows have some; of this process's, honest clients and the target.
    let room = u32::try_from(granted).unwrap_or(u32::MAX).saturating_sub(4000) / 2;
    if room < CROWD {
        println!("hostile: {granted} descriptors are room for a crowd of {room}, not {CROWD}");
    }
    room.min(CROWD)
}

const CROWD: u32 = 20_000;
