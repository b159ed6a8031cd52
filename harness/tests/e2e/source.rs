//! Whom the target sees.

use std::net::SocketAddr;

use harness::{Balancer, Family, Gateway, Target, Topology, Version, addr, isolated, mmproxy, run};

use crate::support::{Scene, client, frontend, header, header_from, talk};
use Family::{V4, V6};
use Place::{Loopback, OwnAddress, Wildcard};
use Version::{V1, V2};

/// Where the target listens.
#[derive(Clone, Copy)]
enum Place {
    Loopback,
    OwnAddress,
    Wildcard,
}

/// One cell of the table: the target's getpeername names the announced client, address and port, and bytes flow.
fn the_target_sees_the_client(family: Family, version: Version, place: Place) {
    let net = Topology::new();
    // What the target binds to, and what the gateway connects to.
    let (bound, reached) = match place {
        Loopback => (family.loopback(), family.loopback()),
        OwnAddress => (family.gateway(), family.gateway()),
        Wildcard => (family.wildcard(), family.gateway()),
    };
    let target = Target::listen(&net.gateway, SocketAddr::new(bound, 0));
    let reached = SocketAddr::new(reached, target.address().port());
    let other = Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0));
    // `before` clears the target of the self-check's connections; the address to connect to is ours to choose.
    let gateway = Gateway::before(&net, &target).redirected(reached).start();
    let downstream = Balancer::of(&net).announce(gateway.address(family), &header(version, family), b"");

    let upstream = target.accept();
    assert_eq!(upstream.peer(), client(family));
    assert_eq!(upstream.local(), reached);
    talk(&downstream, &upstream);
    other.expect_untouched();
}

/// One test of the table.
macro_rules! cell {
    ($name:ident, $family:ident, $version:ident, $place:ident) => {
        #[test]
        fn $name() {
            isolated(|| the_target_sees_the_client($family, $version, $place));
        }
    };
}

cell!(a_loopback_target_sees_an_ipv4_client_announced_in_version_1, V4, V1, Loopback);
cell!(a_loopback_target_sees_an_ipv4_client_announced_in_version_2, V4, V2, Loopback);
cell!(a_loopback_target_sees_an_ipv6_client_announced_in_version_1, V6, V1, Loopback);
cell!(a_loopback_target_sees_an_ipv6_client_announced_in_version_2, V6, V2, Loopback);
cell!(a_target_on_the_hosts_address_sees_an_ipv4_client_announced_in_version_1, V4, V1, OwnAddress);
cell!(a_target_on_the_hosts_address_sees_an_ipv4_client_announced_in_version_2, V4, V2, OwnAddress);
cell!(a_target_on_the_hosts_address_sees_an_ipv6_client_announced_in_version_1, V6, V1, OwnAddress);
cell!(a_target_on_the_hosts_address_sees_an_ipv6_client_announced_in_version_2, V6, V2, OwnAddress);
cell!(a_wildcard_target_sees_an_ipv4_client_announced_in_version_1, V4, V1, Wildcard);
cell!(a_wildcard_target_sees_an_ipv4_client_announced_in_version_2, V4, V2, Wildcard);
cell!(a_wildcard_target_sees_an_ipv6_client_announced_in_version_1, V6, V1, Wildcard);
cell!(a_wildcard_target_sees_an_ipv6_client_announced_in_version_2, V6, V2, Wildcard);

/// A gateway with targets of both families, reached over `balancer`, told of a client of the other family.
fn the_client_decides_between_the_targets(balancer: Family, announced: Family) {
    for version in Version::BOTH {
        let net = Topology::new();
        let [v4, v6] =
            Family::BOTH.map(|family| Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0)));
        let gateway = Gateway::before(&net, &v4).and_before(&v6).start();
        let header = header(version, announced);
        let downstream = Balancer::of(&net).announce(gateway.address(balancer), &header, b"");
        let (target, other) = if announced == V4 { (v4, v6) } else { (v6, v4) };

        let upstream = target.accept();
        assert_eq!(upstream.peer(), client(announced));
        talk(&downstream, &upstream);
        other.expect_untouched();
    }
}

