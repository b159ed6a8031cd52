//! Datagrams over many flows, each from a client and a socket of its own.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use harness::{Family, V2};

use crate::datagram;
use crate::poll::{EventFlags, Poll};
use crate::socket;
use crate::wire::{Hello, Role};

use super::{Outcome, Route, Shared};

/// A datagram there and the same back: so many are on their way at once, and all flows take turns.
pub(crate) fn exchange(route: &Route<'_>, size: usize, flows: usize, shared: &Shared) -> io::Result<Outcome> {
    let mut outcome = Outcome::new();
    let mut poll = Poll::new()?;
    let mut flows = flows_of(route, flows, Role::Echo)?;
    for (name, flow) in flows.iter().enumerate() {
        poll.add(&flow.socket, name, EventFlags::IN)?;
    }
    let at_once = flows.len().min(AT_ONCE);
    let mut turns = (0..flows.len()).cycle();
    let mut waiting: VecDeque<(Instant, usize, u64)> = VecDeque::new();
    let (mut buffer, mut ready, mut in_flight, mut answered) = (vec![0; 2048], Vec::new(), 0, 0);
    loop {
        while in_flight < at_once && !shared.stopped() {
            let Some(name) = turns.find(|&name| !flows[name].waits) else { break };
            let flow = &mut flows[name];
            // Full or refused: it is lost, and noticed as one.
            flow.send(size).ok();
            flow.waits = true;
            in_flight += 1;
            waiting.push_back((flow.start, name, flow.hello.seed));
        }
        if in_flight == 0 {
            return Ok(outcome);
        }
        poll.wait(Duration::from_millis(5), &mut ready)?;
        for &(name, _) in &ready {
            let flow = &mut flows[name];
            let Ok(Some(read)) = socket::read(&flow.socket, &mut buffer) else { continue };
            match datagram::read(&buffer[..read]) {
                Some(hello) if hello == flow.hello && read == size => {
                    // The answer to one that was given up for lost may still come.
                    if flow.waits {
                        flow.waits = false;
                        in_flight -= 1;
                        answered += 1;
                        Shared::add(&shared.operations, 1);
                        if shared.is_measuring() {
                            let elapsed = flow.start.elapsed().as_nanos();
                            outcome.latency.saturating_record(elapsed.try_into().unwrap_or(u64::MAX));
                        }
                    }
                }
                Some(hello) if hello.client == flow.hello.client && hello.seed < flow.hello.seed => {}
                Some(_) => outcome.fault("an answer went to another client's flow".to_owned()),
                None => outcome.fault("an answer's bytes are not what was sent".to_owned()),
            }
        }
        let now = Instant::now();
        while let Some(&(start, name, seed)) = waiting.front() {
            let flow = &mut flows[name];
            let current = flow.waits && flow.hello.seed == seed;
            if current && now.duration_since(start) < LOST {
                break;
            }
            if current {
                flow.waits = false;
                in_flight -= 1;
                answered += 1;
                outcome.lost += 1;
            }
            waiting.pop_front();
        }
        // Every flow has been used once: what is measured from here on is no set-up.
        if answered >= flows.len() {
            shared.running.store(true, Ordering::Relaxed);
        }
    }
}

/// Flows that were answered once.
#[derive(Debug)]
pub(crate) struct OpenFlows {
    /// They last as long as their sockets here.
    pub(crate) flows: Vec<OwnedFd>,
    /// Never answered.
    pub(crate) silent: usize,
}

/// Opens `count` flows, each with a question that is answered; one that is not is asked again, and then given up.
pub(crate) fn open(route: &Route<'_>, count: usize) -> io::Result<OpenFlows> {
    let mut opened = OpenFlows { flows: Vec::with_capacity(count), silent: 0 };
    let mut buffer = vec![0; 2048];
    let mut left = count;
    while left > 0 {
        let mut group = flows_of(route, left.min(AT_ONCE), Role::Echo)?;
        left -= group.len();
        let mut answered = vec![false; group.len()];
        for _ in 0..ATTEMPTS {
            let mut poll = Poll::new()?;
            let mut ready = Vec::new();
            let mut waiting = 0;
            for (name, flow) in group.iter_mut().enumerate().filter(|(name, _)| !answered[*name]) {
                poll.add(&flow.socket, name, EventFlags::IN)?;
                // Full or refused: it is lost, and noticed as one.
                flow.send(Hello::LEN).ok();
                waiting += 1;
            }
            let start = Instant::now();
            while waiting > 0 && start.elapsed() < LOST {
                poll.wait(Duration::from_millis(20), &mut ready)?;
                for &(name, _) in &ready {
                    let flow = &group[name];
                    let Ok(Some(read)) = socket::read(&flow.socket, &mut buffer) else { continue };
                    if !answered[name] && datagram::read(&buffer[..read]) == Some(flow.hello) {
                        answered[name] = true;
                        waiting -= 1;
                    }
                }
            }
        }
        opened.silent += answered.iter().filter(|answered| !**answered).count();
        opened.flows.extend(
            group.into_iter().zip(answered).filter(|(_, answered)| *answered).map(|(flow, _)| flow.socket),
        );
    }
    Ok(opened)
}

/// Datagrams one way, round all flows, without a pause.
pub(crate) fn flood(route: &Route<'_>, size: usize, flows: usize, shared: &Shared) -> io::Result<Outcome> {
    let mut flows = flows_of(route, flows, Role::Sink)?;
    // One by one, so that every flow is known before the flood begins.
    for flow in &mut flows {
        flow.send(size).ok();
        std::thread::sleep(Duration::from_micros(200));
    }
    shared.running.store(true, Ordering::Relaxed);
    while !shared.stopped() {
        for flow in &mut flows {
            if flow.send(size).is_ok_and(|sent| sent) {
                Shared::add(&shared.operations, 1);
            }
        }
    }
    Ok(Outcome::new())
}

fn flows_of(route: &Route<'_>, flows: usize, role: Role) -> io::Result<Vec<Flow>> {
    (0..flows).map(|_| Flow::new(route, role)).collect()
}

#[derive(Debug)]
struct Flow {
    socket: OwnedFd,
    /// The PROXY header, and room for what follows.
    bytes: Vec<u8>,
    header: usize,
    hello: Hello,
    start: Instant,
    waits: bool,
}

impl Flow {
    fn new(route: &Route<'_>, role: Role) -> io::Result<Self> {
        let socket = socket::datagrams_to(route.to)?;
        let (bytes, client) = match route.announce {
            Some(_) => {
                let client = route.clients.next(Family::of(route.to.ip()));
                let mut header = V2::proxy(client, route.to);
                header.transport = DGRAM;
                (header.to_bytes(), client)
            }
            None => (Vec::new(), socket::local(&socket)?),
        };
        let hello = Hello { client, role, seed: 0 };
        Ok(Self { header: bytes.len(), socket, bytes, hello, start: Instant::now(), waits: false })
    }

    /// Sends the flow's next datagram; whether it is on its way.
    fn send(&mut self, size: usize) -> io::Result<bool> {
        self.hello.seed += 1;
        self.bytes.truncate(self.header);
        datagram::write(self.hello, size, &mut self.bytes);
        self.start = Instant::now();
        Ok(socket::write(&self.socket, &self.bytes)?.is_some())
    }
}

/// The lower nibble of byte 13 of a version 2 header (§2.2).
const DGRAM: u8 = 2;
const AT_ONCE: usize = 64;
/// How often a flow is asked before it is given up.
const ATTEMPTS: usize = 8;
/// When a datagram that has not come back is given up.
const LOST: Duration = Duration::from_millis(250);
