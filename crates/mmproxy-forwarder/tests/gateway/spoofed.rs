//! Connections from a client's address, in a network namespace of their own.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::time::Duration;

use mmproxy_forwarder::{
    Action, ClaimedSource, ClientPort, CloseReason, DialError, DialOptions, Dialed, OwnAddresses,
    PortConflict, SourceClass, SourcePolicy, SourcePort, SpoofSource, TargetAddr, connect_plain,
    connect_spoofed,
};
use socket2::SockRef;

use crate::isolated::{MARK, in_namespace, ip, is_without, return_path, sysctl, without};
use crate::rig::{
    DEADLINE, End, Rig, accept, config, end, patient, read_exactly, read_to_end, reset, runtime,
};

#[test]
fn the_target_sees_the_client_the_header_names() {
    in_namespace("spoofed::the_target_sees_the_client_the_header_names", &[], || {
        return_path();
        for (listen, wire, client) in [
            ("127.0.0.1:0", "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", "192.0.2.7:4711"),
            ("[::1]:0", "PROXY TCP6 2001:db8::7 2001:db8::1 4712 443\r\n", "[2001:db8::7]:4712"),
            // Written as IPv6, but an IPv4 client all the same.
            ("127.0.0.1:0", "PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 4713 443\r\n", "192.0.2.7:4713"),
        ] {
            let target = TcpListener::bind(listen).unwrap();
            let config = config("127.0.0.0/8", &target).dial(options(SourcePort::Keep));
            let rig = Rig::serving(target, config, "127.0.0.1:0", |recorder| recorder);
            let mut peer = rig.connect();
            peer.write_all(wire.as_bytes()).unwrap();
            peer.write_all(b"hello").unwrap();
            let mut target = rig.accept();
            assert_eq!(target.peer_addr().unwrap(), addr(client));
            assert_eq!(read_exactly(&mut target, 5), b"hello");
            target.write_all(b"welcome").unwrap();
            assert_eq!(read_exactly(&mut peer, 7), b"welcome");
            end(&peer);
            end(&target);
            let report = rig.report();
            assert_eq!(report.reason, CloseReason::Finished);
            assert_eq!((report.claimed, report.bound), (Some(addr(client)), Some(addr(client))));
            assert_eq!(report.client_port, Some(ClientPort::Kept));
            assert_eq!(report.bytes, (5, 7));
        }
    });
}

#[test]
fn a_port_that_a_listener_of_this_host_has_is_kept_all_the_same() {
    in_namespace("spoofed::a_port_that_a_listener_of_this_host_has_is_kept_all_the_same", &[], || {
        return_path();
        for (loopback, wildcard, ip) in
            [("127.0.0.1:0", "0.0.0.0:0", "192.0.2.7"), ("[::1]:0", "[::]:0", "2001:db8::7")]
        {
            let target = TcpListener::bind(loopback).unwrap();
            let listener = TcpListener::bind(wildcard).unwrap();
            let in_use = listener.local_addr().unwrap();
            let client = SocketAddr::new(ip.parse().unwrap(), in_use.port());
            for policy in [SourcePort::Keep, SourcePort::Prefer] {
                let dialed = dial(client, &target, policy).unwrap();
                assert_eq!((dialed.bound, dialed.client_port), (client, Some(ClientPort::Kept)));
                let mut far = accept(&target);
                assert_eq!(far.peer_addr().unwrap(), client);
                // Both ways: what the target sends comes to the client's socket and not to the listener.
                far.write_all(b"welcome").unwrap();
                let mut near = patient(std_stream(dialed));
                assert_eq!(read_exactly(&mut near, 7), b"welcome");
                near.write_all(b"hello").unwrap();
                assert_eq!(read_exactly(&mut far, 5), b"hello");
                // Another session of the same client toward another target, too.
                let other = TcpListener::bind(loopback).unwrap();
                assert_eq!(dial(client, &other, policy).unwrap().bound, client);
            }
            // The listener still has its port, and gets it again when it is restarted in the meantime.
            let meanwhile = dial(client, &target, SourcePort::Keep).unwrap();
            drop(listener);
            let listener = TcpListener::bind(in_use).unwrap();
            let address = SocketAddr::new(target.local_addr().unwrap().ip(), in_use.port());
            let visitor = TcpStream::connect(address).unwrap();
            assert_eq!(accept(&listener).peer_addr().unwrap(), visitor.local_addr().unwrap());
            drop(meanwhile);
        }
    });
}

