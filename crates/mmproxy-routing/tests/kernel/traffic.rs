//! What the return path is for: replies come back.

use std::io;
use std::net::SocketAddr;

use mmproxy_routing::{Families, InUse, Plan, Settings, apply, remove};

use crate::namespace::{alone, default_routes, ip, own_addresses};
use crate::spoof::{PATIENCE, arrives, connect};

/// Listener, address connected to, client.
const WAYS: [(&str, &str, &str); 6] = [
    ("127.0.0.1", "127.0.0.1", "192.0.2.1"),
    ("0.0.0.0", "127.0.0.1", "203.0.113.9"),
    ("10.9.0.1", "10.9.0.1", "198.51.100.1"),
    ("::1", "::1", "2001:db8::1"),
    ("::", "::1", "2001:db8:1::9"),
    ("fd09::1", "fd09::1", "2001:db8:2::1"),
];

async fn works_only_when_applied() {
    let plan = Plan::fwmark(Settings::default(), Families::BOTH);
    for (listen, target, client) in WAYS {
        let refused = arrives(listen, target, client, 123).unwrap_err();
        assert!(
            matches!(refused.kind(), io::ErrorKind::TimedOut | io::ErrorKind::NetworkUnreachable),
            "{listen} {target} {client} before: {refused}"
        );
    }
    apply(&plan).await.unwrap();
    for (listen, target, client) in WAYS {
        arrives(listen, target, client, 123)
            .unwrap_or_else(|error| panic!("{listen} {target} {client}: {error}"));
    }
    remove(&plan, InUse::Keep).await.unwrap();
    arrives("127.0.0.1", "127.0.0.1", "192.0.2.1", 123).unwrap_err();
}

#[test]
fn a_spoofed_connection_works_exactly_while_the_return_path_is_there() {
    alone("traffic::a_spoofed_connection_works_exactly_while_the_return_path_is_there", || async {
        own_addresses();
        works_only_when_applied().await;
    });
}

#[test]
fn it_works_beside_default_routes_and_under_a_strict_reverse_path_filter() {
    alone("traffic::it_works_beside_default_routes_and_under_a_strict_reverse_path_filter", || async {
        own_addresses();
        default_routes();
        for device in ["all", "lo", "east"] {
            crate::namespace::sysctl(&format!("net.ipv4.conf.{device}.rp_filter"), 1);
        }
        works_only_when_applied().await;
    });
}

#[test]
fn a_target_that_is_down_refuses_at_once() {
    alone("traffic::a_target_that_is_down_refuses_at_once", || async {
        default_routes();
        apply(&Plan::fwmark(Settings::default(), Families::BOTH)).await.unwrap();
        for (client, target) in [("192.0.2.1", "127.0.0.1:9"), ("2001:db8::1", "[::1]:9")] {
            let target: SocketAddr = target.parse().unwrap();
            let error = connect(client.parse().unwrap(), target, 123, PATIENCE).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{client}");
        }
    });
}

#[test]
fn other_traffic_is_left_alone() {
    alone("traffic::other_traffic_is_left_alone", || async {
        default_routes();
        let before = (ip("route get 192.0.2.1"), ip("-6 route get 2001:db8::1"));
        apply(&Plan::fwmark(Settings::default(), Families::BOTH)).await.unwrap();
        assert_eq!((ip("route get 192.0.2.1"), ip("-6 route get 2001:db8::1")), before);
        assert!(before.0.contains("dev east"), "{}", before.0);
    });
}
