//! Gateways, the targets behind them, and who belongs to whom.

use std::collections::HashMap;
use std::io;
use std::iter::once;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mmproxy_forwarder::{
    AllowList, CloseReason, DialOptions, Gateway, GatewayConfig, Listener, Observer, RelayOptions,
    SessionReport, Shutdown, SourcePort, SpliceUse, Targets,
};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::isolated::MARK;
use crate::schedule::{Buffers, Schedule};

/// Threads that relay, where there are several.
const WORKERS: usize = 3;

const BACKLOG: u32 = 128;

/// Longer than anything takes on a machine that is busy with something else.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// How long the gateway holds back a reset for whoever does not take what was said before it. An end that reads no more, and
/// waits for the gateway to take what it has said itself, is freed by nothing else: it has to be before [`DEADLINE`].
const LAST_WORDS: Duration = Duration::from_secs(30);

/// Everything that sessions are played on.
pub(crate) struct Stage {
    places: Vec<Place>,
    waiting: Waiting,
    shutdown: Shutdown,
    gateways: Vec<JoinHandle<()>>,
}

/// Who relays.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Crew {
    /// One worker.
    Alone,
    /// Workers that share each address, as those of the daemon do.
    Several,
    /// Threads of one runtime that take tasks from each other, as an embedder's may.
    Moving,
}

/// A gateway's listeners for one kind of relay and of buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) relay: &'static str,
    pub(crate) buffers: Buffers,
    v4: SocketAddr,
    v6: SocketAddr,
}

/// What a session's report says that the two ends cannot know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) reason: CloseReason,
}

/// The two ends of a session that relays, and its report once it is over.
pub(crate) struct Session {
    pub(crate) place: Place,
    pub(crate) peer: TcpStream,
    pub(crate) target: TcpStream,
    pub(crate) report: oneshot::Receiver<Report>,
}

/// Who waits for the session of a client.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<HashMap<SocketAddr, Expected>>>);

struct Expected {
    accepted: Option<oneshot::Sender<TcpStream>>,
    closed: oneshot::Sender<Report>,
}

impl Stage {
    /// Gateways of all kinds, on threads of their own. In a namespace with a return path.
    pub(crate) async fn set(crew: Crew) -> Self {
        let waiting = Waiting::default();
        let targets = ["127.0.0.1:0", "[::1]:0"].map(|address| StdListener::bind(address).unwrap());
        let [v4, v6] = targets.each_ref().map(|target| target.local_addr().unwrap());
        for target in targets {
            target.set_nonblocking(true).unwrap();
            let waiting = waiting.clone();
            tokio::spawn(async move { waiting.accept(TcpListener::from_std(target).unwrap()).await });
        }
        let (SocketAddr::V4(v4), SocketAddr::V6(v6)) = (v4, v6) else { unreachable!("as bound") };
        let shutdown = Shutdown::new();
        let workers = if matches!(crew, Crew::Several) { WORKERS } else { 1 };
        let mut places = Vec::new();
        let mut serving: Vec<Vec<(Gateway, Listener)>> = (0..workers).map(|_| Vec::new()).collect();
        for (relay, options) in RELAYS {
            let config = GatewayConfig::new(
                AllowList::parse("127.0.0.0/8\n::1").unwrap(),
                Targets::new(Some(v4), Some(v6)).unwrap(),
            )
            .header_timeout(DEADLINE)
            .unwrap()
            .last_words(LAST_WORDS)
            .dial(
                DialOptions::new()
                    .timeout(DEADLINE)
                    .unwrap()
                    .mark(NonZeroU32::new(MARK))
                    .source_port(SourcePort::Keep),
            );
            let gateway = Gateway::new(config.relay(options), waiting.clone()).unwrap();
            for buffers in [Buffers::Usual, Buffers::Tiny, Buffers::Huge] {
                let [v4, v6] = ["127.0.0.1:0", "[::1]:0"].map(|address| {
                    let first = buffered(Listener::bind(address.parse().unwrap(), BACKLOG).unwrap(), buffers);
                    let shared: Vec<_> = (1..workers).map(|_| first.share(BACKLOG).unwrap()).collect();
                    let address = first.local_addr();
                    let all = once(first).chain(shared.into_iter().map(|one| buffered(one, buffers)));
                    for (listener, worker) in all.zip(&mut serving) {
                        worker.push((gateway.clone(), listener));
                    }
                    address
                });
                places.push(Place { relay, buffers, v4, v6 });
            }
        }
        let gateways = serving.into_iter().map(|gateways| serve(crew, gateways, shutdown.clone())).collect();
        Self { places, waiting, shutdown, gateways }
    }

