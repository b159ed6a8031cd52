//! A container, as far as the network is concerned.

use std::net::IpAddr;

use super::{End, Family, Topology};
use crate::netlink;
use crate::netns::Namespace;
use crate::process::shell;

/// A namespace on a bridge of the gateway's host, which is its default gateway and forwards.
///
/// ```text
///  gateway's host                     container
///  br0   172.18.0.1, fd18::1  ──────  eth0  172.18.0.2, fd18::2
/// ```
#[derive(Debug)]
pub struct Container {
    /// Where its server runs.
    pub namespace: Namespace,
}

impl Topology {
    /// Adds a bridge to the gateway's host, and a container to the bridge.
    pub fn container(&self) -> Container {
        let container = Container { namespace: Namespace::new("container") };
        for switch in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            self.gateway.set_sysctl(switch, "1");
        }
        netlink::in_namespace(&self.gateway, async |net| {
            net.veth("port0", &container.namespace, "eth0").await;
        });
        shell(
            &self.gateway,
            "ip link add br0 type bridge\nip link set port0 addrgenmode none\nip link set port0 master br0\nip link set port0 up",
        );
        let near =
            End { namespace: &self.gateway, device: "br0", addresses: Family::BOTH.map(Family::bridge) };
        let far = End {
            namespace: &container.namespace,
            device: "eth0",
            addresses: Family::BOTH.map(Family::container),
        };
        for end in [&near, &far] {
            end.configure();
        }
        for end in [&near, &far] {
            end.wait_until_settled();
        }
        netlink::in_namespace(&container.namespace, async |net| {
            for family in Family::BOTH {
                net.default_route(family.bridge()).await;
            }
        });
        container
    }
}

impl Family {
    /// The host's address on the bridge.
    pub fn bridge(self) -> IpAddr {
        self.pick([172, 18, 0, 1].into(), [0xfd18, 0, 0, 0, 0, 0, 0, 1].into())
    }

    /// The container's address.
    pub fn container(self) -> IpAddr {
        self.pick([172, 18, 0, 2].into(), [0xfd18, 0, 0, 0, 0, 0, 0, 2].into())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::isolated;

    #[test]
    fn a_container_reaches_everybody_by_way_of_its_host() {
        isolated(|| {
            let net = Topology::new();
            let container = net.container();
            for family in Family::BOTH {
                let listener =
                    container.namespace.run(|| TcpListener::bind((family.container(), 0))).expect("free");
                let at = listener.local_addr().expect("bound");
                let _stream = net.gateway.run(|| TcpStream::connect(at)).expect("the host reaches it");
                assert_eq!(listener.accept().expect("connected").1.ip(), family.bridge());
                // Of a stranger the container knows no more than that its host is the way.
                let to = family.client().to_string();
                assert!(
                    shell(&container.namespace, &format!("ip route get {to}")).stdout.contains("dev eth0")
                );
            }
        });
    }
}