#[test]
fn an_ipv6_client_of_an_ipv4_balancer_reaches_the_ipv6_target() {
    isolated(|| the_client_decides_between_the_targets(V4, V6));
}

#[test]
fn an_ipv4_client_of_an_ipv6_balancer_reaches_the_ipv4_target() {
    isolated(|| the_client_decides_between_the_targets(V6, V4));
}

#[test]
fn an_ipv4_client_written_as_a_mapped_ipv6_address_is_an_ipv4_client() {
    isolated(|| {
        let scene = Scene::new();
        for version in Version::BOTH {
            let mapped = version.header(addr("[::ffff:192.0.2.7]:4711"), addr("[::ffff:192.0.2.1]:22"));
            let downstream = scene.open(&mapped);
            let upstream = scene.target.accept();
            assert_eq!(upstream.peer(), client(V4));
            talk(&downstream, &upstream);
        }
    });
}

#[test]
fn a_dual_stack_target_sees_an_ipv4_client_as_it_sees_any_other() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("[::]:0"));
        let reached = SocketAddr::new(V4.loopback(), target.address().port());
        let gateway = Gateway::before(&net, &target).redirected(reached).start();
        let downstream = Balancer::of(&net).announce(gateway.address(V4), &header(V1, V4), b"");
        let upstream = target.accept();
        assert_eq!(upstream.peer(), addr("[::ffff:192.0.2.7]:4711"));
        talk(&downstream, &upstream);
    });
}

#[test]
fn default_routes_do_not_lead_the_answers_astray() {
    isolated(|| {
        for family in Family::BOTH {
            let net = Topology::new();
            // With the clients' network behind them: an answer that took the default route would arrive there.
            let _clients = net.clients();
            net.default_routes();
            let target = Target::listen(&net.gateway, SocketAddr::new(family.gateway(), 0));
            let gateway = Gateway::before(&net, &target).start();
            let downstream = Balancer::of(&net).announce(gateway.address(family), &header(V2, family), b"");
            let upstream = target.accept();
            assert_eq!(upstream.peer(), client(family));
            talk(&downstream, &upstream);
        }
    });
}

#[test]
fn strict_reverse_path_filtering_and_syn_cookies_do_not_matter() {
    isolated(|| {
        let net = Topology::new();
        net.default_routes();
        for interface in ["all", "default", "lo", "lb0"] {
            net.gateway.set_sysctl(&format!("net.ipv4.conf.{interface}.rp_filter"), "1");
        }
        // 2: every connection, not only when the queue is full.
        net.gateway.set_sysctl("net.ipv4.tcp_syncookies", "2");
        for family in Family::BOTH {
            let target = Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0));
            let gateway = Gateway::before(&net, &target).start();
            let downstream = Balancer::of(&net).announce(gateway.address(family), &header(V2, family), b"");
            // A cookie's connection exists at the target only once the client's first bytes are there.
            downstream.send(b"first");
            let upstream = target.accept();
            assert_eq!(upstream.peer(), client(family));
            upstream.expect(b"first");
            talk(&downstream, &upstream);
        }
    });
}

#[test]
fn a_client_port_that_a_listener_of_this_host_has_is_kept_with_net_admin() {
    isolated(|| {
        for policy in ["keep", "prefer"] {
            for family in Family::BOTH {
                let flags = ["--source-port", policy, "--keep-net-admin"];
                let scene = Scene::with(family, |gateway| gateway.with(flags));
                // A listener of that number on the wildcard address is in the way of the client's port.
                let _taken = Target::listen(&scene.net.gateway, SocketAddr::new(family.wildcard(), 4711));
                scene.expect_alive();
            }
        }
    });
}

/// A gateway before `target` that may spoof, and nothing else.
fn start_without_net_admin(net: &Topology, target: &Target, policy: &[&str]) -> Gateway {
    run(&net.gateway, &mut mmproxy(["setup"]), b"").expect_code(0);
    Gateway::before(net, target)
        .with(["--routing", "off"])
        .with(policy.iter().copied())
        .start_under("setpriv", &["--bounding-set=-all,+net_raw", "--no-new-privs", "--"])
}

