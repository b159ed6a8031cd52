//! HAProxy announces its clients with `send-proxy` and `send-proxy-v2`.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use Family::{V4, V6};
use harness::{
    Connection, Family, Gateway, Namespace, Program, Target, Topology, installed, isolated, scratch,
};

/// A running HAProxy in the balancer's namespace, which listens on port 22 of both frontend addresses.
pub(crate) struct HaProxy {
    program: Program,
}

impl HaProxy {
    /// Starts HAProxy with one server, given as the words of its `server` line behind the name.
    #[track_caller]
    pub(crate) fn start(net: &Topology, server: &str) -> Self {
        Self::listening(net, "", server)
    }

    /// The same with words at the end of its `bind` lines.
    #[track_caller]
    pub(crate) fn listening(net: &Topology, how: &str, server: &str) -> Self {
        let binds: String =
            Family::BOTH.map(|family| format!("    bind {} {how}\n", frontend(family))).concat();
        Self::configured(net, &format!("listen clients\n{binds}    server gateway {server}\n"))
    }

    /// Starts HAProxy with `sections`, which listen on port 22 among others; it logs connections, and what it thinks of its
    /// servers.
    #[track_caller]
    pub(crate) fn configured(net: &Topology, sections: &str) -> Self {
        let config = scratch().join("haproxy.cfg");
        let text = format!(
            "global\n    log stdout format raw local0\n\
             defaults\n    mode tcp\n    log global\n    option tcplog\n    option log-health-checks\n    \
             unique-id-format %{{+X}}o%ci:%cp\n    \
             timeout connect 30s\n    timeout client 120s\n    timeout server 120s\n{sections}"
        );
        fs::write(&config, text).expect("the test's own directory");
        let mut command = Command::new(installed("haproxy", "haproxy"));
        command.arg("-db").arg("-f").arg(&config);
        let program = Program::start(&net.balancer, &mut command);
        program.expect_listener(&net.balancer, PORT);
        Self { program }
    }

    /// Its process: it prints a line for each connection, when it is over.
    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// What HAProxy has printed, for the message of a test that fails.
    pub(crate) fn output(&self) -> String {
        self.program.output()
    }
}

/// The address that clients connect to.
pub(crate) fn frontend(family: Family) -> SocketAddr {
    SocketAddr::new(family.frontend(), PORT)
}

const PORT: u16 = 22;

/// Clients, HAProxy, the gateway, and a target of each family on the loopback address.
struct Chain {
    clients: Namespace,
    targets: [Target; 2],
    _gateway: Gateway,
    haproxy: HaProxy,
}

impl Chain {
    /// HAProxy connects to the gateway over `balancer` and announces with `options`.
    fn new(balancer: Family, options: &str) -> Self {
        let net = Topology::new();
        let clients = net.clients();
        let targets =
            Family::BOTH.map(|family| Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0)));
        let gateway = Gateway::before(&net, &targets[0]).and_before(&targets[1]).start();
        let haproxy = HaProxy::start(&net, &format!("{} {options}", gateway.address(balancer)));
        Self { clients, targets, _gateway: gateway, haproxy }
    }

    /// A client of `family` connects to HAProxy, the target sees its address and port, and they talk.
    #[track_caller]
    fn expect_seen(&self, family: Family) {
        let client = Connection::open(&self.clients, frontend(family));
        client.send(b"question");
        let upstream = self.targets[if family == V4 { 0 } else { 1 }].accept();
        assert_eq!(upstream.peer(), client.local(), "{}", self.haproxy.output());
        assert_eq!(upstream.peer().ip(), family.client());
        upstream.expect(b"question");
        upstream.send(b"answer");
        client.expect(b"answer");
        client.finish();
        upstream.expect_end();
        upstream.finish();
        client.expect_end();
    }
}

#[test]
fn the_target_sees_an_ipv4_client_that_haproxy_announces_with_send_proxy() {
    isolated(|| Chain::new(V4, "send-proxy").expect_seen(V4));
}

#[test]
fn the_target_sees_an_ipv6_client_that_haproxy_announces_with_send_proxy() {
    isolated(|| Chain::new(V6, "send-proxy").expect_seen(V6));
}

#[test]
fn the_target_sees_an_ipv4_client_that_haproxy_announces_with_send_proxy_v2() {
    isolated(|| Chain::new(V4, "send-proxy-v2").expect_seen(V4));
}

#[test]
fn the_target_sees_an_ipv6_client_that_haproxy_announces_with_send_proxy_v2() {
    isolated(|| Chain::new(V6, "send-proxy-v2").expect_seen(V6));
}

#[test]
fn haproxy_may_reach_the_gateway_over_the_other_family() {
    isolated(|| {
        for options in ["send-proxy", "send-proxy-v2"] {
            Chain::new(V4, options).expect_seen(V6);
            Chain::new(V6, options).expect_seen(V4);
        }
    });
}

#[test]
fn haproxys_checksum_and_unique_id_are_understood() {
    isolated(|| {
        let chain = Chain::new(V4, "send-proxy-v2 proxy-v2-options crc32c,unique-id");
        for family in Family::BOTH {
            chain.expect_seen(family);
        }
    });
}

#[test]
fn many_clients_of_one_haproxy_are_each_seen_as_themselves() {
    isolated(|| {
        let chain = Chain::new(V4, "send-proxy-v2");
        let clients: Vec<_> = (0..100).map(|_| Connection::open(&chain.clients, frontend(V4))).collect();
        for client in &clients {
            client.send(client.local().to_string().as_bytes());
        }
        for _ in &clients {
            let upstream = chain.targets[0].accept();
            let seen = upstream.peer().to_string();
            upstream.expect(seen.as_bytes());
            upstream.send(seen.as_bytes());
        }
        for client in &clients {
            client.expect(client.local().to_string().as_bytes());
        }
    });
}

#[test]
fn haproxys_health_checks_reach_the_target_from_the_gateways_own_address() {
    isolated(|| {
        let chain = Chain::new(V4, "send-proxy-v2 check check-send-proxy inter 200ms");
        // Announced as LOCAL: a connection of the balancer's own.
        assert_eq!(chain.targets[0].accept().peer().ip(), V4.loopback());
        // And a client between two of them is a client.
        let client = Connection::open(&chain.clients, frontend(V6));
        client.send(b"hello");
        assert_eq!(chain.targets[1].accept().peer(), client.local());
    });
}
