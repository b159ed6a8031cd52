//! The networks that tests run on.

mod container;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::expect::eventually;
use crate::netlink;
use crate::netns::Namespace;
use crate::process::shell;

pub use self::container::Container;

/// A balancer and a gateway with its target, joined by one cable; behind the balancer, on request, clients.
///
/// ```text
///  clients                 balancer                  gateway and target
///  192.0.2.7      ───────  192.0.2.1   10.0.0.2  ──────  10.0.0.1, 127.0.0.1
///  2001:db8::7             2001:db8::1  fd00::2           fd00::1,  ::1
/// ```
///
/// The gateway has no default route and knows nothing of the clients' networks: without a return path that works,
/// no answer to a client's address leaves it, and none arrives anywhere.
#[derive(Debug)]
pub struct Topology {
    /// Where the load balancer runs.
    pub balancer: Namespace,
    /// Where the gateway and its targets run.
    pub gateway: Namespace,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Topology {
    /// Balancer and gateway.
    ///
    /// # Panics
    ///
    /// Outside [`isolated`](crate::isolated).
    #[expect(clippy::new_without_default, reason = "making namespaces is no default")]
    pub fn new() -> Self {
        let topology = Self { balancer: Namespace::new("balancer"), gateway: Namespace::new("gateway") };
        join(
            End { namespace: &topology.gateway, device: "lb0", addresses: Family::BOTH.map(Family::gateway) },
            End {
                namespace: &topology.balancer,
                device: "gw0",
                addresses: Family::BOTH.map(Family::balancer),
            },
        );
        topology
    }

    /// Adds the clients' network behind the balancer, and returns the namespace in it that has
    /// [`Family::client`]'s addresses.
    pub fn clients(&self) -> Namespace {
        let clients = Namespace::new("clients");
        join(
            End {
                namespace: &self.balancer,
                device: "clients0",
                addresses: Family::BOTH.map(Family::frontend),
            },
            End { namespace: &clients, device: "lb0", addresses: Family::BOTH.map(Family::client) },
        );
        clients
    }

    /// Adds a machine behind the gateway, and returns its namespace, which has [`Family::behind`]'s addresses: its way
    /// to anybody leads through the gateway, which forwards packets as a router does.
    pub fn behind(&self) -> Namespace {
        let machine = Namespace::new("behind");
        join(
            End { namespace: &self.gateway, device: "inner0", addresses: Family::BOTH.map(Family::inner) },
            End { namespace: &machine, device: "outer0", addresses: Family::BOTH.map(Family::behind) },
        );
        netlink::in_namespace(&machine, async |net| {
            for family in Family::BOTH {
                net.default_route(family.inner()).await;
            }
        });
        for switch in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            self.gateway.set_sysctl(switch, "1");
        }
        machine
    }

    /// Makes the gateway's kernel acknowledge each segment from the balancer at once.
    ///
    /// For IPv4 tests that send many pieces one after the other: a kernel puts acknowledgements off for up to a fifth
    /// of a second, and [`drip`](crate::Connection::drip) waits for each.
    pub fn acknowledge_at_once(&self) {
        let (own, network) = (Family::V4.gateway(), "10.0.0.0/24");
        shell(
            &self.gateway,
            &format!("ip route change {network} dev lb0 proto kernel scope link src {own} quickack 1"),
        );
    }

    /// Gives the gateway default routes by way of the balancer, as most real ones have.
    pub fn default_routes(&self) {
        netlink::in_namespace(&self.gateway, async |net| {
            for family in Family::BOTH {
                net.default_route(family.balancer()).await;
            }
        });
    }
}

impl Family {
    /// Both, in the order of their numbers.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The gateway's own address, on the cable to the balancer.
    pub fn gateway(self) -> IpAddr {
        self.pick(Ipv4Addr::new(10, 0, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))
    }