#[test]
fn a_port_that_a_listener_of_this_host_has_is_replaced_or_refused_without_the_privilege() {
    const TEST: &str =
        "spoofed::a_port_that_a_listener_of_this_host_has_is_replaced_or_refused_without_the_privilege";
    in_namespace(TEST, &[], || {
        if !is_without() {
            return_path();
        }
        without(TEST, "net_admin", || {
            let target = TcpListener::bind("127.0.0.1:0").unwrap();
            let elsewhere = TcpListener::bind("0.0.0.0:0").unwrap();
            let client = SocketAddr::new(addr("192.0.2.7:0").ip(), elsewhere.local_addr().unwrap().port());

            let dialed = dial(client, &target, SourcePort::Prefer).unwrap();
            assert_eq!(dialed.client_port, Some(ClientPort::Fallback(PortConflict::InUse)));
            assert_eq!(dialed.bound.ip(), client.ip());
            assert_ne!(dialed.bound.port(), client.port());
            assert_eq!(accept(&target).peer_addr().unwrap(), dialed.bound);

            let error = dial(client, &target, SourcePort::Keep).unwrap_err();
            assert!(
                matches!(error, DialError::PortUnavailable { conflict: PortConflict::InUse, .. }),
                "{error:?}"
            );
            assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
            assert_eq!(error.reason(), CloseReason::PortUnavailable);
        });
    });
}

/// One client after another from the same port: what the last connection left behind is in TIME_WAIT on either side.
#[test]
fn a_client_comes_again_from_the_same_port_a_thousand_times_at_once() {
    in_namespace("spoofed::a_client_comes_again_from_the_same_port_a_thousand_times_at_once", &[], || {
        return_path();
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        // TIME_WAIT may answer a SYN with an ACK. The kernel resets that and repeats the SYN some milliseconds later; where
        // it is answered in this way again, which a busy machine sees now and then, after a second.
        let dial = options(SourcePort::Keep).timeout(DEADLINE / 2).unwrap();
        let config = config("127.0.0.0/8", &target).dial(dial);
        let rig = Rig::serving(target, config, "127.0.0.1:0", |recorder| recorder);
        let mut late = 0;
        for round in 0..1000 {
            let mut peer = rig.connect();
            peer.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n").unwrap();
            let mut far = rig.accept();
            assert_eq!(far.peer_addr().unwrap(), addr("192.0.2.7:4711"));
            // Whoever ends first keeps the connection in TIME_WAIT; now and then nobody does.
            match round % 3 {
                0 => {
                    end(&peer);
                    assert_eq!(read_to_end(&mut far), (Vec::new(), End::Fin));
                    drop(far);
                    assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Fin));
                }
                1 => {
                    end(&far);
                    assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Fin));
                    drop(peer);
                    assert_eq!(read_to_end(&mut far), (Vec::new(), End::Fin));
                    drop(far);
                }
                _ => {
                    reset(peer);
                    assert_eq!(read_to_end(&mut far), (Vec::new(), End::Reset));
                }
            }
            let report = rig.report();
            assert_eq!(report.client_port, Some(ClientPort::Kept), "in round {round}");
            late += u32::from(report.total > Duration::from_millis(700));
        }
        assert!(late <= 10, "{late} came late");
    });
}

#[test]
fn a_client_that_is_connected_already_gets_another_port() {
    in_namespace("spoofed::a_client_that_is_connected_already_gets_another_port", &[], || {
        return_path();
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = addr("192.0.2.7:4711");
        let first = dial(client, &target, SourcePort::Prefer).unwrap();
        assert_eq!((first.bound, first.client_port), (client, Some(ClientPort::Kept)));
        let second = dial(client, &target, SourcePort::Prefer).unwrap();
        assert_eq!(second.client_port, Some(ClientPort::Fallback(PortConflict::Connected)));
        assert_eq!(accept(&target).peer_addr().unwrap(), client);
        assert_eq!(accept(&target).peer_addr().unwrap(), second.bound);
        let error = dial(client, &target, SourcePort::Keep).unwrap_err();
        assert!(
            matches!(error, DialError::PortUnavailable { conflict: PortConflict::Connected, .. }),
            "{error:?}"
        );
        // Toward another target the same port is free.
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(dial(client, &other, SourcePort::Keep).unwrap().bound, client);
        drop((first, second));
    });
}

