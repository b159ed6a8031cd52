//! The hosts that gateways run on: what is there already must not matter, and `check` must tell where it does.

use std::net::{IpAddr, SocketAddr};

use harness::{
    Balancer, Container, Family, Finished, Gateway, Namespace, State, Target, Topology, UdpTarget, Version,
    isolated, mmproxy, run, shell,
};

use crate::support::{client, header, talk};
use Family::{V4, V6};

/// A gateway's host, with whatever makes it peculiar.
struct Ground {
    net: Topology,
    /// How the balancer connects.
    balancer: Family,
}

impl Ground {
    fn new(script: &str) -> Self {
        let net = Topology::new();
        shell(&net.gateway, script);
        Self { net, balancer: V4 }
    }

    fn container(&self) -> Container {
        self.net.container()
    }

    fn command(&self, words: &str) -> Finished {
        run(&self.net.gateway, &mut mmproxy(words.split_whitespace()), b"")
    }

    fn state(&self) -> State {
        State::of(&self.net.gateway)
    }

    /// A server on `ip` in `place` is served over TCP by a gateway with this mode, `check` says so, and nothing is left.
    #[track_caller]
    fn serves_tcp(&self, mode: &str, place: &Namespace, ip: IpAddr) {
        let (target, family) = (Target::listen(place, SocketAddr::new(ip, 0)), Family::of(ip));
        let before = self.state();
        let check = format!("check --return-path {mode} {} {}", flag(family), target.address());
        self.command(&check).expect_code(78);
        let gateway = Gateway::before(&self.net, &target)
            .listen(SocketAddr::new(self.balancer.wildcard(), 0))
            .with(["--return-path", mode])
            .start();
        let downstream = Balancer::of(&self.net).announce(
            gateway.address(self.balancer),
            &header(Version::V2, family),
            b"",
        );
        let upstream = target.accept();
        assert_eq!(upstream.peer(), client(family), "mode {mode}");
        talk(&downstream, &upstream);
        self.command(&check).expect_code(0).expect_text(&["using spoofed connection."]);
        gateway.stop();
        self.state().expect_unchanged_since(&before);
    }

    /// The same for UDP: `setup`, `check`, and a question from a spoofed socket.
    #[track_caller]
    fn serves_udp(&self, mode: &str, place: &Namespace, ip: IpAddr) {
        let (target, family) = (UdpTarget::listen(place, SocketAddr::new(ip, 0)), Family::of(ip));
        let before = self.state();
        let options = format!("-p udp --return-path {mode} {} {}", flag(family), target.address());
        target.expect_no_way_back(&self.net.gateway, client(family));
        self.command(&format!("check {options}")).expect_code(78);
        self.command(&format!("setup {options}")).expect_code(0);
        target.expect_answers(&self.net.gateway, client(family));
        self.command(&format!("check {options}")).expect_code(0);
        self.command(&format!("teardown {options}")).expect_code(0);
        self.state().expect_unchanged_since(&before);
    }

    /// Every mode that serves targets of this host, with what it serves.
    #[track_caller]
    fn serves_its_own(&self, families: &[Family]) {
        let host = &self.net.gateway;
        for &family in families {
            self.serves_tcp("auto", host, family.loopback());
            self.serves_tcp("source", host, family.loopback());
            self.serves_udp("auto", host, family.loopback());
            self.serves_udp("source", host, family.loopback());
        }
    }

    /// Mode socket, which serves a container.
    #[track_caller]
    fn serves_a_container(&self, container: &Container, families: &[Family]) {
        for &family in families {
            self.serves_tcp("auto", &container.namespace, family.container());
            self.serves_udp("auto", &container.namespace, family.container());
        }
    }
}

fn flag(family: Family) -> &'static str {
    match family {
        V4 => "-4",
        V6 => "-6",
    }
}

#[test]
fn a_container_behind_a_bridge_is_served_by_mode_socket_over_tcp_and_udp() {
    isolated(|| {
        let ground = Ground::new("");
        let container = ground.container();
        let there = State::of(&container.namespace);
        ground.serves_a_container(&container, &Family::BOTH);
        State::of(&container.namespace).expect_unchanged_since(&there);
        // The modes for targets of this host say whom to ask instead.
        let target = Target::listen(&container.namespace, SocketAddr::new(V4.container(), 0));
        ground
            .command(&format!("check --return-path fwmark -4 {}", target.address()))
            .expect_code(78)
            .expect_text(&["mode fwmark serves targets of this host", "--return-path socket"]);
    });
}

#[test]
fn a_namespace_entered_by_its_path_is_served_over_udp_too() {
    isolated(|| {
        let ground = Ground::new("");
        let elsewhere = Namespace::new("dns");
        let path = elsewhere.publish();
        let (host, there) = (ground.state(), State::of(&elsewhere));
        for family in Family::BOTH {
            let target = UdpTarget::listen(&elsewhere, SocketAddr::new(family.loopback(), 0));
            let options =
                format!("-p udp {} {} --target-netns {}", flag(family), target.address(), path.display());
            target.expect_no_way_back(&elsewhere, client(family));
            ground.command(&format!("check {options}")).expect_code(78);
            ground.command(&format!("setup {options}")).expect_code(0);
            target.expect_answers(&elsewhere, client(family));
            ground.command(&format!("check {options}")).expect_code(0);
            ground.state().expect_unchanged_since(&host);
            ground.command(&format!("teardown {options}")).expect_code(0);
            State::of(&elsewhere).expect_unchanged_since(&there);
        }
    });
}

