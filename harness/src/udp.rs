//! Datagrams: a balancer's sockets and a server that tells each client what it sees.

use std::io::{ErrorKind, Result};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use crate::expect::DEADLINE;
use crate::netns::Namespace;
use crate::topology::Topology;

/// One of a balancer's sockets.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
}

impl Datagrams {
    /// A socket of `net`'s balancer at `ip`, from a port of the kernel's choice.
    ///
    /// # Panics
    ///
    /// If the balancer has no such address.
    #[track_caller]
    pub fn of(net: &Topology, ip: IpAddr) -> Self {
        Self::bind(&net.balancer, SocketAddr::new(ip, 0))
    }

    /// A socket of anybody's.
    ///
    /// # Panics
    ///
    /// If the address is not to be had.
    #[track_caller]
    pub fn bind(namespace: &Namespace, address: SocketAddr) -> Self {
        let socket = namespace.run(|| UdpSocket::bind(address));
        let socket = socket.unwrap_or_else(|error| panic!("{}: {address}: {error}", namespace.name()));
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
        Self { socket }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    /// Sends one datagram.
    ///
    /// # Panics
    ///
    /// If the kernel does not take it.
    #[track_caller]
    pub fn send(&self, to: SocketAddr, header: &[u8], payload: &[u8]) {
        let datagram = [header, payload].concat();
        let sent =
            self.socket.send_to(&datagram, to).unwrap_or_else(|error| panic!("sending to {to}: {error}"));
        assert_eq!(sent, datagram.len());
    }

    /// Sends datagrams of one size in one piece, which the kernel takes apart as late as it can (UDP_SEGMENT, udp(7)).
    ///
    /// # Panics
    ///
    /// If the kernel does not take them, or if they are of different sizes.
    #[track_caller]
    pub fn send_together(&self, to: SocketAddr, datagrams: &[Vec<u8>]) {
        let size = datagrams.first().expect("at least one").len();
        assert!(datagrams.iter().all(|datagram| datagram.len() == size), "they have one size");
        let set = |size: usize| {
            let size = i32::try_from(size).expect("a datagram's size");
            setsockopt(&self.socket, sockopt::UdpGsoSegment, &size).expect("Linux 4.18");
        };
        set(size);
        let together = datagrams.concat();
        let sent =
            self.socket.send_to(&together, to).unwrap_or_else(|error| panic!("sending to {to}: {error}"));
        assert_eq!(sent, together.len());
        set(0);
    }

    /// The next datagram, and who sent it.
    ///
    /// # Panics
    ///
    /// If none comes.
    #[track_caller]
    pub fn receive(&self) -> (Vec<u8>, SocketAddr) {
        self.try_receive(DEADLINE).unwrap_or_else(|| panic!("no datagram came to {}", self.address()))
    }

    /// The next datagram, if one comes within `patience`.
    #[track_caller]
    pub fn try_receive(&self, patience: Duration) -> Option<(Vec<u8>, SocketAddr)> {
        self.socket.set_read_timeout(Some(patience)).expect("longer than nothing");
        let mut buffer = vec![0; 1 << 16];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) => return Some((buffer[..length].to_vec(), from)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return None;
                }
                // What ICMP brought for a datagram sent before.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::Interrupted) => {}
                Err(error) => panic!("receiving: {error}"),
            }
        }
    }

    /// Sends one datagram and expects `answer`, from the address it was sent to.
    ///
    /// # Panics
    ///
    /// If anything else comes, or nothing.
    #[track_caller]
    pub fn ask(&self, to: SocketAddr, header: &[u8], question: &[u8], answer: &[u8]) {
        self.send(to, header, question);
        self.expect(to, answer);
    }

    /// Expects `answer` from `from`.
    ///
    /// # Panics
    ///
    /// If anything else comes, or nothing.
    #[track_caller]
    pub fn expect(&self, from: SocketAddr, answer: &[u8]) {
        let (received, sender) = self.receive();
        assert_eq!(sender, from, "the answer is from another address");
        assert!(
            received == answer,
            "{} bytes came, {:?}…, not {} bytes, {:?}…",
            received.len(),
            String::from_utf8_lossy(&received[..received.len().min(80)]),
            answer.len(),
            String::from_utf8_lossy(&answer[..answer.len().min(80)])
        );
    }
}

/// A server that answers each datagram with the sender's address as it sees it, a space, and what it got.
///
/// It knows nothing of PROXY. It lives on a thread of its own until it is dropped.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    seen: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Answers at `address` in `namespace`; port 0 lets the kernel choose.
    ///
    /// # Panics
    ///
    /// If the address is not to be had.
    #[track_caller]
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Self {
        let socket = namespace.run(|| UdpSocket::bind(address));
        let socket = socket.unwrap_or_else(|error| panic!("{}: {address}: {error}", namespace.name()));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
        let address = socket.local_addr().expect("bound");
        let (seen, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // Nothing, or what ICMP brought for an answer before.
                answer(&socket, &count).ok();
            }
        });
        Self { address, seen, stop, thread: Some(thread) }
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many datagrams it got.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// What it answers to `question` of `client`; to an empty question nothing at all, and that in a datagram.
    pub fn answer(client: SocketAddr, question: &[u8]) -> Vec<u8> {
        if question.is_empty() {
            return Vec::new();
        }
        // A large question leaves no room for more than itself.
        let said = format!("{client} ");
        let question = &question[..question.len().min(LARGEST - said.len())];
        [said.as_bytes(), question].concat()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic, and if it did the test has failed already.
            thread.join().ok();
        }
    }
}

fn answer(socket: &UdpSocket, seen: &AtomicU64) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let (length, client) = socket.recv_from(&mut buffer)?;
    seen.fetch_add(1, Ordering::Relaxed);
    socket.send_to(&Echo::answer(client, &buffer[..length]), client)?;
    Ok(())
}

/// Largest payload of a UDP datagram over IPv4.
const LARGEST: usize = 65_507;
