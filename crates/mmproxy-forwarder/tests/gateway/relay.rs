//! What is sent arrives, and an end on one side is the same end on the other.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use mmproxy_forwarder::CloseReason;
use socket2::SockRef;

use crate::rig::{End, Rig, await_error, end, fill, read_exactly, read_to_end, reset};

/// Bytes that differ wherever they are cut or swapped.
fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

#[test]
fn the_peer_may_end_first_and_still_gets_its_answer() {
    let rig = Rig::start();
    let (mut peer, mut target) = rig.session();
    peer.write_all(b"question").unwrap();
    end(&peer);
    assert_eq!(read_to_end(&mut target), (b"question".to_vec(), End::Fin));
    target.write_all(b"a long answer").unwrap();
    drop(target);
    assert_eq!(read_to_end(&mut peer), (b"a long answer".to_vec(), End::Fin));
    let report = rig.report();
    assert_eq!((report.reason, report.bytes), (CloseReason::Finished, (8, 13)));
}

#[test]
fn the_target_may_end_first_and_still_gets_the_rest() {
    let rig = Rig::start();
    let (mut peer, mut target) = rig.session();
    target.write_all(b"banner").unwrap();
    end(&target);
    assert_eq!(read_to_end(&mut peer), (b"banner".to_vec(), End::Fin));
    peer.write_all(b"what was left to say").unwrap();
    drop(peer);
    assert_eq!(read_to_end(&mut target), (b"what was left to say".to_vec(), End::Fin));
    drop(target);
    let report = rig.report();
    assert_eq!((report.reason, report.bytes), (CloseReason::Finished, (20, 6)));
}

#[test]
fn a_reset_by_the_peer_is_a_reset_at_the_target() {
    let rig = Rig::start();
    let (mut peer, mut target) = rig.session();
    peer.write_all(b"hello").unwrap();
    assert_eq!(read_exactly(&mut target, 5), b"hello");
    reset(peer);
    assert_eq!(read_to_end(&mut target), (Vec::new(), End::Reset));
    assert_eq!(rig.report().reason, CloseReason::PeerReset);
}

#[test]
fn a_reset_by_the_target_is_a_reset_at_the_peer() {
    let rig = Rig::start();
    let (mut peer, mut target) = rig.session();
    target.write_all(b"hello").unwrap();
    assert_eq!(read_exactly(&mut peer, 5), b"hello");
    reset(target);
    assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Reset));
    assert_eq!(rig.report().reason, CloseReason::TargetReset);
}

#[test]
fn a_reset_behind_an_end_is_noticed_although_reading_cannot_show_it() {
    let rig = Rig::start();
    let (peer, mut target) = rig.session();
    end(&peer);
    assert_eq!(read_to_end(&mut target), (Vec::new(), End::Fin));
    reset(peer);
    // The target is not writing either: nothing but the socket's state tells.
    await_error(&target);
    assert_eq!(rig.report().reason, CloseReason::PeerReset);
}

#[test]
fn a_reset_passes_a_target_that_does_not_read() {
    let rig = Rig::start();
    let (mut peer, target) = rig.session();
    assert!(fill(&mut peer) > 0);
    reset(peer);
    await_error(&target);
    assert_eq!(rig.report().reason, CloseReason::PeerReset);
}

#[test]
fn a_reset_passes_a_peer_that_does_not_read() {
    let rig = Rig::start();
    let (peer, mut target) = rig.session();
    assert!(fill(&mut target) > 0);
    reset(target);
    await_error(&peer);
    assert_eq!(rig.report().reason, CloseReason::TargetReset);
}

/// As a web server does that refuses an upload: answers early, closes with bytes unread.
#[test]
fn what_a_target_said_before_it_reset_the_connection_arrives() {
    let rig = Rig::start();
    let (mut peer, mut target) = rig.session();
    fill(&mut peer);
    target.write_all(b"413 Content Too Large").unwrap();
    // Unread bytes make this a reset.
    drop(target);
    let answer = read_exactly(&mut peer, 21);
    assert_eq!(answer, b"413 Content Too Large");
    assert_eq!(read_to_end(&mut peer), (Vec::new(), End::Reset));
    assert_eq!(rig.report().reason, CloseReason::TargetReset);
}

/// Sends `bytes` and ends.
fn sender(mut stream: TcpStream, bytes: Vec<u8>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        stream.write_all(&bytes).unwrap();
        end(&stream);
    })
}

/// Reads small pieces through a small window, and stops again and again.
fn slow_reader(mut stream: TcpStream) -> thread::JoinHandle<Vec<u8>> {
    SockRef::from(&stream).set_recv_buffer_size(64 * 1024).unwrap();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut piece = [0; 8 * 1024];
        for turn in 0.. {
            // Long enough for the gateway to fill every buffer on the way.
            if turn % 256 == 0 {
                thread::sleep(Duration::from_millis(20));
            }
            match stream.read(&mut piece).unwrap() {
                0 => break,
                read => bytes.extend_from_slice(&piece[..read]),
            }
        }
        bytes
    })
}

#[test]
fn eight_mebibytes_each_way_at_once_arrive_whole_at_slow_readers() {
    const LENGTH: usize = 8 << 20;
    let (up, down) = (pattern(1, LENGTH), pattern(2, LENGTH));
    let rig = Rig::start();
    let (peer, target) = rig.session();
    let senders =
        [sender(peer.try_clone().unwrap(), up.clone()), sender(target.try_clone().unwrap(), down.clone())];
    let (at_peer, at_target) = (slow_reader(peer), slow_reader(target));
    assert!(at_target.join().unwrap() == up, "the target got something else");
    assert!(at_peer.join().unwrap() == down, "the peer got something else");
    for sender in senders {
        sender.join().unwrap();
    }
    let report = rig.report();
    assert_eq!(report.reason, CloseReason::Finished);
    assert_eq!(report.bytes, (LENGTH as u64, LENGTH as u64));
}

#[test]
fn bytes_accepted_before_an_end_arrive_at_a_reader_that_was_not_there_yet() {
    let rig = Rig::start();
    let (mut peer, mut target) = rig.session();
    let sent = fill(&mut target);
    end(&target);
    end(&peer);
    let mut received = 0;
    let mut piece = vec![0; 64 * 1024];
    loop {
        match peer.read(&mut piece).unwrap() {
            0 => break,
            read => received += read as u64,
        }
    }
    assert_eq!(received, sent);
    assert_eq!(read_to_end(&mut target), (Vec::new(), End::Fin));
    let report = rig.report();
    assert_eq!((report.reason, report.bytes), (CloseReason::Finished, (0, sent)));
}
