//! The load generator: one thread with its own epoll for each kind of load.
//!
//! A load runs from its call until [`Shared::stop`], and then ends its sessions in order, so that sent and received
//! bytes can be compared. What it counts meanwhile is read by the thread that measures.

pub(crate) mod bulk;
pub(crate) mod connections;
pub(crate) mod datagrams;
pub(crate) mod open;
pub(crate) mod ping_pong;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use harness::{Family, Version};
use hdrhistogram::Histogram;

use crate::clients::Clients;
use crate::pattern::mix;
use crate::socket;
use crate::wire::{Hello, Role};

/// The way that sessions of a load take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'a> {
    /// The gateway, or the target itself.
    pub(crate) to: SocketAddr,
    /// How clients are announced; `None` for direct connections, whose client is the generator.
    pub(crate) announce: Option<Version>,
    pub(crate) clients: &'a Clients,
}

/// A connection that is being made.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) socket: OwnedFd,
    /// Header and hello, to be sent as soon as it stands.
    pub(crate) greeting: Vec<u8>,
    pub(crate) seed: u64,
}

impl Route<'_> {
    pub(crate) fn dial(&self, role: Role) -> io::Result<Dialled> {
        let socket = socket::connection(self.to)?;
        let (mut greeting, client) = match self.announce {
            Some(version) => {
                let client = self.clients.next(Family::of(self.to.ip()));
                (version.header(client, self.to), client)
            }
            None => (Vec::new(), socket::local(&socket)?),
        };
        let seed = seed(client);
        greeting.extend(Hello { client, role, seed }.to_bytes());
        Ok(Dialled { socket, greeting, seed })
    }
}

/// What the load's thread and the measuring one share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
    /// Round trips, connections, datagrams.
    pub(crate) operations: AtomicU64,
    /// Latencies are kept only while this is set.
    pub(crate) measuring: AtomicBool,
    pub(crate) stop: AtomicBool,
    /// The load runs at full strength: sessions are open, flows are known.
    pub(crate) running: AtomicBool,
}

impl Shared {
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn is_measuring(&self) -> bool {
        self.measuring.load(Ordering::Relaxed)
    }

    pub(crate) fn add(counter: &AtomicU64, amount: usize) {
        counter.fetch_add(amount as u64, Ordering::Relaxed);
    }
}

/// What a load has to say at its end.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// What must not happen, as sentences.
    pub(crate) faults: Vec<String>,
    /// Datagrams that were not answered in time.
    pub(crate) lost: u64,
}

impl Outcome {
    pub(crate) fn new() -> Self {
        let latency = Histogram::new_with_bounds(100, 60_000_000_000, 3).expect("the bounds are in order");
        Self { latency, faults: Vec::new(), lost: 0 }
    }

    /// Adds a fault; of one kind only the first few.
    pub(crate) fn fault(&mut self, fault: String) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault);
        }
    }
}

/// A session's seed: another one for each client.
fn seed(client: SocketAddr) -> u64 {
    let bytes = crate::wire::address(client);
    bytes.chunks(8).fold(0, |seed, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(seed ^ u64::from_le_bytes(word))
    })
}

const MOST_FAULTS: usize = 5;