    /// The address that the gateway sees its balancer connect from.
    pub fn balancer(self) -> IpAddr {
        self.pick(Ipv4Addr::new(10, 0, 0, 2), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2))
    }

    /// The balancer's address on the clients' side.
    pub fn frontend(self) -> IpAddr {
        self.pick(Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))
    }

    /// A client's address: of a network reserved for documentation, so that nobody has it.
    pub fn client(self) -> IpAddr {
        self.pick(Ipv4Addr::new(192, 0, 2, 7), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7))
    }

    /// The gateway's address on the side of the machine behind it.
    pub fn inner(self) -> IpAddr {
        self.pick(Ipv4Addr::new(10, 7, 0, 1), Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 1))
    }

    /// The address of the machine behind the gateway.
    pub fn behind(self) -> IpAddr {
        self.pick(Ipv4Addr::new(10, 7, 0, 2), Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 2))
    }

    /// 127.0.0.1 or ::1.
    pub fn loopback(self) -> IpAddr {
        self.pick(Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)
    }

    /// 0.0.0.0 or ::.
    pub fn wildcard(self) -> IpAddr {
        self.pick(Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED)
    }

    /// The family of `ip`.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn pick(self, v4: Ipv4Addr, v6: Ipv6Addr) -> IpAddr {
        match self {
            Self::V4 => v4.into(),
            Self::V6 => v6.into(),
        }
    }
}

/// The address written as `text`: `addr("192.0.2.7:4711")`.
#[track_caller]
pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no IP:PORT"))
}

/// One end of a cable.
struct End<'a> {
    namespace: &'a Namespace,
    device: &'static str,
    addresses: [IpAddr; 2],
}

impl End<'_> {
    fn configure(&self) {
        netlink::in_namespace(self.namespace, async |net| {
            for ip in self.addresses {
                net.address(self.device, ip, if ip.is_ipv4() { 24 } else { 64 }).await;
            }
            net.set_up(self.device).await;
        });
    }

    /// The kernel goes on after the last request was answered; a state recorded before its end would change by itself.
    fn wait_until_settled(&self) {
        eventually("the kernel to have set up an interface", || {
            netlink::in_namespace(self.namespace, async |net| net.is_settled(self.device).await).then_some(())
        });
    }
}

fn join(near: End<'_>, far: End<'_>) {
    netlink::in_namespace(near.namespace, async |net| net.veth(near.device, far.namespace, far.device).await);
    near.configure();
    far.configure();
    near.wait_until_settled();
    far.wait_until_settled();
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::isolated;

    fn reach(from: &Namespace, to: &Namespace, source: IpAddr, destination: IpAddr) {
        let listener =
            to.run(|| TcpListener::bind((destination, 0))).expect("the address is there and usable");
        let at = listener.local_addr().expect("bound");
        let _stream = from.run(|| TcpStream::connect(at)).expect("the way is there");
        assert_eq!(listener.accept().expect("connected").1.ip(), source);
    }

    #[test]
    fn each_reaches_its_neighbour_at_once_and_with_the_address_of_the_drawing() {
        isolated(|| {
            let net = Topology::new();
            let clients = net.clients();
            for family in Family::BOTH {
                reach(&net.balancer, &net.gateway, family.balancer(), family.gateway());
                reach(&clients, &net.balancer, family.client(), family.frontend());
            }
        });
    }

    #[test]
    fn the_gateway_has_no_way_to_a_client() {
        isolated(|| {
            let net = Topology::new();
            let _clients = net.clients();
            for family in Family::BOTH {
                let refused =
                    net.gateway.run(|| TcpStream::connect((family.client(), 80))).expect_err("no route");
                assert_eq!(refused.kind(), std::io::ErrorKind::NetworkUnreachable);
            }
        });
    }

    #[test]
    fn default_routes_lead_to_the_balancer() {
        isolated(|| {
            let net = Topology::new();
            net.default_routes();
            let _clients = net.clients();
            for family in Family::BOTH {
                reach(&net.gateway, &net.balancer, family.gateway(), family.frontend());
            }
        });
    }
}
