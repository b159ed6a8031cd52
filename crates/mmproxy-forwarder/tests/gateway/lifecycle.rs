//! How sessions and the gateway end.

use std::io::Write;
use std::net::{Shutdown as Half, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mmproxy_forwarder::{
    CloseReason, Gateway, Listener, Observer, ServeError, SessionEstablished, SessionOpened, SessionReport,
    Shutdown, Unobserved,
};
use socket2::SockRef;

use crate::rig::{
    DEADLINE, End, Event, Recorder, Rig, UNKNOWN, config, end, patient, read_exactly, read_to_end, runtime,
};

#[test]
fn a_target_that_is_down_resets_the_peer_at_once() {
    let rig = Rig::start();
    // Not listening any more, but the port is still ours: nobody else can take it.
    SockRef::from(&rig.target).shutdown(Half::Both).unwrap();
    let asked = Instant::now();
    let mut peer = rig.connect();
    peer.write_all(UNKNOWN).unwrap();
    assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Reset));
    assert!(asked.elapsed() < Duration::from_secs(2));
    let report = rig.report();
    assert_eq!(report.reason, CloseReason::TargetRefused);
    assert_eq!(report.target, rig.target.local_addr().ok());
}

#[test]
fn a_gateway_told_to_stop_accepts_nobody_and_lets_sessions_finish() {
    let rig = Rig::start();
    let (mut peer, mut target) = rig.session();
    rig.established();
    rig.shutdown.drain();
    // The listener is closed; until then the connection is accepted or waits in the backlog to be reset.
    let refused = Instant::now();
    while TcpStream::connect(rig.address).is_ok() {
        assert!(refused.elapsed() < Duration::from_secs(10), "still accepts");
    }
    peer.write_all(b"still here").unwrap();
    assert_eq!(read_exactly(&mut target, 10), b"still here");
    end(&peer);
    end(&target);
    let (drained, reports) = rig.stop();
    assert_eq!(drained.unwrap().cut, 0);
    let finished = reports.iter().filter(|report| report.reason == CloseReason::Finished);
    assert_eq!(finished.count(), 1);
}

#[test]
fn sessions_that_outlive_the_drain_deadline_are_reset_and_reported_as_drained() {
    let rig = Rig::with(|config| config.drain(Duration::from_millis(50)));
    let (mut peer, mut target) = rig.session();
    let mut waiting = rig.connect();
    waiting.write_all(&UNKNOWN[..4]).unwrap();
    rig.established();
    let (drained, reports) = rig.stop();
    let drained = drained.unwrap();
    assert_eq!((drained.finished, drained.cut), (0, reports.len()));
    assert!(!reports.is_empty());
    assert!(reports.iter().all(|report| report.reason == CloseReason::Drained), "{reports:?}");
    for stream in [&mut peer, &mut target, &mut waiting] {
        assert_eq!(read_to_end(stream), (Vec::new(), End::Reset));
    }
}

#[test]
fn a_cut_does_not_wait_for_the_drain_deadline() {
    let rig = Rig::with(|config| config.drain(Duration::from_secs(3600)));
    let (mut peer, _target) = rig.session();
    rig.shutdown.drain();
    rig.shutdown.cut();
    // Going back is not possible.
    rig.shutdown.drain();
    assert_eq!(rig.report().reason, CloseReason::Drained);
    assert_eq!(read_to_end(&mut peer).1, End::Reset);
    assert_eq!(rig.stop().0.unwrap().cut, 1);
}

/// Panics where it is told to, before it passes anything on.
struct Panicking {
    inner: Recorder,
    on_established: AtomicBool,
    on_closed: AtomicBool,
}

impl Observer for Panicking {
    fn session_opened(&self, opened: &SessionOpened) {
        self.inner.session_opened(opened);
    }

    fn session_established(&self, established: &SessionEstablished) {
        assert!(!self.on_established.swap(false, Ordering::SeqCst), "told to panic");
        self.inner.session_established(established);
    }

    fn session_closed(&self, report: &SessionReport) {
        self.inner.session_closed(report);
        assert!(!self.on_closed.swap(false, Ordering::SeqCst), "told to panic");
    }
}

