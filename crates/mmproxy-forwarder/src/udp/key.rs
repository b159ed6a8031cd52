//! What tells one flow from another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Identity of a flow: datagrams with the same key are one client's, and go out of one socket.
///
/// The balancer's port is no part of it: a balancer that goes on from another port, as one that was restarted does, is
/// followed. All addresses are unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowKey {
    /// The address that the balancer sends to: one listener on all addresses has several.
    pub(crate) local: IpAddr,
    pub(crate) balancer: IpAddr,
    pub(crate) origin: Origin,
}

/// Whose datagrams they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// A client's, on its way to `destination`.
    Client { source: SocketAddr, destination: Option<SocketAddr> },
    /// The balancer's own, or those of a client without address. Only the port tells two of them apart.
    Balancer { port: u16 },
}

/// The network a client shares with its neighbours: whoever controls one address of it mostly has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientNetwork(IpAddr);

impl FlowKey {
    /// The network its client counts for; the balancer's own where the datagrams are.
    pub(crate) const fn network(&self) -> ClientNetwork {
        match self.origin {
            Origin::Client { source, .. } => ClientNetwork::of(source.ip()),
            Origin::Balancer { .. } => ClientNetwork::of(self.balancer),
        }
    }
}

impl ClientNetwork {
    /// IPv4: /24, the smallest network that is routed. IPv6: /56, what a household is given.
    pub(crate) const fn of(ip: IpAddr) -> Self {
        Self(match ip {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & !0xFF)),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 72 << 72)),
        })
    }
}