/// What wg-quick makes for a tunnel that takes everything.
const VPN: &str = "
    ip link add wg0 type veth peer name wg1
    ip link set wg0 addrgenmode none
    ip link set wg1 addrgenmode none
    ip address add 10.66.0.2/32 dev wg0
    ip link set wg1 up
    ip link set wg0 up
    for ip in 'ip -4' 'ip -6'; do
        $ip route add default dev wg0 table 51820
        $ip rule add not fwmark 51820 table 51820
        $ip rule add table main suppress_prefixlength 0
    done
    sysctl -qw net.ipv4.conf.all.src_valid_mark=1";

#[test]
fn beside_the_policy_rules_of_a_vpn_every_mode_serves() {
    isolated(|| Ground::new(VPN).serves_its_own(&Family::BOTH));
}

#[test]
fn beside_a_vpn_a_container_is_served_once_the_cure_is_taken_that_check_names() {
    isolated(|| {
        let ground = Ground::new(VPN);
        let container = ground.container();
        ground.serves_a_container(&container, &[V6]);
        let target = Target::listen(&container.namespace, SocketAddr::new(V4.container(), 0));
        let options = format!("-4 {}", target.address());
        ground.command(&format!("setup {options}")).expect_code(0);
        let refused = ground.command(&format!("check {options}")).expect_code(78);
        refused.expect_text(&["src_valid_mark is 1 for br0", "sysctl -w net.ipv4.conf.br0.accept_local=1"]);
        shell(&ground.net.gateway, "sysctl -qw net.ipv4.conf.br0.accept_local=1");
        ground.command(&format!("check {options}")).expect_code(0);
        ground.command(&format!("teardown {options}")).expect_code(0);
        ground.serves_a_container(&container, &[V4]);
    });
}

/// A rule without a priority goes in front of all others, ours included.
#[test]
fn a_vpn_that_comes_up_later_is_named_with_the_priority_that_cures() {
    isolated(|| {
        let ground = Ground::new("");
        let target = Target::listen(&ground.net.gateway, SocketAddr::new(V4.loopback(), 0));
        let check = format!("check -4 {}", target.address());
        ground.command("setup").expect_code(0);
        ground.command(&check).expect_code(0);
        shell(&ground.net.gateway, VPN);
        let caught = ground.command(&check).expect_code(78);
        caught.expect_text(&["not from all fwmark 0xca6c lookup 51820", "wg-quick", "--priority 98"]);
        ground.command("teardown").expect_code(0);
        ground.command("setup --priority 98").expect_code(0);
        ground.command(&format!("{check} --priority 98")).expect_code(0);
        ground.command("teardown --priority 98").expect_code(0);
    });
}

#[test]
fn without_a_default_route_every_mode_but_connmark_serves() {
    isolated(|| {
        let ground = Ground::new("");
        ground.serves_its_own(&Family::BOTH);
        let before = ground.state();
        ground
            .command("setup --return-path connmark -4 127.0.0.1:22")
            .expect_code(78)
            .expect_text(&["default route", "--return-path fwmark"]);
        ground.state().expect_unchanged_since(&before);
    });
}

#[test]
fn under_a_strict_reverse_path_filter_every_mode_serves() {
    isolated(|| {
        let ground = Ground::new("");
        let container = ground.container();
        ground.net.default_routes();
        for device in ["all", "default", "lo", "lb0", "br0", "port0"] {
            ground.net.gateway.set_sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), "1");
        }
        ground.serves_its_own(&[V4]);
        ground.serves_tcp("connmark", &ground.net.gateway, V4.loopback());
        ground.serves_a_container(&container, &[V4]);
    });
}

#[test]
fn a_host_with_ipv6_alone_is_served() {
    isolated(|| {
        let mut ground = Ground::new("ip -4 address flush dev lb0");
        ground.balancer = V6;
        let container = ground.container();
        shell(&ground.net.gateway, "ip -4 address flush dev br0; ip -4 address flush dev lo");
        ground.serves_its_own(&[V6]);
        ground.serves_a_container(&container, &[V6]);
    });
}

#[test]
fn a_host_without_ipv6_is_served_in_every_mode() {
    isolated(|| {
        let ground = Ground::new("");
        let container = ground.container();
        for interface in ["all", "default"] {
            ground.net.gateway.set_sysctl(&format!("net.ipv6.conf.{interface}.disable_ipv6"), "1");
        }
        ground.serves_its_own(&[V4]);
        ground.serves_a_container(&container, &[V4]);
        ground
            .command("check -6 [::1]:22")
            .expect_code(78)
            .expect_text(&["No return path for IPv6 clients", "net.ipv6.conf"]);
    });
}

#[test]
fn without_connection_tracking_every_mode_but_connmark_serves() {
    isolated(|| {
        let ground = Ground::new(
            "nft 'table inet raw { \
             chain in { type filter hook prerouting priority -300; notrack; }; \
             chain out { type filter hook output priority -300; notrack; }; }'",
        );
        let container = ground.container();
        ground.net.default_routes();
        ground.serves_its_own(&Family::BOTH);
        ground.serves_a_container(&container, &Family::BOTH);
        let target = Target::listen(&ground.net.gateway, SocketAddr::new(V4.loopback(), 0));
        let options = format!("--return-path connmark -4 {}", target.address());
        ground.command(&format!("setup {options}")).expect_code(0);
        ground
            .command(&format!("check {options}"))
            .expect_code(78)
            .expect_text(&["switches connection tracking off", "--return-path fwmark"]);
        shell(&ground.net.gateway, "nft delete table inet raw");
        ground.command(&format!("check {options}")).expect_code(0);
        ground.command(&format!("teardown {options}")).expect_code(0);
    });
}
