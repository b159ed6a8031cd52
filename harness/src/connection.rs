//! One TCP connection as a test holds it: at the balancer's end or at the target's.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use crate::expect::{DEADLINE, eventually};
use crate::netns::Namespace;
use crate::sockets::{self, Queues};

/// A connection on which nothing waits longer than [`DEADLINE`]. All methods panic with what was expected instead.
///
/// Methods take `&self`, so that two threads can use the two directions.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    /// Where the two ends' sockets are listed, if both are in the test's hands.
    ends: Option<Ends>,
}

/// How the other side ended its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order: FIN.
    Finished,
    /// With a reset: RST.
    Reset,
}

/// The namespaces of this end and of the other.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    pub(crate) near: Namespace,
    pub(crate) far: Namespace,
}

/// A receive buffer that is full soon, in bytes: its reader need not be very slow to slow its sender.
pub(crate) const SMALL_BUFFER: usize = 16 * 1024;

impl Connection {
    /// Connects from `namespace` to `address`, as any client does.
    ///
    /// # Panics
    ///
    /// If nobody listens there.
    #[track_caller]
    pub fn open(namespace: &Namespace, address: SocketAddr) -> Self {
        let stream = namespace.run(|| TcpStream::connect_timeout(&address, DEADLINE));
        let stream =
            stream.unwrap_or_else(|error| panic!("{}: connecting to {address}: {error}", namespace.name()));
        Self::new(stream, address, None)
    }

    /// `peer` is what connect(2) was given or accept(2) has returned.
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr, ends: Option<Ends>) -> Self {
        // What the test sends as one piece leaves as one piece, at once.
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
        stream.set_write_timeout(Some(DEADLINE)).expect("not zero");
        let peer = stream.peer_addr().unwrap_or(peer);
        Self { stream, peer, ends }
    }

    /// The other end as getpeername(2) reported it when the connection was made: at the target, what any server
    /// would log. Known also after a reset, when the kernel has forgotten it.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// This end's address.
    #[track_caller]
    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().unwrap_or_else(|error| panic!("getsockname: {error}"))
    }

    /// Sends all of `bytes`, in one piece if they fit.
    #[track_caller]
    pub fn send(&self, bytes: &[u8]) {
        let sent = (&self.stream).write_all(bytes);
        sent.unwrap_or_else(|error| panic!("sending {} bytes to {}: {error}", bytes.len(), self.peer));
    }

    /// Sends `bytes` to an other side that may have ended the connection already.
    pub fn offer(&self, bytes: &[u8]) {
        // How it ended is for `expect_closed` and its like to look at.
        (&self.stream).write_all(bytes).ok();
    }

    /// Sends `bytes` one at a time, each only when the other side has taken the one before from its socket.
    #[track_caller]
    pub fn drip(&self, bytes: &[u8]) {
        for byte in bytes {
            self.send(std::slice::from_ref(byte));
            self.wait_until_read();
        }
    }

    /// Sends `bytes` in two pieces, the second only when the other side has taken the first from its socket.
    #[track_caller]
    pub fn send_cut_at(&self, cut: usize, bytes: &[u8]) {
        let (first, second) = bytes.split_at(cut);
        self.send(first);
        self.wait_until_read();
        self.send(second);
    }

    /// Waits until everything sent so far was read by the program at the other end, or that has closed.
    ///
    /// Only at the balancer's end.
    #[track_caller]
    pub fn wait_until_read(&self) {
        let ends =
            self.ends.as_ref().expect("the other end's socket table is known at the balancer's end only");
        let (near, far) = (self.local().port(), self.peer.port());
        eventually("the gateway to read what was sent", || {
            let sent = sockets::queues(&ends.near, near, far)
                .is_none_or(|Queues { unacknowledged, .. }| unacknowledged == 0);
            // In this order: what is acknowledged is in the other end's queue or was read from it.
            let read =
                || sockets::queues(&ends.far, far, near).is_none_or(|Queues { unread, .. }| unread == 0);
            (sent && read()).then_some(())
        });
    }

    /// Receives exactly `count` bytes.
    #[track_caller]
    pub fn receive(&self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let mut got = 0;
        while got < count {
            match (&self.stream).read(&mut bytes[got..]) {
                Ok(0) => panic!("{} closed after {:?}", self.peer, Preview(&bytes[..got])),
                Ok(more) => got += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} from {} after {:?}", self.peer, Preview(&bytes[..got])),
            }
        }
        bytes
    }

    /// Receives `expected`, neither less nor anything else.
    #[track_caller]
    pub fn expect(&self, expected: &[u8]) {
        let got = self.receive(expected.len());
        assert!(got == expected, "expected {:?}, got {:?}", Preview(expected), Preview(&got));
    }

    /// Receives until the other side ends its direction: what came, and how it ended.
    #[track_caller]
    pub fn receive_all(&self) -> (Vec<u8>, End) {
        let mut bytes = Vec::new();
        let end = self.receive_until_end(|piece| bytes.extend(piece));
        (bytes, end)
    }

    /// Receives until the end like a reader that cannot keep up: small pieces with a pause behind each.
    #[track_caller]
    pub fn receive_all_slowly(&self) -> (Vec<u8>, End) {
        let mut bytes = Vec::new();
        let end = self.receive_until_end(|piece| {
            bytes.extend(piece);
            // Makes the sender fill its buffers; nothing is inferred from it having passed.
            std::thread::sleep(Duration::from_millis(1));
        });
        (bytes, end)
    }

    /// Sends back whatever comes, until the other side ends its direction; then ends this one.
    #[track_caller]
    pub fn echo(&self) {
        let mut piece = [0; 4096];
        loop {
            match (&self.stream).read(&mut piece) {
                Ok(0) => return drop(self.stream.shutdown(Shutdown::Write)),
                Ok(length) => self.offer(&piece[..length]),
                // A peer that is silent for long, or one that is gone: its own test says whether it should be.
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(_) => return,
            }
        }
    }

    /// Expects that the other side ends its direction in order, without another byte.
    #[track_caller]
    pub fn expect_end(&self) {
        self.expect_nothing_but(End::Finished);
    }

    /// Expects a reset, without another byte.
    #[track_caller]
    pub fn expect_reset(&self) {
        self.expect_nothing_but(End::Reset);
    }

    /// Expects that the other side ends the connection, in whichever way, without another byte.
    ///
    /// A server that closes a socket with unread bytes in it sends RST: no choice of the program's.
    #[track_caller]
    pub fn expect_closed(&self) {
        let (bytes, _) = self.receive_all();
        assert!(bytes.is_empty(), "nothing was to come from {}, but {:?} did", self.peer, Preview(&bytes));
    }

    /// Sends `bytes` and waits a moment: whether the other side has ended the connection, before or after.
    ///
    /// For a peer that goes on sending until it is turned away.
    pub fn is_closed_after_sending(&self, bytes: &[u8], moment: Duration) -> bool {
        self.stream.set_read_timeout(Some(moment)).expect("not zero");
        let sent = (&self.stream).write_all(bytes);
        let heard = (&self.stream).read(&mut [0]);
        self.stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
        let open = matches!(&heard, Err(error) if error.kind() == ErrorKind::WouldBlock);
        sent.is_err() || !open
    }

    /// Ends this direction in order (FIN); the other one stays open.
    #[track_caller]
    pub fn finish(&self) {
        let done = self.stream.shutdown(Shutdown::Write);
        done.unwrap_or_else(|error| panic!("shutdown towards {}: {error}", self.peer));
    }

    /// The same toward an other side that may have ended the connection already.
    pub fn offer_end(&self) {
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// Ends the connection with a reset (RST).
    pub fn reset(self) {
        // Lingering for no time at all: close(2) discards what is queued and sends RST.
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }

    #[track_caller]
    fn expect_nothing_but(&self, expected: End) {
        let (bytes, end) = self.receive_all();
        assert!(bytes.is_empty(), "nothing was to come from {}, but {:?} did", self.peer, Preview(&bytes));
        assert_eq!(end, expected, "how {} ended its direction", self.peer);
    }

    #[track_caller]
    fn receive_until_end(&self, mut each: impl FnMut(&[u8])) -> End {
        let mut buffer = [0; 16 * 1024];
        loop {
            match (&self.stream).read(&mut buffer) {
                Ok(0) => return End::Finished,
                Ok(count) => each(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return End::Reset,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("{} has not ended its direction within {DEADLINE:?}", self.peer)
                }
                Err(error) => panic!("{error} from {}", self.peer),
            }
        }
    }
}