    /// A session for `schedule`; `number` makes its client. `first` is sent with the header.
    pub(crate) async fn open(&self, schedule: &Schedule, number: u32, first: &[u8]) -> io::Result<Session> {
        let relay = RELAYS[(schedule.relay % RELAYS.len() as u64) as usize].0;
        let serves = |place: &&Place| place.relay == relay && place.buffers == schedule.buffers;
        let place = *self.places.iter().find(serves).expect("one of each kind");
        let client = client(schedule.ipv6, number);
        let (accepted, target) = oneshot::channel();
        let (closed, report) = oneshot::channel();
        self.waiting.expect(client, Expected { accepted: Some(accepted), closed });
        let (socket, gateway) =
            if schedule.ipv6 { (TcpSocket::new_v6()?, place.v6) } else { (TcpSocket::new_v4()?, place.v4) };
        set_buffers(&SockRef::from(&socket), schedule.peer.buffers);
        let peer = socket.connect(gateway).await?;
        peer.set_nodelay(true)?;
        let mut bytes = header(client);
        bytes.extend_from_slice(first);
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            peer.writable().await?;
            match peer.try_write(left) {
                Ok(written) => left = &left[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let target = target.await.map_err(io::Error::other)?;
        set_buffers(&SockRef::from(&target), schedule.target.buffers);
        target.set_nodelay(true)?;
        Ok(Session { place, peer, target, report })
    }

    /// Ends the gateways, which have nothing left to do.
    pub(crate) fn strike(self) {
        assert!(self.waiting.0.lock().unwrap().is_empty(), "a session was not reported");
        self.shutdown.cut();
        for worker in self.gateways {
            worker.join().expect("no gateway panics");
        }
    }
}

/// `listener` with `buffers`, which what it accepts inherits.
fn buffered(listener: Listener, buffers: Buffers) -> Listener {
    let socket = StdListener::from(listener);
    set_buffers(&SockRef::from(&socket), buffers);
    Listener::from_std(socket).unwrap()
}

/// Starts a worker, or all threads of [`Crew::Moving`].
fn serve(crew: Crew, gateways: Vec<(Gateway, Listener)>, stop: Shutdown) -> JoinHandle<()> {
    let mut runtime = match crew {
        Crew::Alone | Crew::Several => Builder::new_current_thread(),
        Crew::Moving => Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(WORKERS).enable_all().build().unwrap();
    thread::spawn(move || {
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for (gateway, listener) in gateways {
                let stop = stop.clone();
                tasks.spawn(async move { gateway.serve(listener, &stop).await.expect("a sound listener") });
            }
            while let Some(served) = tasks.join_next().await {
                served.expect("no gateway panics");
            }
        });
    })
}

impl Waiting {
    fn expect(&self, client: SocketAddr, expected: Expected) {
        let before = self.0.lock().unwrap().insert(client, expected);
        assert!(before.is_none(), "two sessions of {client}");
    }

    async fn accept(self, listener: TcpListener) {
        loop {
            let (stream, client) = listener.accept().await.expect("a sound listener");
            let accepted =
                self.0.lock().unwrap().get_mut(&client).and_then(|expected| expected.accepted.take());
            // A stranger to the test would be a broken promise of the gateway's.
            accepted.unwrap_or_else(|| panic!("the target saw {client}")).send(stream).ok();
        }
    }
}

impl Observer for Waiting {
    fn session_closed(&self, report: &SessionReport) {
        let client = report.claimed.expect("every header names a client").addr();
        let expected = self.0.lock().unwrap().remove(&client).expect("reported once");
        let report = Report { up: report.bytes_up, down: report.bytes_down, reason: report.reason };
        expected.closed.send(report).ok();
    }
}

/// An address of the networks for benchmarks and for documentation, of which each session has its own.
fn client(ipv6: bool, number: u32) -> SocketAddr {
    let port = 1024 + (number % 60_000) as u16;
    let ip = if ipv6 {
        IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number)))
    } else {
        IpAddr::from(Ipv4Addr::from_bits(0xc612_0000 | (number & 0x1_ffff)))
    };
    SocketAddr::new(ip, port)
}

fn header(client: SocketAddr) -> Vec<u8> {
    let (family, destination) =
        if client.is_ipv4() { ("TCP4", "203.0.113.1") } else { ("TCP6", "2001:db8::1:0:0:1") };
    format!("PROXY {family} {} {destination} {} 443\r\n", client.ip(), client.port()).into_bytes()
}

fn set_buffers(socket: &SockRef<'_>, buffers: Buffers) {
    if let Some(size) = buffers.size() {
        socket.set_recv_buffer_size(size as usize).unwrap();
        socket.set_send_buffer_size(size as usize).unwrap();
    }
}

/// The ways in which bytes are moved.
const RELAYS: [(&str, RelayOptions); 5] = [
    ("copy", RelayOptions::new().splice(SpliceUse::Never)),
    ("adaptive", RelayOptions::new()),
    // So few that they have to be waited for, or done without.
    ("adaptive, few pipes of 64 KiB", RelayOptions::new().pipe_size(PIPE).pipes(4)),
    ("splice", RelayOptions::new().splice(SpliceUse::Always).pipes(usize::MAX)),
    (
        "splice, pipes of a page",
        RelayOptions::new().splice(SpliceUse::Always).pipe_size(PAGE).pipes(usize::MAX),
    ),
];

const PIPE: NonZeroUsize = NonZeroUsize::new(64 * 1024).unwrap();
const PAGE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
