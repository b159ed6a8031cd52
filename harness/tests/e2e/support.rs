//! The usual scene: a client announced over one balancer, one gateway, one target.

use std::net::SocketAddr;
use std::thread;

use harness::{Balancer, Connection, End, Family, Flags, Gateway, Target, Topology, Version, addr};

/// A gateway before a target on the loopback address.
pub(crate) struct Scene {
    pub(crate) net: Topology,
    pub(crate) target: Target,
    pub(crate) gateway: Gateway,
    pub(crate) balancer: Balancer,
    family: Family,
}

impl Scene {
    /// Everything IPv4, and no flags beyond the necessary.
    pub(crate) fn new() -> Self {
        Self::with(Family::V4, |flags| flags)
    }

    /// Balancer, client and target of `family`; `flags` adds to the gateway's command line.
    pub(crate) fn with(family: Family, flags: impl FnOnce(Flags) -> Flags) -> Self {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, SocketAddr::new(family.loopback(), 0));
        let gateway = flags(Gateway::before(&net, &target)).start();
        let balancer = Balancer::of(&net);
        Self { net, target, gateway, balancer, family }
    }

    /// Connects as the balancer, and sends `bytes` in one piece.
    #[track_caller]
    pub(crate) fn open(&self, bytes: &[u8]) -> Connection {
        self.balancer.announce(self.gateway.address(self.family), bytes, b"")
    }

    /// A session under way: the balancer's connection, on which [`client`] was announced, and the target's.
    #[track_caller]
    pub(crate) fn session(&self) -> (Connection, Connection) {
        let downstream = self.open(&header(Version::V2, self.family));
        let upstream = self.target.accept();
        assert_eq!(upstream.peer(), client(self.family));
        (downstream, upstream)
    }

    /// Shows that the gateway still serves.
    #[track_caller]
    pub(crate) fn expect_alive(&self) {
        let (downstream, upstream) = self.session();
        talk(&downstream, &upstream);
    }
}

/// The client that the balancer announces.
pub(crate) fn client(family: Family) -> SocketAddr {
    SocketAddr::new(family.client(), 4711)
}

/// The address that this client connected to at the balancer.
pub(crate) fn frontend(family: Family) -> SocketAddr {
    SocketAddr::new(family.frontend(), 22)
}

/// The header that announces [`client`].
pub(crate) fn header(version: Version, family: Family) -> Vec<u8> {
    version.header(client(family), frontend(family))
}

/// A header with a source of the test's choice, and a destination of the same family.
pub(crate) fn header_from(version: Version, source: &str) -> Vec<u8> {
    let source = addr(source);
    version.header(source, frontend(Family::of(source.ip())))
}

/// Bytes both ways, and the end in order from both sides.
#[track_caller]
pub(crate) fn talk(downstream: &Connection, upstream: &Connection) {
    downstream.send(b"question");
    upstream.expect(b"question");
    upstream.send(b"answer");
    downstream.expect(b"answer");
    downstream.finish();
    upstream.expect_end();
    upstream.finish();
    downstream.expect_end();
}

/// `size` bytes both ways at the same time, each read by `read`, and the end; what arrives is what was sent.
#[track_caller]
pub(crate) fn both_ways_at_once(
    downstream: &Connection,
    upstream: &Connection,
    size: usize,
    read: impl Fn(&Connection) -> (Vec<u8>, End) + Copy + Send,
) {
    let [up, down] = [1, 2].map(|seed| noise(seed, size));
    thread::scope(|scope| {
        for (connection, bytes) in [(downstream, &up), (upstream, &down)] {
            scope.spawn(|| {
                connection.send(bytes);
                connection.finish();
            });
        }
        let at_target = scope.spawn(move || read(upstream));
        let at_client = scope.spawn(move || read(downstream));
        for (reader, sent) in [(at_target, &up), (at_client, &down)] {
            let (received, end) = reader.join().expect("the reader has shown why");
            assert_eq!((received.len(), end), (sent.len(), End::Finished));
            // Not assert_eq: it would print them.
            assert!(
                received == *sent,
                "first difference at {:?}",
                sent.iter().zip(&received).position(|(a, b)| a != b)
            );
        }
    });
}

/// Bytes in which every piece differs from every other, so that none can be lost, doubled or swapped unnoticed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    // xorshift64 (Marsaglia 2003).
    let mut state = seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(len).collect()
}
