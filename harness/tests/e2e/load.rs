//! What many connections cost the gateway, and that it is given back.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use harness::expect::eventually;
use harness::{Balancer, Gateway, Target, Topology, Usage, Version, addr, isolated};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::support::{client, header};
use harness::Family::V4;

/// What the process that serves uses.
fn usage(gateway: &Gateway) -> Usage {
    Usage::of(gateway.worker()).expect("a running process")
}

/// A gateway on two workers, and who connects to it.
struct Load {
    gateway: Gateway,
    balancer: Balancer,
}

impl Load {
    fn before(net: &Topology, target: SocketAddr) -> Self {
        // Both ends of every connection are this process's.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the soft limit may be raised");
        let gateway = Gateway::to(net, target).with(["--quiet", "--workers", "2"]).start();
        Self { gateway, balancer: Balancer::of(net) }
    }

    /// The gateway connected to its target before it served.
    fn skip_self_check(&self, target: &Target) {
        let downstream = self.balancer.announce(self.address(), &header(Version::V2, V4), b"");
        while target.accept().peer() != client(V4) {}
        drop(downstream);
    }

    fn address(&self) -> SocketAddr {
        self.gateway.address(V4)
    }
}

#[test]
fn after_thousands_of_connections_and_bulk_descriptors_and_memory_are_back() {
    isolated(|| {
        let net = Topology::new();
        let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
        let load = Load::before(&net, target.address());
        load.skip_self_check(&target);
        let crowd = |size: usize| {
            let sessions: Vec<_> = (0..size)
                .map(|number| {
                    let client = SocketAddr::new(V4.client(), 10_000 + number as u16);
                    let header = Version::V2.header(client, addr("10.0.0.1:22"));
                    let downstream = load.balancer.announce(load.address(), &header, b"");
                    (downstream, target.accept())
                })
                .collect();
            sessions.iter().for_each(|(downstream, upstream)| {
                downstream.send(b"bytes");
                upstream.expect(b"bytes");
            });
        };
        let started = usage(&load.gateway);
        let settled = |name: &str, descriptors: usize| {
            eventually(name, || {
                let usage = usage(&load.gateway);
                (usage.descriptors <= descriptors).then_some(usage)
            })
        };
        // The first ones bring what every worker has: its buffer, and the allocator's own memory.
        crowd(200);
        let before = settled("the first sessions' descriptors to be closed", started.descriptors);
        for _ in 0..10 {
            crowd(300);
        }
        // Enough for every worker to have spliced.
        for _ in 0..4 {
            let downstream = load.balancer.announce(load.address(), &header(Version::V2, V4), b"");
            let upstream = target.accept();
            let chunk = vec![7; 16 << 20];
            thread::scope(|scope| {
                scope.spawn(|| downstream.send(&chunk));
                assert!(upstream.receive(chunk.len()) == chunk);
            });
        }
        let after = settled("all descriptors to be closed, those of the pipes too", started.descriptors);
        assert!(
            after.resident_kib <= before.resident_kib + 4096,
            "{} KiB after 3,000 sessions and 64 MiB, {} KiB before",
            after.resident_kib,
            before.resident_kib
        );
    });
}

/// The bound that docs/operations.md states: 64 KiB for each, or one of its worker's 32 pipes.
#[test]
fn a_thousand_clients_that_do_not_read_cost_a_bounded_amount_of_memory() {
    isolated(|| {
        let net = Topology::new();
        let listener = net.gateway.run(|| TcpListener::bind("127.0.0.1:0")).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let load = Load::before(&net, listener.local_addr().expect("bound"));
        let before = usage(&load.gateway);
        let sessions: Vec<_> = (0..1000_u16)
            .map(|number| {
                let client = SocketAddr::new(V4.client(), 10_000 + number);
                let header = Version::V2.header(client, addr("10.0.0.1:22"));
                let downstream = load.balancer.announce(load.address(), &header, b"");
                (downstream, accept(&listener))
            })
            .collect();
        // Everything that the targets can get rid of: no client reads.
        let chunk = vec![7; 1 << 18];
        let mut quiet = 0;
        while quiet < 3 {
            let mut sent = 0;
            for (_, upstream) in &sessions {
                sent += fill(upstream, &chunk);
            }
            quiet = if sent == 0 { quiet + 1 } else { 0 };
            thread::sleep(std::time::Duration::from_millis(50));
        }
        let full = usage(&load.gateway);
        let grown = full.resident_kib.saturating_sub(before.resident_kib);
        // 64 KiB and the session itself.
        assert!(grown <= 1000 * 68, "{grown} KiB for a thousand sessions");
        assert!(full.pipes <= before.pipes + 2 * 2 * 32, "{} descriptors of pipes", full.pipes);

        // And a new one is served as ever.
        let downstream = load.balancer.announce(load.address(), &header(Version::V2, V4), b"");
        let mut upstream = accept(&listener);
        upstream.write_all(b"answer").expect("room for it");
        downstream.expect(b"answer");
    });
}

fn accept(listener: &TcpListener) -> TcpStream {
    let accepted = eventually("a connection to the target", || match listener.accept() {
        // The gateway's self-check comes from another address.
        Ok((stream, peer)) => (peer.ip() == V4.client()).then_some(stream),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    });
    accepted.set_nonblocking(true).expect("a socket");
    accepted
}

/// Writes until the socket takes nothing more.
fn fill(mut stream: &TcpStream, chunk: &[u8]) -> usize {
    let mut sent = 0;
    // At most a little of each at a time, so that all fill up together.
    while sent < 4 * chunk.len() {
        match stream.write(chunk) {
            Ok(written) => sent += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock));
    sent
}
