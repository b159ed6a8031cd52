//! What the kernel would do with a packet.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::route::RouteAttribute;

use crate::error::RoutingError;
use crate::mode::{Family, Mark, Transport};
use crate::rtnl::{KernelRoute, Rtnl, prefix, question};
use crate::step::Device;

/// Asks the kernel where it would send a packet (`ip route get`), in the calling thread's network namespace.
///
/// Needs no privilege. `Ok(None)` is "nowhere": no route to that destination, one that drops the packet, or a source
/// that this host cannot send from.
///
/// # Errors
///
/// [`RoutingError::Kernel`] if there is no such interface.
pub async fn lookup(question: &Question) -> Result<Option<Route>, RoutingError> {
    ask(&Rtnl::open()?, question).await
}

/// The interface of the default route in IPv4, in the calling thread's network namespace; `None` without one.
///
/// # Errors
///
/// [`RoutingError::Kernel`] if the kernel does not answer.
pub async fn default_device() -> Result<Option<Device>, RoutingError> {
    let route = lookup(&Question::to(sample_client(Family::V4))).await?;
    let device = route.filter(|route| route.verdict == Verdict::Forward).and_then(|route| route.device);
    Ok(device.and_then(|device| device.parse().ok()))
}

/// A client address that is nobody's, from the documentation ranges (RFC 5737, RFC 3849).
pub(crate) const fn sample_client(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    }
}

/// [`lookup`] over a connection that is open already.
pub(crate) async fn ask(rtnl: &Rtnl, packet: &Question) -> Result<Option<Route>, RoutingError> {
    let mut message = question(packet.destination);
    if let Some(source) = packet.source {
        message.header.source_prefix_length = prefix(source);
        message.attributes.push(RouteAttribute::Source(source.into()));
    }
    if let Some(mark) = packet.mark {
        message.attributes.push(RouteAttribute::Mark(mark.get()));
    }
    if let Some((transport, port)) = packet.source_port {
        message.attributes.extend([RouteAttribute::IpProto(transport.number()), RouteAttribute::Sport(port)]);
    }
    if let Some(name) = &packet.input {
        let index = if_nametoindex(name.as_str()).map_err(|errno| {
            RoutingError::kernel(format!("find interface {name}"), io::Error::from(errno))
        })?;
        message.attributes.push(RouteAttribute::Iif(index));
    }
    Ok(rtnl.route_of(message).await?.map(Route::from))
}

/// The packet that a [`lookup`] asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Question {
    /// Where it goes.
    pub destination: IpAddr,
    /// Where it comes from, if that is settled.
    pub source: Option<IpAddr>,
    /// The mark it carries.
    pub mark: Option<Mark>,
    /// The port it is sent from.
    pub source_port: Option<(Transport, u16)>,
    /// The interface it came in by; `None` for a packet of this host.
    pub input: Option<String>,
}

impl Question {
    /// A packet of this host to `destination`, without a mark.
    #[must_use]
    pub const fn to(destination: IpAddr) -> Self {
        Self { destination, source: None, mark: None, source_port: None, input: None }
    }
}

/// The kernel's answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// What it would do.
    pub verdict: Verdict,
    /// The interface the packet would leave by.
    pub device: Option<String>,
    /// The next hop, if it is not the destination itself.
    pub gateway: Option<IpAddr>,
    /// The routing table that decided.
    pub table: u32,
    /// The source address it would choose.
    pub preferred_source: Option<IpAddr>,
}

impl Route {
    /// Whether the packet would be delivered on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.verdict == Verdict::Local
    }
}

impl From<KernelRoute> for Route {
    fn from(route: KernelRoute) -> Self {
        Self {
            verdict: route.verdict(),
            device: route.device_name(),
            gateway: route.gateway,
            table: route.table,
            preferred_source: route.preferred_source,
        }
    }
}

/// What the kernel would do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Deliver it on this machine.
    Local,
    /// Send it out.
    Forward,
    /// Broadcast, multicast or anycast.
    Group,
    /// Drop it, with or without an ICMP error.
    Drop,
}
