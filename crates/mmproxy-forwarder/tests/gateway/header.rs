//! The header, however it comes, and what becomes of connections without one.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use mmproxy_forwarder::{CloseReason, Gateway, Listener, OPENING_LEN, Shutdown};
use tokio::io::AsyncWriteExt;

use crate::rig::{Closed, End, Event, Recorder, Rig, UNKNOWN, config, end, read_to_end, reset};

/// The fixed part of a v2 header with the given command, family and transport, then `rest`.
fn v2(command: u8, family_transport: u8, rest: &[u8]) -> Vec<u8> {
    let mut wire = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    wire.extend([0x20 | command, family_transport]);
    wire.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    wire.extend(rest);
    wire
}

/// 192.0.2.7:4711 to 198.51.100.1:443.
const INET: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb];

#[test]
fn a_header_sent_one_byte_at_a_time_is_a_header() {
    let rig = Rig::start();
    let mut peer = rig.connect();
    peer.set_nodelay(true).unwrap();
    for byte in v2(0, 0, &[4, 0, 3, 1, 2, 3]) {
        peer.write_all(&[byte]).unwrap();
    }
    peer.write_all(b"hello").unwrap();
    end(&peer);
    assert_eq!(read_to_end(&mut rig.accept()), (b"hello".to_vec(), End::Fin));
    let report = rig.report();
    assert_eq!((report.reason, report.header.as_deref()), (CloseReason::Finished, Some("v2")));
}

#[test]
fn payload_in_the_header_s_segment_is_delivered_first_and_unchanged() {
    let rig = Rig::start();
    let mut peer = rig.connect();
    // The payload begins like a header: only one is taken off.
    let payload: Vec<u8> = [UNKNOWN, &[0xa5; 3000]].concat();
    peer.write_all(&[UNKNOWN, &payload].concat()).unwrap();
    peer.write_all(b"and more").unwrap();
    end(&peer);
    let mut target = rig.accept();
    assert_eq!(read_to_end(&mut target), ([&payload, b"and more".as_slice()].concat(), End::Fin));
    end(&target);
    assert_eq!(rig.report().bytes, (payload.len() as u64 + 8, 0));
}

#[test]
fn a_connection_without_a_client_comes_from_the_gateway_itself() {
    let unix = [0; 216];
    for wire in [
        UNKNOWN.to_vec(),
        b"PROXY UNKNOWN ffff:: ffff:: 65535 65535\r\n".to_vec(),
        v2(0, 0x11, &INET),       // LOCAL: addresses are to be ignored
        v2(0, 0xff, b"whatever"), // LOCAL: so is an undefined family
        v2(1, 0x00, &[]),         // PROXY, UNSPEC
        v2(1, 0x10, &INET),       // PROXY, INET, UNSPEC transport
        v2(1, 0x12, &INET),       // PROXY, INET, DGRAM: not what TCP carries
        v2(1, 0x31, &unix),       // PROXY, UNIX, STREAM
    ] {
        let rig = Rig::start();
        let mut peer = rig.connect();
        peer.write_all(&wire).unwrap();
        let target = rig.accept();
        let seen = target.peer_addr().unwrap();
        assert!(seen.ip().is_loopback());
        end(&peer);
        end(&target);
        let report = rig.report();
        assert_eq!(report.reason, CloseReason::Finished, "{wire:02x?}");
        assert_eq!((report.claimed, report.client_port), (None, None));
        assert_eq!(report.bound, Some(seen));
    }
}

#[test]
fn a_client_that_is_no_client_is_refused_before_a_socket_exists() {
    for wire in [
        b"PROXY TCP4 127.0.0.1 127.0.0.1 4711 22\r\n".as_slice(),
        b"PROXY TCP4 0.0.0.0 127.0.0.1 4711 22\r\n",
        b"PROXY TCP4 224.0.0.1 127.0.0.1 4711 22\r\n",
        b"PROXY TCP6 ::1 ::1 4711 22\r\n",
        b"PROXY TCP6 fe80::1 ::1 4711 22\r\n",
        b"PROXY TCP6 ::ffff:127.0.0.1 ::1 4711 22\r\n",
    ] {
        let rig = Rig::start();
        let mut peer = rig.connect();
        peer.write_all(wire).unwrap();
        assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Reset));
        let report = rig.report();
        assert_eq!(report.reason, CloseReason::SourceRefused);
        assert!(report.claimed.is_some());
        assert!(rig.target_was_left_alone());
    }
}

