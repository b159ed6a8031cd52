//! Where the client and the target come from: the header, the connection, the firewall; by configuration only.

use std::net::SocketAddr;

use harness::{Balancer, Connection, Family, Gateway, Target, Topology, Version, addr, isolated, shell};

use crate::support::{Scene, client, header, talk};
use Family::{V4, V6};
use Version::{V1, V2};

/// A header from [`client`] to `destination`.
fn header_to(version: Version, destination: SocketAddr) -> Vec<u8> {
    version.header(client(Family::of(destination.ip())), destination)
}

#[test]
fn a_header_may_name_its_target_where_the_target_is_allowed() {
    isolated(|| {
        for (family, version) in [(V4, V1), (V4, V2), (V6, V1), (V6, V2)] {
            let net = Topology::new();
            let fixed = Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0));
            let named = Target::listen(&net.gateway, SocketAddr::new(family.gateway(), 0));
            let network = match family {
                V4 => "10.0.0.0/8",
                V6 => "fd00::/8",
            };
            let gateway = Gateway::before(&net, &fixed)
                .with(["--target-from-header", "--allow-target", network])
                .start();
            let balancer = Balancer::of(&net);
            let header = header_to(version, named.address());
            let downstream = balancer.announce(gateway.address(family), &header, b"");

            let upstream = named.accept();
            assert_eq!(upstream.peer(), client(family));
            assert_eq!(upstream.local(), named.address());
            talk(&downstream, &upstream);

            // A connection of the balancer's own names no target: the configured one takes it.
            let downstream = balancer.announce(gateway.address(family), &version.local(), b"");
            let upstream = fixed.accept();
            talk(&downstream, &upstream);
        }
    });
}

#[test]
fn a_destination_outside_the_list_is_refused_before_a_socket_exists() {
    isolated(|| {
        let net = Topology::new();
        let fixed = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let forbidden = Target::listen(&net.gateway, SocketAddr::new(V4.gateway(), 0));
        let allowed = format!("10.0.0.0/8:{}", if forbidden.address().port() == 80 { 81 } else { 80 });
        // Of several refusals at once, which is logged is chance; with --verbose it is all of them.
        let gateway = Gateway::before(&net, &fixed)
            .with(["--verbose", "--target-from-header", "--allow-target", &allowed])
            .start();
        let balancer = Balancer::of(&net);
        for destination in [forbidden.address(), fixed.address(), addr("192.0.2.1:80")] {
            balancer.expect_turned_away(gateway.address(V4), &header_to(V2, destination));
        }
        gateway.expect_log(&["reason=destination_refused", &forbidden.address().to_string()]);
        forbidden.expect_untouched();
        fixed.expect_untouched();
    });
}

#[test]
fn without_configured_targets_a_connection_that_names_none_is_refused() {
    isolated(|| {
        let net = Topology::new();
        let named = Target::listen(&net.gateway, SocketAddr::new(V4.gateway(), 0));
        let allowed = named.address().to_string();
        let gateway = Gateway::before(&net, &named)
            .with(["--target-from-header", "--allow-target", &allowed])
            .without_targets()
            .start();
        let balancer = Balancer::of(&net);
        balancer.expect_turned_away(gateway.address(V4), &V2.local());
        gateway.expect_log(&["reason=destination_refused"]);
        let downstream = balancer.announce(gateway.address(V4), &header_to(V1, named.address()), b"");
        let upstream = named.accept();
        assert_eq!(upstream.peer(), client(V4));
        talk(&downstream, &upstream);
    });
}

#[test]
fn a_peer_that_is_itself_the_client_is_seen_by_the_target_and_its_bytes_are_not_looked_at() {
    isolated(|| {
        for family in Family::BOTH {
            let scene = Scene::with(family, |flags| flags.with(["--source", "peer"]));
            let downstream = Connection::open(&scene.net.balancer, scene.gateway.address(family));
            let upstream = scene.target.accept();
            assert_eq!(upstream.peer(), downstream.local());
            // What looks like a header is payload here.
            let header = header(V1, family);
            downstream.send(&header);
            upstream.expect(&header);
            talk(&downstream, &upstream);
        }
    });
}

#[test]
fn a_transparent_listener_serves_a_whole_range_of_ports_that_the_firewall_sends_to_it() {
    isolated(|| {
        for family in Family::BOTH {
            let net = Topology::new();
            let target = Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0));
            let gateway = Gateway::before(&net, &target).with(["--listen-transparent"]).start();
            let listening = gateway.address(family);
            let (protocol, keyword) = match family {
                V4 => ("ipv4", "ip"),
                V6 => ("ipv6", "ip6"),
            };
            shell(
                &net.gateway,
                &format!(
                    "nft 'add table inet ports; add chain inet ports pre \
                     {{ type filter hook prerouting priority mangle; }}; add rule inet ports pre \
                     meta nfproto {protocol} tcp dport 20000-20100 tproxy {keyword} to :{} accept'",
                    listening.port()
                ),
            )
            .expect_code(0);
            let balancer = Balancer::of(&net);
            for port in [20000, 20057, 20100] {
                let reached = SocketAddr::new(listening.ip(), port);
                let downstream = balancer.announce(reached, &header(V2, family), b"");
                let upstream = target.accept();
                assert_eq!(upstream.peer(), client(family));
                talk(&downstream, &upstream);
            }
        }
    });
}
