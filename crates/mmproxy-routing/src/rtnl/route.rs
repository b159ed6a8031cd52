//! Routes as the kernel has them.

use std::fmt;
use std::io;
use std::net::IpAddr;

use nix::net::if_::{if_indextoname, if_nametoindex};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType, RouteVia,
};

use super::{LOOPBACK, family, table_name};
use crate::ledger::Ledger;
use crate::lookup::Verdict;
use crate::maker::protocol_name;
use crate::mode::Family;
use crate::step::LocalRoute;

/// A route of anybody's.
///
/// `Display` is the line that `ip route` prints, with table and maker always named.
#[derive(Clone, Debug)]
pub(crate) struct KernelRoute {
    pub(crate) family: Family,
    pub(crate) kind: RouteType,
    pub(crate) destination: Option<(IpAddr, u8)>,
    pub(crate) device: Option<u32>,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) preferred_source: Option<IpAddr>,
    pub(crate) table: u32,
    pub(crate) metric: u32,
    /// Who made it (`rtm_protocol`).
    pub(crate) protocol: u8,
}

impl KernelRoute {
    /// `None` for families that are none of ours, and for the kernel's own cache entries.
    pub(super) fn read(message: RouteMessage) -> Option<Self> {
        let header = message.header;
        let mut route = Self {
            family: family(header.address_family)?,
            kind: header.kind,
            destination: None,
            device: None,
            gateway: None,
            preferred_source: None,
            table: header.table.into(),
            metric: 0,
            protocol: header.protocol.into(),
        };
        for attribute in message.attributes {
            match attribute {
                RouteAttribute::Destination(to) => {
                    route.destination = address(to).map(|to| (to, header.destination_prefix_length));
                }
                RouteAttribute::Oif(index) => route.device = Some(index),
                RouteAttribute::Gateway(to) => route.gateway = address(to),
                RouteAttribute::Via(RouteVia::Inet(to)) => route.gateway = Some(to.into()),
                RouteAttribute::Via(RouteVia::Inet6(to)) => route.gateway = Some(to.into()),
                RouteAttribute::PrefSource(from) => route.preferred_source = address(from),
                RouteAttribute::Table(number) => route.table = number,
                RouteAttribute::Priority(metric) => route.metric = metric,
                _ => {}
            }
        }
        Some(route)
    }

    /// The route of a plan that this is, whatever its metric.
    pub(crate) fn serves(&self, wanted: &LocalRoute) -> bool {
        self.is_local()
            && self.destination.is_none()
            && self.family == wanted.family
            && self.table == wanted.table.get()
            // In IPv4 a local route leads to lo whatever device it names.
            && (self.family == Family::V4 || self.device == Some(LOOPBACK))
            && (wanted.source.is_none() || self.preferred_source == wanted.source)
    }

    /// What the kernel does with its packets.
    pub(crate) fn verdict(&self) -> Verdict {
        match self.kind {
            RouteType::Local => Verdict::Local,
            RouteType::Unicast => Verdict::Forward,
            RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast => Verdict::Group,
            _ => Verdict::Drop,
        }
    }

    /// Whether its packets are delivered on this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.kind == RouteType::Local
    }

    /// The name of its device in the calling thread's network namespace.
    pub(crate) fn device_name(&self) -> Option<String> {
        let index = self.device?;
        Some(match if_indextoname(index) {
            Ok(name) => name.to_string_lossy().into_owned(),
            // Gone in the meantime.
            Err(_) => format!("if{index}"),
        })
    }
}

impl fmt::Display for KernelRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteType::Unicast => {}
            RouteType::Local => f.write_str("local ")?,
            RouteType::BlackHole => f.write_str("blackhole ")?,
            RouteType::Unreachable => f.write_str("unreachable ")?,
            RouteType::Prohibit => f.write_str("prohibit ")?,
            RouteType::Throw => f.write_str("throw ")?,
            kind => write!(f, "{} ", format!("{kind:?}").to_lowercase())?,
        }
        match self.destination {
            Some((address, length)) => write!(f, "{address}/{length}")?,
            None => f.write_str("default")?,
        }
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(device) = self.device_name() {
            write!(f, " dev {device}")?;
        }
        if let Some(source) = self.preferred_source {
            write!(f, " src {source}")?;
        }
        write!(f, " table {} proto {}", table_name(self.table), protocol_name(self.protocol))
    }
}

/// A planned route as netlink says it, with its maker and what it records.
///
/// Fails if what it records is about an interface that is gone.
pub(crate) fn local_route(route: &LocalRoute, ledger: Ledger) -> io::Result<RouteMessage> {
    let device = ledger.device().map_or(Ok(LOOPBACK), |device| if_nametoindex(device.as_str()))?;
    let mut message = RouteMessage::default();
    message.header.address_family = route.family.into();
    message.header.kind = RouteType::Local;
    message.header.protocol = RouteProtocol::from(ledger.lifetime().protocol());
    message.header.scope = match route.family {
        Family::V4 => RouteScope::Host,
        // IPv6 routes have no scope.
        Family::V6 => RouteScope::Universe,
    };
    message.attributes = vec![
        RouteAttribute::Table(route.table.get()),
        RouteAttribute::Oif(device),
        RouteAttribute::Priority(ledger.metric()),
    ];
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    Ok(message)
}

/// The question "where would you send a packet to `destination`", to be refined.
pub(crate) fn question(destination: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    match destination {
        IpAddr::V4(_) => {
            message.header.address_family = Family::V4.into();
            // Otherwise every answer is said to come from the main table. IPv6 always tells, and refuses the flag.
            message.header.flags = RouteFlags::LookupTable;
        }
        IpAddr::V6(_) => message.header.address_family = Family::V6.into(),
    }
    message.header.destination_prefix_length = prefix(destination);
    message.attributes.push(RouteAttribute::Destination(destination.into()));
    message
}

/// The length of the prefix that is this address alone.
pub(crate) const fn prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn address(address: RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(address.into()),
        RouteAddress::Inet6(address) => Some(address.into()),
        _ => None,
    }
}
