//! What is sent arrives, and an end on one side is the same end on the other.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mmproxy_forwarder::{CloseReason, RelayOptions, SpliceUse};
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
    arrive_whole(8 << 20, RelayOptions::new());
}

#[test]
fn what_is_spliced_arrives_whole_through_pipes_of_any_size_and_for_want_of_one() {
    let sized =
        |bytes: usize| RelayOptions::new().splice(SpliceUse::Always).pipe_size(bytes.try_into().unwrap());
    for options in [
        sized(4096),
        sized(1 << 20),
        sized(1 << 20).pipes(1),
        sized(1 << 20).pipes(0),
        RelayOptions::new().splice(SpliceUse::Never),
    ] {
        arrive_whole((2 << 20) + 4711, options);
    }
}

fn arrive_whole(length: usize, options: RelayOptions) {
    let (up, down) = (pattern(1, length), pattern(2, length));
    let rig = Rig::with(|config| config.relay(options));
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
    assert_eq!(report.bytes, (length as u64, length as u64));
}

#[test]
fn small_messages_get_through_beside_bulk_that_never_pauses() {
    let rig = Rig::start();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            let (mut peer, mut target) = rig.session();
            let stop = &stop;
            scope.spawn(move || {
                let chunk = vec![b'x'; 256 * 1024];
                while !stop.load(Ordering::Relaxed) {
                    peer.write_all(&chunk).unwrap();
                }
            });
            scope.spawn(move || {
                let mut buffer = vec![0; 1 << 20];
                while matches!(target.read(&mut buffer), Ok(1..)) {}
            });
        }
        let (mut peer, mut target) = rig.session();
        for _ in 0..200 {
            peer.write_all(b"question").unwrap();
            assert_eq!(read_exactly(&mut target, 8), b"question");
            target.write_all(b"answer").unwrap();
            assert_eq!(read_exactly(&mut peer, 6), b"answer");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Out of band: `splice(2)` stops before an urgent byte, and nothing tells when it would go on.
#[test]
fn bytes_behind_an_urgent_one_arrive_also_while_bulk_is_spliced() {
    let rig = Rig::with(|config| config.relay(RelayOptions::new().splice(SpliceUse::Always)));
    let (mut peer, mut target) = rig.session();
    peer.write_all(b"before").unwrap();
    assert_eq!(read_exactly(&mut target, 6), b"before");
    SockRef::from(&peer).send_out_of_band(b"!").unwrap();
    peer.write_all(b"behind").unwrap();
    // The urgent byte is not part of the stream; all others are.
    assert_eq!(read_exactly(&mut target, 6), b"behind");
    end(&peer);
    assert_eq!(read_to_end(&mut target), (Vec::new(), End::Fin));
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

/// The kernel of whoever receives takes the urgent byte out of the stream; the gateway neither looks for it nor fails.
#[test]
fn urgent_data_is_taken_out_and_everything_around_it_arrives() {
    let rig = Rig::start();
    // Sometimes the mark is there before the gateway looks, sometimes behind.
    for _ in 0..100 {
        let (mut peer, mut target) = rig.session();
        peer.write_all(b"before").unwrap();
        assert_eq!(SockRef::from(&peer).send_out_of_band(b"!").unwrap(), 1);
        peer.write_all(b"behind").unwrap();
        // Without waiting for anything else to come.
        assert_eq!(read_exactly(&mut target, 12), b"beforebehind");
        end(&peer);
        assert_eq!(read_to_end(&mut target), (Vec::new(), End::Fin));
        assert_eq!(SockRef::from(&target).send_out_of_band(b"!").unwrap(), 1);
        target.write_all(b"answer").unwrap();
        end(&target);
        assert_eq!(read_to_end(&mut peer), (b"answer".to_vec(), End::Fin));
        assert_eq!(rig.report().reason, CloseReason::Finished);
    }
}
