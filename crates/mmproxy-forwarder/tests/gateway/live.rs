//! Sessions that live, asked what they do, and told to end.

use std::io::Write;
use std::sync::{Arc, Mutex};

use mmproxy_forwarder::{
    CloseReason, Observer, SessionAnnounced, SessionDialing, SessionEstablished, SessionHalfClosed,
    SessionId, SessionOpened, SessionReport, SessionState, Side, Which,
};

use crate::rig::{End, Recorder, Rig, config, end, read_exactly, read_to_end, runtime};

#[test]
fn sessions_tell_what_they_do() {
    let rig = Rig::start();
    let (mut peer, mut target) = rig.session();
    peer.write_all(b"hello").unwrap();
    assert_eq!(read_exactly(&mut target, 5), b"hello");
    rig.established();
    let mut waiting = rig.connect();
    waiting.write_all(b"PROXY TC").unwrap();

    let sessions = loop {
        let mut sessions = runtime().block_on(rig.gateway().sessions(usize::MAX));
        sessions.sort_by_key(|session| session.id);
        // The second connection may still be in the backlog.
        if let Ok(both) = <[_; 2]>::try_from(sessions) {
            break both;
        }
    };
    let [relays, waits] = sessions;
    assert_eq!((relays.state, waits.state), (SessionState::Relay, SessionState::Header));
    assert_eq!(relays.peer.addr(), peer.local_addr().unwrap());
    assert_eq!(relays.target.unwrap().addr(), rig.target.local_addr().unwrap());
    assert_eq!(relays.bound.unwrap(), target.peer_addr().unwrap());
    assert_eq!((relays.bytes_up, relays.bytes_down), (5, 0));
    assert!(relays.target_tcp.unwrap().congestion_window > 0);
    assert!(relays.peer_tcp.is_some() && waits.peer_tcp.is_none());

    end(&target);
    assert_eq!(read_to_end(&mut peer).1, End::Fin);
    let half = runtime().block_on(rig.gateway().sessions(usize::MAX));
    assert!(half.iter().any(|session| session.state == SessionState::HalfClosed));
    assert_eq!(runtime().block_on(rig.gateway().sessions(1)).len(), 1);
    assert_eq!(rig.gateway().traffic().up.copied, 5);
}

#[test]
fn a_session_that_is_killed_is_reset_on_both_sides_and_says_so() {
    let rig = Rig::start();
    let (mut peer, mut target) = rig.session();
    rig.established();
    let (_other, _its_target) = rig.session();
    rig.established();
    let closed = runtime().block_on(rig.gateway().close_sessions(Which::Id(SessionId(1))));
    assert_eq!(closed, [SessionId(1)]);
    assert_eq!((read_to_end(&mut peer).1, read_to_end(&mut target).1), (End::Reset, End::Reset));
    let report = rig.report();
    assert_eq!((report.id, report.reason), (1, CloseReason::Killed));
    // UNKNOWN speaks for no client.
    let clients = Which::Clients("0.0.0.0/0".parse().unwrap());
    assert!(runtime().block_on(rig.gateway().close_sessions(clients)).is_empty());
    assert_eq!(runtime().block_on(rig.gateway().sessions(usize::MAX)).len(), 1);
}

#[test]
fn a_session_is_killed_while_its_header_is_awaited() {
    let rig = Rig::start();
    let mut peer = rig.connect();
    while runtime().block_on(rig.gateway().close_sessions(Which::Id(SessionId(1)))).is_empty() {}
    assert_eq!(read_to_end(&mut peer).1, End::Reset);
    assert_eq!(rig.report().reason, CloseReason::Killed);
}

#[test]
fn every_change_of_a_session_is_told_in_order() {
    let target = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config("127.0.0.0/8", &target);
    let steps = Arc::new(Mutex::new(Vec::new()));
    let rig =
        Rig::serving(target, config, "127.0.0.1:0", |recorder| Steps { recorder, steps: Arc::clone(&steps) });
    let (mut peer, mut target) = rig.session();
    end(&peer);
    assert_eq!(read_to_end(&mut target).1, End::Fin);
    target.write_all(b"answer").unwrap();
    drop(target);
    assert_eq!(read_to_end(&mut peer), (b"answer".to_vec(), End::Fin));
    let report = rig.report();
    assert_eq!((report.header_len, report.spliced), (15, (0, 0)));
    assert!(report.first_byte.is_some_and(|first| first <= report.total));
    let steps = steps.lock().unwrap();
    assert_eq!(*steps, ["opened", "announced", "dialing", "established", "half-closed by peer", "closed"]);
}

/// Writes down which events come.
struct Steps {
    recorder: Recorder,
    steps: Arc<Mutex<Vec<String>>>,
}

impl Steps {
    fn note(&self, step: impl Into<String>) {
        self.steps.lock().unwrap().push(step.into());
    }
}

impl Observer for Steps {
    fn session_opened(&self, opened: &SessionOpened) {
        self.note("opened");
        self.recorder.session_opened(opened);
    }

    fn session_announced(&self, _announced: &SessionAnnounced<'_>) {
        self.note("announced");
    }

    fn session_dialing(&self, _dialing: &SessionDialing) {
        self.note("dialing");
    }

    fn session_established(&self, established: &SessionEstablished) {
        self.note("established");
        self.recorder.session_established(established);
    }

    fn session_half_closed(&self, half_closed: &SessionHalfClosed) {
        let Side::Peer = half_closed.ended else { return self.note("half-closed by target") };
        self.note("half-closed by peer");
    }

    fn session_closed(&self, report: &SessionReport) {
        self.note("closed");
        self.recorder.session_closed(report);
    }
}
