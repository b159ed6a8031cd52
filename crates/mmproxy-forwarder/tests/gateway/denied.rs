//! Clients that are denied, and lists that change while sessions live.

use std::io::Write;

use ipnet::IpNet;
use mmproxy_forwarder::{AllowList, ClientLists, CloseReason, DenyChange, SessionLimits};

use crate::isolated::{in_namespace, return_path};
use crate::limits::spoofing;
use crate::rig::{End, Rig, read_exactly, read_to_end, runtime};

fn net(text: &str) -> IpNet {
    mmproxy_forwarder::parse_network(text).unwrap()
}

fn deny(network: &str, close: bool) -> DenyChange {
    DenyChange::Add { network: net(network), until: None, close }
}

/// How many sessions `changes` end.
fn denied(rig: &Rig, changes: &[DenyChange]) -> usize {
    runtime().block_on(rig.gateway().deny(changes)).len()
}

#[test]
fn a_denied_client_is_refused_until_it_is_denied_no_longer_and_its_sessions_go_on() {
    const NAME: &str =
        "denied::a_denied_client_is_refused_until_it_is_denied_no_longer_and_its_sessions_go_on";
    in_namespace(NAME, &[], || {
        return_path();
        let rig = spoofing(SessionLimits::UNLIMITED);
        let (mut peer, mut target) = rig.session_of("192.0.2.7:4711");
        assert_eq!(denied(&rig, &[deny("192.0.2.7", false)]), 0);
        let report = rig.expect_refused("192.0.2.7:4712", CloseReason::ClientDenied);
        assert_eq!(report.error.as_deref(), Some("client 192.0.2.7 is on the deny list"));
        // Another one of its network is served, and so is the session that was there.
        rig.finish(rig.session_of("192.0.2.8:4711"));
        peer.write_all(b"still").unwrap();
        assert_eq!(read_exactly(&mut target, 5), b"still");
        rig.finish((peer, target));

        denied(&rig, &[DenyChange::Remove { network: net("192.0.2.7") }]);
        rig.finish(rig.session_of("192.0.2.7:4712"));
    });
}

#[test]
fn sessions_of_a_client_that_is_denied_and_closed_are_reset_on_both_sides() {
    const NAME: &str = "denied::sessions_of_a_client_that_is_denied_and_closed_are_reset_on_both_sides";
    in_namespace(NAME, &[], || {
        return_path();
        let rig = spoofing(SessionLimits::UNLIMITED.per_client(std::num::NonZeroUsize::new(1)));
        let other = rig.session_of("192.0.3.7:4711");
        rig.established();
        let (mut peer, mut target) = rig.session_of("192.0.2.7:4711");
        rig.established();
        assert_eq!(denied(&rig, &[deny("192.0.2.0/24", true)]), 1);
        assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Reset));
        assert_eq!(read_to_end(&mut target), (Vec::new(), End::Reset));
        let report = rig.report();
        assert_eq!(report.reason, CloseReason::ClientDenied);
        assert!(report.bound.is_some(), "it did relay");
        rig.expect_refused("192.0.2.7:4712", CloseReason::ClientDenied);
        // What it took below a limit is there again.
        denied(&rig, &[DenyChange::Replace(Vec::new())]);
        rig.finish(rig.session_of("192.0.2.7:4712"));
        rig.finish(other);
    });
}

#[test]
fn lists_of_clients_are_replaced_while_the_gateway_serves() {
    in_namespace("denied::lists_of_clients_are_replaced_while_the_gateway_serves", &[], || {
        return_path();
        let rig = spoofing(SessionLimits::UNLIMITED);
        rig.finish(rig.session_of("192.0.2.7:4711"));
        rig.gateway().replace_clients(ClientLists::new(Some([net("192.0.3.0/24")]), [net("192.0.3.7")]));
        for client in ["192.0.2.7:4712", "192.0.3.7:4711"] {
            rig.expect_refused(client, CloseReason::ClientDenied);
        }
        rig.finish(rig.session_of("192.0.3.8:4711"));
        // The balancer's own connections are no client's.
        rig.finish(rig.session());
        rig.gateway().replace_clients(ClientLists::default());
        rig.finish(rig.session_of("192.0.2.7:4713"));
    });
}

#[test]
fn the_list_of_balancers_is_replaced_while_the_gateway_serves() {
    let rig = Rig::start();
    let session = rig.session();
    rig.gateway().replace_allowed(AllowList::new());
    assert_eq!(read_to_end(&mut rig.connect()), (Vec::new(), End::Reset));
    assert_eq!(rig.report().reason, CloseReason::PeerNotAllowed);
    rig.finish(session);
    rig.gateway().replace_allowed(AllowList::parse("127.0.0.0/8").unwrap());
    rig.finish(rig.session());
}