#[test]
fn without_net_admin_a_client_port_that_is_taken_is_replaced_by_another_and_the_log_says_so() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let gateway = start_without_net_admin(&net, &target, &[]);
        let _taken = Target::listen(&net.gateway, addr("0.0.0.0:4711"));
        let downstream = Balancer::of(&net).announce(gateway.address(V4), &header(V2, V4), b"");
        let upstream = target.accept();
        assert_eq!(upstream.peer().ip(), V4.client());
        assert_ne!(upstream.peer().port(), 4711);
        talk(&downstream, &upstream);
        gateway.expect_log(&["client port not kept", "client=192.0.2.7:4711", "CAP_NET_ADMIN"]);
    });
}

#[test]
fn without_net_admin_a_client_port_that_is_taken_is_refused_where_it_is_to_be_kept() {
    isolated(|| {
        for flag in ["--source-port=keep", "--force-real-client-port", "-P"] {
            let net = Topology::new();
            let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
            let gateway = start_without_net_admin(&net, &target, &[flag]);
            let balancer = Balancer::of(&net);
            let open = || balancer.announce(gateway.address(V4), &header(V2, V4), b"");
            talk(&open(), &target.accept());
            let _taken = Target::listen(&net.gateway, addr("0.0.0.0:4711"));
            open().expect_closed();
            let why = ["session closed", "client=192.0.2.7:4711", "reason=port_unavailable", "CAP_NET_ADMIN"];
            gateway.expect_log(&why);
            target.expect_untouched();
        }
    });
}

#[test]
fn the_same_client_twice_at_once_is_served_twice() {
    isolated(|| {
        let scene = Scene::new();
        let (first_down, first_up) = scene.session();
        // The same four addresses are in use: only another port is left.
        let second_down = scene.open(&header(V2, V4));
        let second_up = scene.target.accept();
        assert_eq!(second_up.peer().ip(), V4.client());
        assert_ne!(second_up.peer().port(), 4711);
        talk(&second_down, &second_up);
        talk(&first_down, &first_up);
    });
}

#[test]
fn an_ephemeral_source_port_is_not_the_clients() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--source-port", "ephemeral"]));
        let downstream = scene.open(&header(V2, V4));
        let upstream = scene.target.accept();
        assert_eq!(upstream.peer().ip(), V4.client());
        // Outside the range that ephemeral ports are taken from, so never hit by chance.
        assert_ne!(upstream.peer().port(), 4711);
        talk(&downstream, &upstream);
    });
}

#[test]
fn a_clients_privileged_port_is_kept_where_it_is_insisted_on() {
    isolated(|| {
        let scene = Scene::with(V4, |flags| flags.with(["--source-port", "keep"]));
        let downstream = scene.open(&header_from(V2, "192.0.2.7:25"));
        let upstream = scene.target.accept();
        assert_eq!(upstream.peer(), addr("192.0.2.7:25"));
        talk(&downstream, &upstream);
    });
}

#[test]
fn many_clients_at_once_are_each_seen_as_themselves() {
    isolated(|| {
        let scene = Scene::new();
        let clients: Vec<SocketAddr> =
            (1..=200).map(|host| SocketAddr::new([198, 51, 100, host].into(), 4000)).collect();
        let downstreams: Vec<_> = clients
            .iter()
            .map(|&client| {
                let payload = client.to_string();
                let header = V2.header(client, frontend(V4));
                (
                    payload.clone(),
                    scene.balancer.announce(scene.gateway.address(V4), &header, payload.as_bytes()),
                )
            })
            .collect();
        for _ in &clients {
            let upstream = scene.target.accept();
            let seen = upstream.peer().to_string();
            // Whoever it is: its own bytes came with it, and go back to it.
            upstream.expect(seen.as_bytes());
            upstream.send(seen.as_bytes());
        }
        for (payload, downstream) in &downstreams {
            downstream.expect(payload.as_bytes());
        }
    });
}