fn panicking_rig(on_established: bool, on_closed: bool) -> Rig {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = config("127.0.0.0/8", &target);
    Rig::serving(target, config, "127.0.0.1:0", |inner| Panicking {
        inner,
        on_established: on_established.into(),
        on_closed: on_closed.into(),
    })
}

fn the_next_session_finishes(rig: Rig) {
    let (peer, target) = rig.session();
    end(&peer);
    end(&target);
    assert_eq!(rig.report().reason, CloseReason::Finished);
    assert_eq!(rig.stop().1, []);
}

#[test]
fn a_panic_ends_its_session_with_a_report_and_no_other() {
    let rig = panicking_rig(true, false);
    let (mut peer, mut target) = rig.session();
    assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Reset));
    assert_eq!(read_to_end(&mut target).0, []);
    let report = rig.report();
    assert_eq!((report.id, report.reason), (1, CloseReason::Panicked));
    the_next_session_finishes(rig);
}

#[test]
fn an_observer_that_panics_twice_for_a_session_still_ends_only_that_session() {
    let rig = panicking_rig(true, true);
    let (mut peer, _target) = rig.session();
    assert_eq!(read_to_end(&mut peer).1, End::Reset);
    assert_eq!(rig.report().reason, CloseReason::Panicked);
    the_next_session_finishes(rig);
}

#[test]
fn every_session_is_reported_exactly_once() {
    let rig = Rig::with(|config| config.drain(Duration::from_millis(50)));
    let mut kept = Vec::new();
    for turn in 0..60 {
        let mut peer = rig.connect();
        match turn % 5 {
            0 => drop(peer),
            1 => peer.write_all(b"nonsense").unwrap(),
            2 => {
                peer.write_all(UNKNOWN).unwrap();
                end(&peer);
                kept.push(peer);
                drop(rig.accept());
            }
            3 => {
                peer.write_all(UNKNOWN).unwrap();
                kept.push(peer);
                kept.push(rig.accept());
            }
            _ => kept.push(peer),
        }
    }
    // Accepted in order, so a session that relays says that all before it were accepted.
    let (peer, target) = rig.session();
    let (drained, reports) = rig.stop();
    drained.unwrap();
    drop((peer, target, kept));
    // The rig compares what was opened with what was closed, by number, for every test; here nothing is missing.
    assert_eq!(reports.len(), 61);
}

#[test]
fn only_a_broken_listener_ends_the_service_and_says_so() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let address = listener.local_addr();
    let socket = TcpListener::from(listener);
    let breaker = socket.try_clone().unwrap();
    let listener = Listener::from_std(socket).unwrap();
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Gateway::new(config("127.0.0.1", &target), Unobserved).unwrap();
    let served = runtime().block_on(async {
        let shutdown = Shutdown::new();
        let serving = gateway.serve(listener, &shutdown);
        // accept(2) says EINVAL from here on.
        SockRef::from(&breaker).shutdown(Half::Both).unwrap();
        tokio::time::timeout(Duration::from_secs(20), serving).await.expect("it ends")
    });
    match served {
        Err(ServeError::Listener { listener, error }) => {
            assert_eq!(listener, address);
            assert_eq!(error.raw_os_error(), Some(nix::libc::EINVAL));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_gateway_that_is_dropped_while_it_serves_resets_its_sessions_and_reports_them() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let (sender, events) = mpsc::channel();
    let gateway = Gateway::new(config("127.0.0.1", &target), Recorder(sender)).unwrap();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), Listener::BACKLOG).unwrap();
    let mut peer = patient(TcpStream::connect(listener.local_addr()).unwrap());
    peer.write_all(UNKNOWN).unwrap();

    let next = async || {
        let started = Instant::now();
        loop {
            match events.try_recv() {
                Ok(event) => return event,
                Err(_) => assert!(started.elapsed() < DEADLINE, "nothing happens"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    runtime().block_on(async {
        let shutdown = Shutdown::new();
        tokio::select! {
            served = gateway.serve(listener, &shutdown) => panic!("{served:?}"),
            () = async { while !matches!(next().await, Event::Established) {} } => {}
        }
        let Event::Closed(closed) = next().await else { panic!("a session is opened, established, closed") };
        assert_eq!(closed.reason, CloseReason::Drained);
    });
    assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Reset));
}
