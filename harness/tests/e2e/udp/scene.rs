//! The usual scene: a balancer's socket, one gateway, one server that tells what it sees.

use std::net::SocketAddr;

use harness::{Datagrams, Echo, Family, Flags, Gateway, Topology, V2, header};

use crate::support::{client, frontend};

/// A gateway before a server on the loopback address.
pub(super) struct Scene {
    pub(super) net: Topology,
    pub(super) echo: Echo,
    pub(super) gateway: Gateway,
    pub(super) family: Family,
}

impl Scene {
    pub(super) fn new(family: Family) -> Self {
        Self::with(family, |flags| flags)
    }

    /// `flags` adds to the gateway's command line.
    pub(super) fn with(family: Family, flags: impl FnOnce(Flags) -> Flags) -> Self {
        Self::before(SocketAddr::new(family.loopback(), 0), family, flags)
    }

    /// With a server at `address`.
    pub(super) fn before(address: SocketAddr, family: Family, flags: impl FnOnce(Flags) -> Flags) -> Self {
        let net = Topology::new();
        let echo = Echo::start(&net.gateway, address);
        let target = SocketAddr::new(family.loopback(), echo.address().port());
        let gateway = flags(Gateway::to(&net, target).with(["-p", "udp"])).start();
        Self { net, echo, gateway, family }
    }

    /// Where balancers send to.
    pub(super) fn address(&self) -> SocketAddr {
        self.gateway.address(self.family)
    }

    /// A socket of the balancer's.
    pub(super) fn balancer(&self) -> Datagrams {
        Datagrams::of(&self.net, self.family.balancer())
    }

    /// Shows that `client` is served through `balancer`, and is seen as itself.
    #[track_caller]
    pub(super) fn serves(&self, balancer: &Datagrams, client: SocketAddr, question: &[u8]) {
        balancer.ask(self.address(), &announce(client), question, &Echo::answer(client, question));
    }

    /// Shows that the gateway still serves.
    #[track_caller]
    pub(super) fn expect_alive(&self) {
        self.serves(&self.balancer(), client(self.family), b"still there?");
    }
}

/// The version 2 header of a datagram from `client`.
pub(super) fn announce(client: SocketAddr) -> Vec<u8> {
    V2::datagram(client, frontend(Family::of(client.ip()))).to_bytes()
}

/// The same in Cloudflare's format.
pub(super) fn announce_spp(client: SocketAddr) -> Vec<u8> {
    header::spp(client, frontend(Family::of(client.ip())))
}

/// One of many clients of `family`.
pub(super) fn numbered(family: Family, number: u32) -> SocketAddr {
    let [_, high, middle, low] = number.to_be_bytes();
    let ip = match family {
        Family::V4 => std::net::Ipv4Addr::new(198, 18 + high, middle, low).into(),
        Family::V6 => {
            std::net::Ipv6Addr::new(0x2001, 0xdb8, number as u16, (number >> 16) as u16, 0, 0, 0, 9).into()
        }
    };
    SocketAddr::new(ip, 4711)
}