#[test]
fn a_privileged_client_port_without_the_privilege_is_replaced_or_refused() {
    let without = ["setpriv", "--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service"];
    in_namespace(
        "spoofed::a_privileged_client_port_without_the_privilege_is_replaced_or_refused",
        &without,
        || {
            return_path();
            let target = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = addr("192.0.2.7:53");
            let dialed = dial(client, &target, SourcePort::Prefer).unwrap();
            assert_eq!(dialed.client_port, Some(ClientPort::Fallback(PortConflict::Privileged)));
            let error = dial(client, &target, SourcePort::Keep).unwrap_err();
            assert!(
                matches!(error, DialError::PortUnavailable { conflict: PortConflict::Privileged, .. }),
                "{error:?}"
            );
        },
    );
}

#[test]
fn an_unknown_port_is_any_port_unless_it_has_to_be_kept() {
    in_namespace("spoofed::an_unknown_port_is_any_port_unless_it_has_to_be_kept", &[], || {
        return_path();
        let target = TcpListener::bind("[::1]:0").unwrap();
        let unknown = addr("[2001:db8::7]:0");
        for policy in [SourcePort::Prefer, SourcePort::Ephemeral] {
            let dialed = dial(unknown, &target, policy).unwrap();
            assert_eq!(dialed.client_port, Some(ClientPort::Ephemeral));
            assert_eq!(accept(&target).peer_addr().unwrap(), dialed.bound);
            assert_eq!(dialed.bound.ip(), unknown.ip());
        }
        let error = dial(unknown, &target, SourcePort::Keep).unwrap_err();
        assert!(matches!(error, DialError::PortUnknown { .. }), "{error:?}");
        assert_eq!(error.to_string(), "client [2001:db8::7]:0 has no port to keep");
    });
}

#[test]
fn any_port_means_any_port_that_is_free_toward_this_target() {
    in_namespace("spoofed::any_port_means_any_port_that_is_free_toward_this_target", &[], || {
        return_path();
        // Two ports; one client with two connections to each of three targets has to do with them.
        sysctl("ipv4/ip_local_port_range", "40000 40001");
        let client = addr("192.0.2.7:0");
        let targets =
            ["127.0.0.1:1001", "127.0.0.1:1002", "127.0.0.1:1003"].map(|to| TcpListener::bind(to).unwrap());
        let mut dialed = Vec::new();
        for target in targets.iter().chain(&targets) {
            dialed.push(dial(client, target, SourcePort::Ephemeral).unwrap());
        }
        let error = dial(client, &targets[0], SourcePort::Ephemeral).unwrap_err();
        assert!(matches!(error, DialError::Exhausted { action: Action::Connect, .. }), "{error:?}");
        assert_eq!(error.to_string(), "no resources to connect");
    });
}

#[test]
fn a_spoofed_socket_is_marked_and_a_plain_one_is_not() {
    in_namespace("spoofed::a_spoofed_socket_is_marked_and_a_plain_one_is_not", &[], || {
        return_path();
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let spoofed = dial(addr("192.0.2.7:4711"), &target, SourcePort::Prefer).unwrap();
        let to = TargetAddr::new(target.local_addr().unwrap()).unwrap();
        let plain = runtime().block_on(connect_plain(to, &options(SourcePort::Prefer))).unwrap();
        assert_eq!(SockRef::from(spoofed.stream()).mark().unwrap(), MARK);
        assert_eq!(SockRef::from(plain.stream()).mark().unwrap(), 0);
        assert!(plain.bound.ip().is_loopback());
        for dialed in [spoofed, plain] {
            let socket = SockRef::from(dialed.stream());
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        }
    });
}

#[test]
fn without_a_return_path_the_deadline_ends_it() {
    in_namespace("spoofed::without_a_return_path_the_deadline_ends_it", &[], || {
        ip("link set lo up");
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = dial(addr("192.0.2.7:4711"), &target, SourcePort::Prefer).unwrap_err();
        assert!(matches!(error, DialError::TimedOut { .. }), "{error:?}");
        assert_eq!(error.reason(), CloseReason::TargetTimeout);
    });
}

#[test]
fn a_closed_port_and_a_missing_route_are_told_apart() {
    in_namespace("spoofed::a_closed_port_and_a_missing_route_are_told_apart", &[], || {
        return_path();
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        SockRef::from(&target).shutdown(std::net::Shutdown::Both).unwrap();
        let error = dial(addr("192.0.2.7:4711"), &target, SourcePort::Prefer).unwrap_err();
        assert!(matches!(error, DialError::Refused { .. }), "{error:?}");
        let far = TargetAddr::new(addr("203.0.113.1:22")).unwrap();
        let error = runtime().block_on(connect_plain(far, &options(SourcePort::Prefer))).unwrap_err();
        assert!(matches!(error, DialError::Unreachable { .. }), "{error:?}");
        assert_eq!(error.to_string(), "target 203.0.113.1:22 is unreachable");
    });
}

