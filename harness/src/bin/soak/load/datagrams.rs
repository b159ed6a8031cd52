//! Clients over UDP: they ask until they are answered, as resolvers do.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use harness::{Family, V2};

use super::{Load, client, count};
use crate::chance::Chance;
use crate::world::{UDP, World};

/// One client of each family, over a balancer of each family.
pub(super) fn lane(load: &Load, number: u8, mut chance: Chance) -> impl FnMut() {
    let ways = Family::BOTH.map(|family| {
        let socket = UdpSocket::bind(SocketAddr::new(family.balancer(), 0)).expect("the balancer's address");
        socket.set_read_timeout(Some(WAIT)).expect("a socket");
        (World::address(family, UDP), socket)
    });
    let mut asked = 0;
    move || {
        let (gateway, socket) = &ways[usize::from(chance.one_in(2))];
        let client = client(number, super::either(&mut chance), 5000);
        asked += 1;
        let seen = load.disturbance.load(SeqCst);
        let length = usize::try_from(chance.between(0, 1000)).expect("small");
        let question = [format!("{asked} ").into_bytes(), chance.bytes(length)].concat();
        if let Err(reason) = ask(load, socket, *gateway, client, &question)
            && seen.is_multiple_of(2)
            && load.disturbance.load(SeqCst) == seen
        {
            load.fail(reason);
        }
        if chance.one_in(50) {
            // What is no header gets no answer; one that came would fail the next question.
            let junk = usize::try_from(chance.between(0, 60)).expect("small");
            socket.send_to(&chance.bytes(junk), gateway).ok();
        }
        thread::sleep(Duration::from_millis(chance.between(1, 30)));
    }
}

fn ask(
    load: &Load,
    socket: &UdpSocket,
    gateway: SocketAddr,
    client: SocketAddr,
    question: &[u8],
) -> Result<(), String> {
    let frontend = SocketAddr::new(Family::of(client.ip()).frontend(), 53);
    let datagram = [V2::datagram(client, frontend).to_bytes(), question.to_vec()].concat();
    count(&load.counts.asked);
    for _ in 0..TRIES {
        socket.send_to(&datagram, gateway).map_err(|error| format!("sending to {gateway}: {error}"))?;
        loop {
            let mut buffer = [0; 2048];
            match socket.recv_from(&mut buffer) {
                Ok((length, from)) => match verdict(&buffer[..length], from, gateway, client, question) {
                    Some(Ok(())) => {
                        count(&load.counts.answered);
                        return Ok(());
                    }
                    Some(Err(reason)) => {
                        load.fail(reason.clone());
                        return Err(reason);
                    }
                    None => {}
                },
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                // What ICMP brought.
                Err(_) => break,
            }
        }
    }
    Err(format!("{client} has asked {TRIES} times, and was not answered"))
}

/// Whether this is the answer; `None` for the late answer to an earlier question.
fn verdict(
    answer: &[u8],
    from: SocketAddr,
    gateway: SocketAddr,
    client: SocketAddr,
    question: &[u8],
) -> Option<Result<(), String>> {
    if from != gateway {
        return Some(Err(format!("{from} answered a datagram to {gateway}")));
    }
    let Some(blank) = answer.iter().position(|byte| *byte == b' ') else {
        return Some(Err(format!("{client} got {:?}", answer.escape_ascii().to_string())));
    };
    let (seen, said) = (&answer[..blank], &answer[blank + 1..]);
    let number = |bytes: &[u8]| {
        let digits = bytes.split(|byte| *byte == b' ').next()?;
        std::str::from_utf8(digits).ok()?.parse::<u64>().ok()
    };
    if number(said)? < number(question)? {
        return None;
    }
    let seen: Option<SocketAddr> = std::str::from_utf8(seen).ok().and_then(|text| text.parse().ok());
    let right = seen.is_some_and(|seen| seen.ip() == client.ip()) && said == question;
    Some(
        right
            .then_some(())
            .ok_or_else(|| format!("the answer to {client} is that to {seen:?}, or another one")),
    )
}

/// For one answer, and how often.
const WAIT: Duration = Duration::from_millis(500);
const TRIES: usize = 60;
