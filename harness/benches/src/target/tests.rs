use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;
use crate::wire::{Hello, Role, STRANGER, WELCOME};

/// A target on a loopback address of its own, its counters, and a connection to it.
fn connected() -> (Arc<Counters>, TcpStream) {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut target = Target::new(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let Door::Streams(listener) = &target.doors[0] else { panic!("streams come first") };
        sender.send((socket::local(listener).unwrap(), Arc::clone(&target.counters))).unwrap();
        target.run().map(drop)
    });
    let (address, counters) = receiver.recv().unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    (counters, stream)
}

/// Sends a hello that names `client`; the answer.
fn greet(stream: &mut TcpStream, client: SocketAddr, role: Role) -> u8 {
    stream.write_all(&Hello { client, role, seed: SEED }.to_bytes()).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    answer[0]
}

/// Waits until the target has closed the connection, having read all.
fn finish(mut stream: TcpStream) {
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

const SEED: u64 = 7;

#[test]
fn a_client_that_is_who_it_says_is_welcome() {
    let (counters, mut stream) = connected();
    let client = stream.local_addr().unwrap();
    assert_eq!(greet(&mut stream, client, Role::Echo), WELCOME);
    assert_eq!(counters.counts().strangers, 0);
}

#[test]
fn a_client_that_is_another_than_it_says_is_counted_and_named() {
    let (counters, mut stream) = connected();
    assert_eq!(greet(&mut stream, "44.1.2.3:4711".parse().unwrap(), Role::Echo), STRANGER);
    let counts = counters.counts();
    assert_eq!(counts.strangers, 1);
    let seen = stream.local_addr().unwrap();
    assert_eq!(counts.stranger, Some(format!("saw {seen} instead of 44.1.2.3:4711")));
}

#[test]
fn the_right_port_is_part_of_who_a_client_is() {
    let (counters, mut stream) = connected();
    let mut client = stream.local_addr().unwrap();
    client.set_port(client.port() ^ 1);
    assert_eq!(greet(&mut stream, client, Role::Echo), STRANGER);
    assert_eq!(counters.counts().strangers, 1);
}

#[test]
fn uploaded_bytes_are_counted_and_those_that_were_not_written_so_are_noticed() {
    for (lose, corrupt) in [(None, false), (Some(5000), true)] {
        let (counters, mut stream) = connected();
        let client = stream.local_addr().unwrap();
        greet(&mut stream, client, Role::Sink);
        let mut bytes = Writer::new(64 << 10).at(SEED, 0).to_vec();
        if let Some(position) = lose {
            bytes.remove(position);
        }
        stream.write_all(&bytes).unwrap();
        finish(stream);
        let counts = counters.counts();
        assert_eq!(counts.received, bytes.len() as u64);
        assert_eq!(counts.corrupt > 0, corrupt);
    }
}

#[test]
fn a_download_stops_when_it_is_told_to_and_all_that_was_sent_arrives() {
    let (counters, mut stream) = connected();
    let client = stream.local_addr().unwrap();
    greet(&mut stream, client, Role::Source);
    let mut reader = crate::pattern::Reader::new(SEED);
    let mut buffer = vec![0; 1 << 20];
    stream.read_exact(&mut buffer).unwrap();
    assert!(reader.accept(&buffer));
    stream.write_all(b".").unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(reader.accept(&rest));
    assert_eq!(counters.counts().sent, (buffer.len() + rest.len()) as u64);
}

#[test]
fn more_than_an_echo_can_send_at_once_comes_back_whole() {
    let (_counters, stream) = connected();
    let mut writing = stream.try_clone().unwrap();
    let client = stream.local_addr().unwrap();
    greet(&mut writing, client, Role::Echo);
    let bytes: Vec<u8> = (0..16_000_000_u32).map(|position| position.to_le_bytes()[1]).collect();
    thread::scope(|scope| {
        // Not read before much of it is written: the target's send buffer fills.
        scope.spawn(|| {
            writing.write_all(&bytes).unwrap();
            writing.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        (&stream).read_to_end(&mut back).unwrap();
        assert!(back == bytes);
    });
}