#[test]
fn without_the_privilege_the_missing_one_is_named() {
    let without = ["setpriv", "--bounding-set", "-net_raw,-net_admin", "--inh-caps", "-net_raw,-net_admin"];
    in_namespace("spoofed::without_the_privilege_the_missing_one_is_named", &without, || {
        let target = TcpListener::bind("0.0.0.0:0").unwrap();
        let to = SocketAddr::new(addr("127.0.0.1:0").ip(), target.local_addr().unwrap().port());
        let error = dial_to(addr("192.0.2.7:4711"), to, SourcePort::Prefer).unwrap_err();
        assert!(
            matches!(error, DialError::NotPermitted { action: Action::UseForeignAddress, .. }),
            "{error:?}"
        );
        assert_eq!(
            error.to_string(),
            "not permitted to use a foreign address; IP_TRANSPARENT needs CAP_NET_RAW or CAP_NET_ADMIN"
        );
        assert_eq!(error.reason(), CloseReason::NotPermitted);
    });
}

#[test]
fn a_source_the_kernel_does_not_take_is_the_client_s_fault() {
    in_namespace("spoofed::a_source_the_kernel_does_not_take_is_the_client_s_fault", &[], || {
        return_path();
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let v6 = TcpListener::bind("[::1]:0").unwrap();
        // What an allow switch of the policy lets through. The kernel would connect from 127.0.0.1 for most of them,
        // without a word.
        ip("address add 10.0.0.5/24 brd 10.0.0.255 dev lo");
        for (client, target) in [
            ("0.0.0.0:4711", &v4),
            ("224.0.0.1:4711", &v4),
            ("255.255.255.255:4711", &v4),
            ("10.0.0.255:4711", &v4),
            ("[::]:4711", &v6),
            ("[fe80::1]:4711", &v6),
            ("[ff02::1]:4711", &v6),
        ] {
            let error = dial(addr(client), target, SourcePort::Prefer).unwrap_err();
            assert!(matches!(error, DialError::SourceUnusable { .. }), "{client}: {error:?}");
        }
        let error = dial(addr("192.0.2.7:4711"), &v6, SourcePort::Prefer).unwrap_err();
        assert!(matches!(error, DialError::Families { .. }), "{error:?}");
    });
}

#[test]
fn this_host_s_own_addresses_and_broadcast_addresses_are_no_clients() {
    in_namespace("spoofed::this_host_s_own_addresses_and_broadcast_addresses_are_no_clients", &[], || {
        ip("link add inside type veth peer name outside");
        ip("address add 10.0.0.5/24 brd 10.0.0.255 dev inside");
        ip("address add 2001:db8::5/64 dev inside");
        let own = OwnAddresses::of_this_host().unwrap();
        let class = |client: &str| {
            let claimed = ClaimedSource::new(addr(client));
            SourcePolicy::new().authorise(claimed, &own).err().map(|refused| refused.class)
        };
        assert_eq!(class("10.0.0.5:1"), Some(SourceClass::Own));
        assert_eq!(class("10.0.0.255:1"), Some(SourceClass::Broadcast));
        assert_eq!(class("[2001:db8::5]:1"), Some(SourceClass::Own));
        assert_eq!((class("10.0.0.6:1"), class("[2001:db8::6]:1")), (None, None));
    });
}

fn dial(client: SocketAddr, target: &TcpListener, policy: SourcePort) -> Result<Dialed, DialError> {
    dial_to(client, target.local_addr().unwrap(), policy)
}

fn dial_to(client: SocketAddr, target: SocketAddr, policy: SourcePort) -> Result<Dialed, DialError> {
    let target = TargetAddr::new(target).unwrap();
    // The runtime outlives the call: a stream unregisters itself from it when it is dropped.
    let runtime = Box::leak(Box::new(runtime()));
    runtime.block_on(connect_spoofed(authorised(client), target, &options(policy)))
}

fn authorised(client: SocketAddr) -> SpoofSource {
    let policy = SourceClass::ALL.into_iter().fold(SourcePolicy::new(), SourcePolicy::allow);
    policy.authorise(ClaimedSource::new(client), &OwnAddresses::default()).unwrap()
}

fn options(policy: SourcePort) -> DialOptions {
    DialOptions::new()
        .mark(NonZeroU32::new(MARK))
        .source_port(policy)
        .timeout(Duration::from_millis(700))
        .unwrap()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The connection without its runtime.
fn std_stream(dialed: Dialed) -> TcpStream {
    let stream = dialed.into_std();
    stream.set_nonblocking(false).unwrap();
    stream
}
