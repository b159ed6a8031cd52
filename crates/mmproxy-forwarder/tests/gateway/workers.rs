//! Several threads, one address.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle, ThreadId};

use mmproxy_forwarder::{
    CloseReason, Drained, Gateway, GatewayConfig, Listener, Observer, ServeError, SessionLimits,
    SessionOpened, SessionReport, Shutdown,
};

use crate::rig::{DEADLINE, End, UNKNOWN, accept, config, end, patient, read_to_end, runtime};

/// A gateway on two threads that share a port.
struct Pair {
    address: SocketAddr,
    shutdown: Shutdown,
    threads: Vec<JoinHandle<Result<Drained, ServeError>>>,
    opened: mpsc::Receiver<(ThreadId, u64)>,
    closed: mpsc::Receiver<CloseReason>,
}

struct Witness {
    opened: mpsc::Sender<(ThreadId, u64)>,
    closed: mpsc::Sender<CloseReason>,
}

impl Observer for Witness {
    fn session_opened(&self, opened: &SessionOpened) {
        self.opened.send((thread::current().id(), opened.id.0)).ok();
    }

    fn session_closed(&self, report: &SessionReport) {
        self.closed.send(report.reason).ok();
    }
}

impl Pair {
    fn start(config: GatewayConfig) -> Self {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap(), Listener::BACKLOG).unwrap();
        let address = first.local_addr();
        let second = first.share(Listener::BACKLOG).unwrap();
        let ((opened, hears_opened), (closed, hears_closed)) = (mpsc::channel(), mpsc::channel());
        let gateway = Gateway::new(config, Witness { opened, closed }).unwrap();
        let shutdown = Shutdown::new();
        let serve = |listener| {
            let (gateway, shutdown) = (gateway.clone(), shutdown.clone());
            thread::spawn(move || runtime().block_on(gateway.serve(listener, &shutdown)))
        };
        let threads = vec![serve(first), serve(second)];
        Self { address, shutdown, threads, opened: hears_opened, closed: hears_closed }
    }

    fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(self.address).unwrap())
    }

    fn stop(self) {
        self.shutdown.cut();
        for thread in self.threads {
            thread.join().unwrap().unwrap();
        }
    }
}

/// Takes whatever comes and throws it away.
fn sink() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let accepting = listener.try_clone().unwrap();
    thread::spawn(move || {
        for mut stream in accepting.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while matches!(stream.read(&mut buffer), Ok(1..)) {}
            });
        }
    });
    listener
}

#[test]
fn connections_are_spread_evenly_also_while_a_worker_is_busy_with_bulk() {
    let target = sink();
    let pair = Pair::start(config("127.0.0.1", &target));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // A stream that never pauses keeps its worker busy.
        let mut bulk = pair.connect();
        bulk.write_all(UNKNOWN).unwrap();
        let (busy, _) = pair.opened.recv_timeout(DEADLINE).unwrap();
        scope.spawn(|| {
            let chunk = vec![b'x'; 1 << 16];
            let mut bulk = bulk;
            while !stop.load(Ordering::Relaxed) {
                bulk.write_all(&chunk).unwrap();
            }
        });
        let mut numbers = Vec::new();
        let mut of_the_busy = 0;
        for _ in 0..1000 {
            let peer = pair.connect();
            let (thread, number) = pair.opened.recv_timeout(DEADLINE).expect("accepted by one of the two");
            of_the_busy += usize::from(thread == busy);
            numbers.push(number);
            drop(peer);
        }
        stop.store(true, Ordering::Relaxed);
        assert!((400..=600).contains(&of_the_busy), "{of_the_busy} of 1000 went to the busy worker");
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 1000, "each session has a number of its own, whichever worker it is on");
    });
    pair.stop();
}

#[test]
fn the_limit_on_sessions_counts_those_of_all_workers() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let pair = Pair::start(config("127.0.0.1", &target).limits(SessionLimits::new(5.try_into().unwrap())));
    let mut peers: Vec<TcpStream> = (0..5).map(|_| pair.connect()).collect();
    for peer in &mut peers {
        peer.write_all(UNKNOWN).unwrap();
    }
    let targets: Vec<TcpStream> = (0..5).map(|_| accept(&target)).collect();
    // Whichever worker it comes to.
    for _ in 0..20 {
        assert_eq!(read_to_end(&mut pair.connect()), (Vec::new(), End::Reset));
        assert_eq!(pair.closed.recv_timeout(DEADLINE), Ok(CloseReason::SessionLimit));
    }
    // Two workers: which target's connection is which peer's is not known.
    peers.iter().chain(&targets).for_each(end);
    for _ in 0..5 {
        assert_eq!(pair.closed.recv_timeout(DEADLINE), Ok(CloseReason::Finished));
    }
    let mut peer = pair.connect();
    peer.write_all(UNKNOWN).unwrap();
    drop(accept(&target));
    pair.stop();
}

#[test]
fn all_workers_stop_when_one_switch_says_so() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let pair = Pair::start(config("127.0.0.1", &target));
    let (mut kept, mut seen) = (Vec::new(), std::collections::HashSet::new());
    while seen.len() < 2 {
        kept.push(pair.connect());
        seen.insert(pair.opened.recv_timeout(DEADLINE).unwrap().0);
    }
    let address = pair.address;
    let sessions = kept.len();
    let closed = {
        pair.shutdown.cut();
        let reports: Vec<_> = (0..sessions).map(|_| pair.closed.recv_timeout(DEADLINE).unwrap()).collect();
        pair.stop();
        reports
    };
    assert!(closed.iter().all(|reason| *reason == CloseReason::Drained), "{closed:?}");
    assert!(TcpStream::connect(address).is_err());
}
