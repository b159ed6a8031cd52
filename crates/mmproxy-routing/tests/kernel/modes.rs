//! The modes that need no mark: by source address and by port.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use mmproxy_routing::{
    Families, InUse, Lease, Mode, Outcome, Owner, Plan, Policy, RoutingError, Settings, State as Found,
    Transport, apply, observe, remove,
};

use crate::namespace::{alone, default_routes, own_addresses, run};
use crate::spoof::{answers, arrives};
use crate::state::{State, assert_same};

/// Server, address asked, client.
const LOOPBACK: [(&str, &str, &str); 3] = [
    ("127.0.0.1", "127.0.0.1", "192.0.2.1"),
    ("127.0.0.53", "127.0.0.53", "203.0.113.9"),
    ("::1", "::1", "2001:db8::1"),
];
const OWN: [(&str, &str, &str); 2] =
    [("10.9.0.1", "10.9.0.1", "198.51.100.1"), ("fd09::1", "fd09::1", "2001:db8:2::1")];
const WILDCARD: [(&str, &str, &str); 4] = [
    ("0.0.0.0", "127.0.0.1", "192.0.2.1"),
    ("::", "::1", "2001:db8::1"),
    ("0.0.0.0", "10.9.0.1", "198.51.100.1"),
    ("::", "fd09::1", "2001:db8:2::1"),
];

fn addresses() {
    own_addresses();
    default_routes();
}

fn is_lost(result: io::Result<()>) -> bool {
    result.is_err_and(|error| matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock))
}

fn server(listen: &str) -> UdpSocket {
    UdpSocket::bind((listen, 0)).unwrap()
}

fn port_plan(server: &UdpSocket, transport: Transport, target: &str) -> Plan {
    let target = SocketAddr::new(target.parse().unwrap(), server.local_addr().unwrap().port());
    let (v4, v6) = match target {
        SocketAddr::V4(v4) => (Some(v4), None),
        SocketAddr::V6(v6) => (None, Some(v6)),
    };
    Plan::port(Settings::default(), transport, v4, v6).unwrap()
}

#[test]
fn by_source_loopback_targets_are_served_over_tcp_and_udp() {
    alone("modes::by_source_loopback_targets_are_served_over_tcp_and_udp", || async {
        addresses();
        let plan = Plan::source(Settings::default(), Families::BOTH);
        assert_eq!(plan.mode(), Some(Mode::Source));
        let before = State::now();
        apply(&plan).await.unwrap();
        for (listen, target, client) in LOOPBACK {
            arrives(listen, target, client, 0).unwrap_or_else(|error| panic!("tcp {target}: {error}"));
            answers(&server(listen), target, client, 0)
                .unwrap_or_else(|error| panic!("udp {target}: {error}"));
        }
        for (listen, target, client) in OWN {
            assert!(is_lost(arrives(listen, target, client, 0)), "{target} is no loopback address");
        }
        remove(&plan, InUse::Keep).await.unwrap();
        assert_same(&State::now(), &before, "teardown");
        assert!(arrives("127.0.0.1", "127.0.0.1", "192.0.2.1", 0).is_err());
    });
}

#[test]
fn by_port_udp_servers_are_served_wherever_they_are_bound() {
    alone("modes::by_port_udp_servers_are_served_wherever_they_are_bound", || async {
        addresses();
        let before = State::now();
        for (listen, target, client) in [&LOOPBACK[..], &OWN, &WILDCARD].concat() {
            let server = server(listen);
            let plan = port_plan(&server, Transport::Udp, target);
            assert_eq!(plan.mode(), Some(Mode::Port));
            assert!(answers(&server, target, client, 0).is_err(), "{listen} {target}");
            apply(&plan).await.unwrap();
            assert!(
                observe(&plan).await.unwrap().iter().all(|o| o.state == Found::Present(Owner::Permanent))
            );
            answers(&server, target, client, 0).unwrap_or_else(|error| panic!("{listen} {target}: {error}"));
            remove(&plan, InUse::Keep).await.unwrap();
            assert_same(&State::now(), &before, "teardown");
        }
    });
}

#[test]
fn by_port_tcp_servers_are_served_as_well() {
    alone("modes::by_port_tcp_servers_are_served_as_well", || async {
        addresses();
        for (listen, target, client) in [&LOOPBACK[..], &OWN, &WILDCARD].concat() {
            // The plan comes before the server here: a free port is enough.
            let port = std::net::TcpListener::bind((listen, 0)).unwrap().local_addr().unwrap().port();
            let target = SocketAddr::new(target.parse().unwrap(), port);
            let (v4, v6) = match target {
                SocketAddr::V4(v4) => (Some(v4), None),
                SocketAddr::V6(v6) => (None, Some(v6)),
            };
            let plan = Plan::port(Settings::default(), Transport::Tcp, v4, v6).unwrap();
            apply(&plan).await.unwrap();
            let listener = std::net::TcpListener::bind((listen, port)).unwrap();
            crate::spoof::connect(client.parse().unwrap(), target, 0, crate::spoof::PATIENCE)
                .unwrap_or_else(|error| panic!("{listen} {target}: {error}"));
            assert_eq!(listener.accept().unwrap().1.ip(), client.parse::<std::net::IpAddr>().unwrap());
            remove(&plan, InUse::Keep).await.unwrap();
        }
    });
}

