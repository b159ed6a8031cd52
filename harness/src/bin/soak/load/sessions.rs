//! Clients over TCP, short and long.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use harness::{V2, Version};
use socket2::SockRef;

use super::{Ended, Load, PATIENCE, client, count, either};
use crate::chance::Chance;
use crate::world::{TCP, World};

/// Clients of one address, each at a port of its own.
pub(super) struct Lane {
    number: u8,
    sessions: u64,
}

/// Clients that come one after the other, say little or much, and go.
pub(super) fn short(load: &Load, number: u8, mut chance: Chance) -> impl FnMut() {
    let mut lane = Lane::new(number);
    move || {
        let mut seen = load.disturbance.load(SeqCst);
        let ended = lane.short(load, &mut chance, &mut seen);
        load.judge("a short session", seen, ended);
        thread::sleep(Duration::from_millis(chance.between(5, 30)));
    }
}

/// Clients that stay until the load is paused.
pub(super) fn long(load: &Load, number: u8, mut chance: Chance) -> impl FnMut() {
    let mut lane = Lane::new(number);
    move || {
        let mut seen = load.disturbance.load(SeqCst);
        let ended = lane.long(load, &mut chance, &mut seen);
        load.judge("a long session", seen, ended);
        thread::sleep(Duration::from_millis(100));
    }
}

impl Lane {
    pub(super) const fn new(number: u8) -> Self {
        Self { number, sessions: 0 }
    }

    pub(super) fn short(
        &mut self,
        load: &Load,
        chance: &mut Chance,
        seen: &mut u64,
    ) -> Result<Ended, String> {
        let mut session = self.open(load, chance, seen)?;
        let rounds = chance.between(1, 4);
        let most = if chance.one_in(20) { 64 << 10 } else { 4 << 10 };
        for _ in 0..rounds {
            if session.is_forgotten() {
                return session.forget();
            }
            session.exchange(&chance_bytes(chance, most), seen)?;
        }
        session.finish()
    }

    fn long(&mut self, load: &Load, chance: &mut Chance, seen: &mut u64) -> Result<Ended, String> {
        let mut session = self.open(load, chance, seen)?;
        while !load.is_paused() {
            if session.is_forgotten() {
                return session.forget();
            }
            session.exchange(&chance_bytes(chance, 2 << 10), seen)?;
            thread::sleep(Duration::from_millis(chance.between(50, 400)));
        }
        session.finish()
    }

    /// Connects, announces a client, and hears its address from the target.
    fn open<'load>(
        &mut self,
        load: &'load Load,
        chance: &mut Chance,
        seen: &mut u64,
    ) -> Result<Session<'load>, String> {
        *seen = load.disturbance.load(SeqCst);
        let balancer = load.balancer.load(SeqCst);
        let port = 1024 + u16::try_from(self.sessions % 64_000).expect("small");
        self.sessions += 1;
        let (family, over) = (either(chance), either(chance));
        let (client, frontend) = (client(self.number, family, port), SocketAddr::new(family.frontend(), 443));
        let gateway = World::address(over, TCP);
        let stream = TcpStream::connect_timeout(&gateway, PATIENCE)
            .map_err(|error| format!("{client}: connecting to {gateway}: {error}"))?;
        count(&load.counts.made);
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let header = match chance.between(0, 2) {
            0 => Version::V1.header(client, frontend),
            1 => Version::V2.header(client, frontend),
            _ => V2::proxy(client, frontend).tlv(0x05, b"soak").tlv(0xE0, &[0; 8]).to_bytes(),
        };
        let mut session = Session { load, stream, client, balancer };
        session.announce(&header, chance)?;
        *seen = load.disturbance.load(SeqCst);
        Ok(session)
    }
}

/// Between one byte and `most`.
fn chance_bytes(chance: &mut Chance, most: u64) -> Vec<u8> {
    let length = chance.between(1, most);
    chance.bytes(usize::try_from(length).expect("small"))
}

struct Session<'load> {
    load: &'load Load,
    stream: TcpStream,
    client: SocketAddr,
    /// Which life of the balancer it belongs to.
    balancer: u64,
}

impl Session<'_> {
    /// The header, in one piece or in two, and the target's greeting.
    fn announce(&mut self, header: &[u8], chance: &mut Chance) -> Result<(), String> {
        if chance.one_in(4) {
            let cut = usize::try_from(chance.between(1, header.len() as u64 - 1)).expect("small");
            self.send(&header[..cut])?;
            thread::sleep(Duration::from_millis(chance.between(1, 20)));
            self.send(&header[cut..])?;
        } else {
            self.send(header)?;
        }
        let greeting = format!("{}\n", self.client.ip());
        self.expect(greeting.as_bytes())
    }

    /// Bytes there and back.
    fn exchange(&mut self, bytes: &[u8], seen: &mut u64) -> Result<(), String> {
        let now = self.load.disturbance.load(SeqCst);
        self.send(bytes)?;
        self.expect(bytes)?;
        self.load.counts.bytes.fetch_add(bytes.len() as u64, SeqCst);
        *seen = now;
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| self.tell("sending", &error))
    }

    fn expect(&mut self, expected: &[u8]) -> Result<(), String> {
        let mut received = vec![0; expected.len()];
        self.stream.read_exact(&mut received).map_err(|error| self.tell("receiving", &error))?;
        if received == expected {
            return Ok(());
        }
        // Nothing that a fault may do excuses wrong bytes.
        let at = received.iter().zip(expected).position(|(got, sent)| got != sent);
        let reason = format!("{}: other bytes came than were sent, from byte {at:?} on", self.client);
        self.load.fail(reason.clone());
        Err(reason)
    }

    /// The end in order, from both sides.
    fn finish(mut self) -> Result<Ended, String> {
        let finished = self.stream.shutdown(std::net::Shutdown::Write);
        finished.map_err(|error| self.tell("finishing", &error))?;
        match self.stream.read(&mut [0]) {
            Ok(0) => Ok(Ended::Whole),
            Ok(_) => Err(format!("{}: a byte came that nobody sent", self.client)),
            Err(error) => Err(self.tell("waiting for the end", &error)),
        }
    }

    fn is_forgotten(&self) -> bool {
        self.load.balancer.load(SeqCst) != self.balancer
    }

    /// What a balancer's kernel does when the process is gone.
    fn forget(self) -> Result<Ended, String> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
        Ok(Ended::Forgotten)
    }

    fn tell(&self, doing: &str, error: &std::io::Error) -> String {
        let from = self.stream.local_addr().map(|address| address.to_string()).unwrap_or_default();
        format!("client {} by way of {from}: {doing}: {error}", self.client)
    }
}