#[test]
fn a_client_of_a_family_without_target_is_refused_with_its_own_reason() {
    let rig = Rig::start();
    let mut peer = rig.connect();
    peer.write_all(b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 22\r\n").unwrap();
    assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Reset));
    let report = rig.report();
    assert_eq!(report.reason, CloseReason::NoTarget);
    assert_eq!(
        report.error.as_deref(),
        Some("client [2001:db8::7]:4711 is IPv6 and there is no IPv6 target")
    );
}

#[test]
fn what_is_no_header_is_refused_at_its_first_wrong_byte_and_its_opening_is_kept() {
    let rig = Rig::start();
    let mut peer = rig.connect();
    let http = b"GET / HTTP/1.1\r\nHost: a-name-that-makes-it-longer.example\r\n\r\n";
    peer.write_all(http).unwrap();
    assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Reset));
    let report = rig.report();
    assert_eq!(report.reason, CloseReason::HeaderMissing);
    assert_eq!(report.opening, http[..OPENING_LEN]);
    assert!(rig.target_was_left_alone());
}

#[test]
fn a_header_that_breaks_a_rule_is_refused() {
    for wire in [
        b"PROXY TCP5 192.0.2.7 192.0.2.1 4711 22\r\n".as_slice(),
        b"PROXY TCP4 192.0.2.256 192.0.2.1 4711 22\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 22\n",
        &v2(1, 0x11, &INET[..11]),
    ] {
        let rig = Rig::start();
        let mut peer = rig.connect();
        peer.write_all(wire).unwrap();
        assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Reset), "{wire:02x?}");
        assert_eq!(rig.report().reason, CloseReason::HeaderInvalid);
        assert!(rig.target_was_left_alone());
    }
}

#[test]
fn connecting_and_leaving_is_quiet_in_either_way() {
    let rig = Rig::start();
    let mut peer = rig.connect();
    end(&peer);
    // A health check's end is answered by an end, not by a reset.
    assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Fin));
    assert_eq!(rig.report().reason, CloseReason::ConnectOnly);

    reset(rig.connect());
    assert_eq!(rig.report().reason, CloseReason::ConnectOnly);
    assert!(rig.target_was_left_alone());
}

#[test]
fn leaving_within_the_header_is_told_apart_by_how_it_was_done() {
    let rig = Rig::start();
    let mut peer = rig.connect();
    peer.write_all(&UNKNOWN[..9]).unwrap();
    end(&peer);
    assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Reset));
    let report = rig.report();
    assert_eq!((report.reason, report.opening.as_slice()), (CloseReason::HeaderIncomplete, &UNKNOWN[..9]));
    assert!(rig.target_was_left_alone());
}

/// Runs a gateway under a clock that jumps to the next timer whenever nothing else is to do, and returns the
/// report of the one session that `peer` makes.
fn with_paused_clock<F>(peer: impl FnOnce(TcpStream) -> F) -> Closed
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), Listener::BACKLOG).unwrap();
        let stream = TcpStream::connect(listener.local_addr()).unwrap();
        stream.set_nonblocking(true).unwrap();
        tokio::spawn(peer(stream));
        let (sender, events) = mpsc::channel();
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let gateway = Gateway::new(config("127.0.0.1", &target), Recorder(sender)).unwrap();
        let shutdown = Shutdown::new();
        let stopper = shutdown.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            stopper.drain();
        });
        gateway.serve(listener, &shutdown).await.unwrap();
        drop(gateway);
        let closed = events.iter().find_map(|event| match event {
            Event::Closed(closed) => Some(*closed),
            Event::Opened(_) | Event::Established => None,
        });
        closed.expect("the session ended")
    })
}

#[test]
fn a_silent_peer_is_reset_at_the_deadline() {
    let report = with_paused_clock(|stream| async move {
        let stream = tokio::net::TcpStream::from_std(stream).unwrap();
        stream.readable().await.unwrap();
        let error = stream.try_read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
    assert_eq!(report.reason, CloseReason::HeaderTimeout);
    assert!((5000..5100).contains(&report.total.as_millis()), "{:?}", report.total);
    assert_eq!(report.error.as_deref(), Some("no whole header before the deadline, 0 bytes came"));
}

#[test]
fn a_dripping_peer_does_not_move_the_deadline() {
    let report = with_paused_clock(|stream| async move {
        let mut stream = tokio::net::TcpStream::from_std(stream).unwrap();
        for byte in UNKNOWN {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    assert_eq!(report.reason, CloseReason::HeaderTimeout);
    assert!((5000..5100).contains(&report.total.as_millis()), "{:?}", report.total);
    assert!((1..=6).contains(&report.opening.len()), "{:?}", report.opening);
}
