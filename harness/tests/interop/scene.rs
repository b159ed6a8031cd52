//! The usual scene: clients, HAProxy, the gateway, and a real server on both loopback addresses.

use std::net::SocketAddr;

use harness::{Connection, Family, Gateway, Namespace, Program, Topology};

use crate::haproxy::{HaProxy, frontend};

/// A server that somebody else wrote, and the whole way to it.
pub(crate) struct Scene {
    pub(crate) clients: Namespace,
    pub(crate) server: Program,
    _gateway: Gateway,
    _haproxy: HaProxy,
}

impl Scene {
    /// Starts `server` in the gateway's namespace, where it listens on `port` of 127.0.0.1 and ::1, and the gateway before
    /// it. HAProxy reaches the gateway over IPv4, whatever its clients have.
    #[track_caller]
    pub(crate) fn before(port: u16, server: impl FnOnce(&Topology) -> Program) -> Self {
        let net = Topology::new();
        let clients = net.clients();
        let server = server(&net);
        server.expect_listener(&net.gateway, port);
        let gateway = gateway(&net, port);
        let haproxy = HaProxy::start(&net, &format!("{} send-proxy-v2", gateway.address(Family::V4)));
        Self { clients, server, _gateway: gateway, _haproxy: haproxy }
    }

    /// A client's connection to HAProxy.
    #[track_caller]
    pub(crate) fn connect(&self, family: Family) -> Connection {
        let client = Connection::open(&self.clients, frontend(family));
        assert_eq!(client.local().ip(), family.client());
        client
    }
}

/// A gateway before a server that listens on `port` of both loopback addresses.
#[track_caller]
pub(crate) fn gateway(net: &Topology, port: u16) -> Gateway {
    let [v4, v6] = Family::BOTH.map(|family| SocketAddr::new(family.loopback(), port));
    Gateway::to(net, v4).and_to(v6).start()
}