/// Bytes in a message: the first ones, escaped, and how many there are.
struct Preview<'a>(&'a [u8]);

impl std::fmt::Debug for Preview<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(bytes) = self;
        let shown = &bytes[..bytes.len().min(80)];
        write!(formatter, "{} bytes \"{}\"", bytes.len(), shown.escape_ascii())?;
        formatter.write_str(if shown.len() < bytes.len() { "…" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::isolated;

    fn pair() -> (Connection, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let near = TcpStream::connect(address).expect("listening");
        let (far, peer) = listener.accept().expect("connected");
        (Connection::new(near, address, None), Connection::new(far, peer, None))
    }

    #[test]
    fn an_end_in_order_and_a_reset_are_told_apart() {
        let (near, far) = pair();
        near.send(b"last words");
        near.finish();
        assert_eq!(far.receive_all(), (b"last words".to_vec(), End::Finished));
        far.reset();
        near.expect_reset();
    }

    #[test]
    #[should_panic(expected = "expected 2 bytes \"ab\", got 2 bytes \"a\\x00\"")]
    fn other_bytes_than_expected_are_shown() {
        let (near, far) = pair();
        near.send(b"a\0");
        far.expect(b"ab");
    }

    #[test]
    #[should_panic(expected = "nothing was to come")]
    fn bytes_before_the_end_are_not_nothing() {
        let (near, far) = pair();
        near.send(b"answer");
        drop(near);
        far.expect_closed();
    }

    #[test]
    fn dripped_bytes_are_read_one_by_one() {
        isolated(|| {
            // One namespace is enough for loopback; both names lead to it.
            let here = Namespace::new("here");
            let ends = Ends { near: here.clone(), far: here };
            let listener = ends.near.run(|| TcpListener::bind("[::]:0")).expect("a fresh namespace");
            let address =
                SocketAddr::new([127, 0, 0, 1].into(), listener.local_addr().expect("bound").port());
            let near = ends.near.run(|| TcpStream::connect(address)).expect("listening");
            let near = Connection::new(near, address, Some(ends));
            let sizes = thread::spawn(move || {
                let (mut far, _) = listener.accept().expect("connected");
                let mut buffer = [0; 64];
                std::iter::from_fn(|| far.read(&mut buffer).ok().filter(|&count| count > 0))
                    .collect::<Vec<_>>()
            });
            near.drip(b"abc");
            near.send_cut_at(2, b"12345");
            near.finish();
            assert_eq!(sizes.join().expect("no panic"), [1, 1, 1, 2, 3]);
        });
    }
}
