//! The few rtnetlink requests that tests need: interfaces, addresses, routes, and what is there.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteType};
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::{Error, Handle, IpVersion, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};
use tokio::runtime;

use crate::netns::Namespace;
use crate::topology::Family;

/// Runs `work` with a netlink connection to `namespace`.
pub(crate) fn in_namespace<T: Send>(namespace: &Namespace, work: impl AsyncFnOnce(Netlink) -> T + Send) -> T {
    namespace.run(|| {
        let runtime =
            runtime::Builder::new_current_thread().enable_io().build().expect("descriptors to spare");
        runtime.block_on(async {
            let (connection, handle, _events) = new_connection().expect("a netlink socket");
            tokio::spawn(connection);
            work(Netlink { handle, namespace: namespace.name() }).await
        })
    })
}

/// A connection to one namespace's routing tables. A refused request panics: the set-up is the test's own.
pub(crate) struct Netlink {
    handle: Handle,
    namespace: &'static str,
}

impl Netlink {
    /// `ip link set NAME up`
    pub(crate) async fn set_up(&self, name: &str) {
        let done = self.handle.link().set(LinkUnspec::new_with_name(name).up().build()).execute().await;
        self.check(done, || format!("ip link set {name} up"));
    }

    /// `ip link add NAME type veth peer NAME netns OTHER`: one cable, its far end of the same name in `other`.
    pub(crate) async fn veth(&self, name: &str, other: &Namespace, far_name: &str) {
        let peer = other
            .with_handle(|file| LinkUnspec::new_with_name(far_name).setns_by_fd(file.as_raw_fd()).build());
        let link = LinkVeth::new(name, far_name).set_info_data(InfoData::Veth(InfoVeth::Peer(peer))).build();
        let done = self.handle.link().add(link).execute().await;
        self.check(done, || format!("ip link add {name} type veth peer {far_name} netns {}", other.name()));
    }

    /// `ip address add IP/PREFIX dev NAME nodad`
    pub(crate) async fn address(&self, name: &str, ip: IpAddr, prefix: u8) {
        let index = self.link(name).await.header.index;
        let mut request = self.handle.address().add(index, ip, prefix);
        if ip.is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        let done = request.execute().await;
        self.check(done, || format!("ip address add {ip}/{prefix} dev {name}"));
    }

    /// Whether everything that the kernel does by itself for an interface that comes up is done: it says so, it has its
    /// link-local address, and its routes are in place and usable.
    pub(crate) async fn is_settled(&self, name: &str) -> bool {
        let link = self.link(name).await.header;
        let routes = self.routes().await;
        let own =
            || routes.iter().filter(|route| route.attributes.contains(&RouteAttribute::Oif(link.index)));
        let link_local = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Destination(RouteAddress::Inet6(ip)) if ip.is_unicast_link_local());
        link.flags.contains(LinkFlags::Running)
            && !own().any(|route| route.header.flags.contains(RouteFlags::Linkdown))
            && own().any(|route| route.header.kind == RouteType::Multicast)
            && own()
                .any(|route| route.header.kind == RouteType::Local && route.attributes.iter().any(link_local))
    }

    /// `ip route add default via GATEWAY`
    pub(crate) async fn default_route(&self, gateway: IpAddr) {
        let (everything, agree) =
            (Family::of(gateway).wildcard(), "the prefix and the gateway are of one family");
        let route = RouteMessageBuilder::<IpAddr>::new();
        let route = route.destination_prefix(everything, 0).expect(agree).gateway(gateway).expect(agree);
        let done = self.handle.route().add(route.build()).execute().await;
        self.check(done, || format!("ip route add default via {gateway}"));
    }

    /// `ip rule show` and `ip -6 rule show`
    pub(crate) async fn rules(&self) -> Vec<RuleMessage> {
        let mut rules = Vec::new();
        for family in [IpVersion::V4, IpVersion::V6] {
            let dump: Result<Vec<_>, _> = self.handle.rule().get(family).execute().try_collect().await;
            rules.extend(self.check(dump, || "ip rule show".to_owned()));
        }
        rules
    }

    /// `ip route show table all`, both families
    pub(crate) async fn routes(&self) -> Vec<RouteMessage> {
        let mut routes = Vec::new();
        for message in [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ] {
            let dump: Result<Vec<_>, _> = self.handle.route().get(message).execute().try_collect().await;
            routes.extend(self.check(dump, || "ip route show table all".to_owned()));
        }
        routes
    }

    /// `ip link show`
    pub(crate) async fn links(&self) -> Vec<LinkMessage> {
        let dump: Result<Vec<_>, _> = self.handle.link().get().execute().try_collect().await;
        self.check(dump, || "ip link show".to_owned())
    }

    async fn link(&self, name: &str) -> LinkMessage {
        let mut found = self.handle.link().get().match_name(name.to_owned()).execute();
        let link = self.check(found.try_next().await, || format!("ip link show {name}"));
        link.unwrap_or_else(|| panic!("{}: there is no interface {name}", self.namespace))
    }

    fn check<T>(&self, done: Result<T, Error>, command: impl FnOnce() -> String) -> T {
        done.unwrap_or_else(|error| panic!("{}: {}: {error}", self.namespace, command()))
    }
}
