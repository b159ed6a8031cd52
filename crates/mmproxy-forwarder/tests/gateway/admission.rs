//! Who gets in.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroUsize;

use mmproxy_forwarder::{CloseReason, SessionLimits};

use crate::rig::{End, Rig, UNKNOWN, config, end, patient, read_to_end};

#[test]
fn a_peer_that_is_not_allowed_is_turned_away_before_a_byte_of_it_is_read() {
    let rig = Rig::allowing("192.0.2.0/24");
    let mut peer = rig.connect();
    // It has said nothing and is not waited for.
    assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Reset));
    let report = rig.report();
    assert_eq!(report.reason, CloseReason::PeerNotAllowed);
    assert_eq!(report.peer, peer.local_addr().unwrap());
    assert_eq!((report.header, report.opening), (None, Vec::new()));
    assert!(rig.target_was_left_alone());
    assert_eq!(rig.stop().1, []);
}

#[test]
fn an_empty_allow_list_lets_nobody_in() {
    let rig = Rig::allowing("# nobody yet\n");
    read_to_end(&mut rig.connect());
    assert_eq!(rig.report().reason, CloseReason::PeerNotAllowed);
}

#[test]
fn an_ipv4_peer_of_a_dual_stack_listener_is_an_ipv4_peer() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config("127.0.0.0/8", &target);
    let rig = Rig::serving(target, config, "[::]:0", |recorder| recorder);
    let peer = patient(TcpStream::connect(("127.0.0.1", rig.address.port())).unwrap());
    (&peer).write_all(UNKNOWN).unwrap();
    end(&peer);
    drop(rig.accept());
    let report = rig.report();
    assert_eq!(report.peer, peer.local_addr().unwrap());
    assert_eq!(report.reason, CloseReason::Finished);
}

#[test]
fn a_session_over_the_limit_is_refused_at_once_and_room_is_made_by_the_end_of_another() {
    let rig = Rig::with(|config| config.limits(SessionLimits::new(NonZeroUsize::MIN)));
    let (peer, target) = rig.session();
    assert_eq!(read_to_end(&mut rig.connect()), (Vec::new(), End::Reset));
    let report = rig.report();
    assert_eq!(report.reason, CloseReason::SessionLimit);
    assert_eq!(report.error.as_deref(), Some("all 1 sessions are in use"));

    end(&peer);
    end(&target);
    assert_eq!(rig.report().reason, CloseReason::Finished);
    let (peer, target) = rig.session();
    end(&peer);
    end(&target);
    assert_eq!(rig.report().reason, CloseReason::Finished);
}