#[test]
fn what_is_typed_for_a_mode_is_verified_and_kept() {
    alone("modes::what_is_typed_for_a_mode_is_verified_and_kept", || async {
        addresses();
        let server = server("0.0.0.0");
        for plan in [
            Plan::source(Settings::default(), Families::BOTH),
            port_plan(&server, Transport::Udp, "10.9.0.1"),
            port_plan(&server, Transport::Tcp, "::1"),
        ] {
            let clean = State::now();
            for step in plan.steps() {
                let command = step.to_string();
                run("ip", command.strip_prefix("ip ").unwrap());
            }
            let typed = State::now();
            let applied = apply(&plan).await.unwrap();
            assert!(applied.iter().all(|applied| applied.outcome == Outcome::Verified), "{applied:?}");
            remove(&plan, InUse::Remove).await.unwrap();
            assert_same(&State::now(), &typed, "setup and teardown");
            for step in plan.steps().iter().rev() {
                run("ip", step.undo().to_string().strip_prefix("ip ").unwrap());
            }
            assert_same(&State::now(), &clean, "the undo commands");
        }
    });
}

#[test]
fn one_table_answers_from_one_address() {
    alone("modes::one_table_answers_from_one_address", || async {
        addresses();
        let server = server("0.0.0.0");
        let (one, two) =
            (port_plan(&server, Transport::Udp, "10.9.0.1"), port_plan(&server, Transport::Udp, "127.0.0.1"));
        apply(&one).await.unwrap();
        let before = State::now();
        for plan in [two, Plan::fwmark(Settings::default(), Families::BOTH)] {
            let error = apply(&plan).await.unwrap_err();
            assert!(matches!(error, RoutingError::Conflict { .. }), "{error}");
            assert!(error.to_string().contains("src 10.9.0.1"), "{error}");
            assert_same(&State::now(), &before, "the refusal");
        }
    });
}

/// An instance that was killed must not stand in the way of the next one, whatever its mode was.
#[test]
fn a_killed_instance_of_another_mode_is_swept_away_at_the_start() {
    alone("modes::a_killed_instance_of_another_mode_is_swept_away_at_the_start", || async {
        addresses();
        let server = server("0.0.0.0");
        let before = State::now();
        let killed =
            Lease::acquire(port_plan(&server, Transport::Udp, "10.9.0.1"), Policy::Install).await.unwrap();
        drop(killed);
        // The announcement is gone when its task is.
        tokio::task::yield_now().await;
        let fwmark = Plan::fwmark(Settings::default(), Families::BOTH);
        let lease = Lease::acquire(fwmark, Policy::Install).await.unwrap();
        arrives("127.0.0.1", "127.0.0.1", "192.0.2.1", 123).unwrap();
        lease.release().await.unwrap();
        assert_same(&State::now(), &before, "released");
    });
}

#[test]
fn leases_of_all_modes_stop_in_any_order() {
    alone("modes::leases_of_all_modes_stop_in_any_order", || async {
        addresses();
        let server = server("0.0.0.0");
        let table = |number: &str| Settings { table: number.parse().unwrap(), ..Settings::default() };
        let port = server.local_addr().unwrap().port();
        let target = format!("10.9.0.1:{port}").parse().unwrap();
        let plans = [
            Plan::fwmark(table("300"), Families::BOTH),
            Plan::source(table("301"), Families::BOTH),
            Plan::port(table("302"), Transport::Udp, Some(target), None).unwrap(),
        ];
        let before = State::now();
        for order in [[0, 0, 0], [1, 0, 0], [2, 1, 0], [0, 1, 0], [1, 1, 0], [2, 0, 0]] {
            let mut leases = Vec::new();
            for plan in &plans {
                leases.push(Lease::acquire(plan.clone(), Policy::Install).await.unwrap());
            }
            for stops in order {
                leases.remove(stops).release().await.unwrap();
                for lease in &leases {
                    let found = observe(lease.plan()).await.unwrap();
                    assert!(found.iter().all(|o| matches!(o.state, Found::Present(_))), "{found:?}");
                }
            }
            assert_same(&State::now(), &before, "all stopped");
        }
    });
}
