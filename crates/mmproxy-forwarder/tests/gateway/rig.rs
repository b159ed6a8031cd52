//! A gateway on a thread of its own, the target behind it, and everything it reports.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown as Half, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mmproxy_forwarder::{
    AllowList, ClaimedSource, ClientPort, CloseReason, Drained, Gateway, GatewayConfig, HeaderDetails,
    Listener, Observer, ServeError, SessionEstablished, SessionOpened, SessionReport, Shutdown, TargetAddr,
    Targets,
};
use socket2::SockRef;

/// Longest wait for anything that has to happen. Reached only where a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A v1 header that asks for a connection from the gateway's own address.
pub(crate) const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// However a test ends, its rig checks that every session was reported exactly once.
pub(crate) struct Rig {
    /// Where the gateway listens.
    pub(crate) address: SocketAddr,
    /// The target it hands sessions to.
    pub(crate) target: TcpListener,
    pub(crate) shutdown: Shutdown,
    /// To ask it; gone when it has stopped.
    gateway: Option<Gateway>,
    events: mpsc::Receiver<Event>,
    tally: RefCell<Tally>,
    thread: Option<JoinHandle<Result<Drained, ServeError>>>,
}

/// Numbers of the sessions that were told.
#[derive(Default)]
struct Tally {
    opened: Vec<u64>,
    closed: Vec<u64>,
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::with(|config| config)
    }

    /// A gateway on 127.0.0.1 that lets 127.0.0.0/8 announce clients and has an IPv4 target.
    pub(crate) fn with(configure: impl FnOnce(GatewayConfig) -> GatewayConfig) -> Self {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = configure(config("127.0.0.0/8", &target));
        Self::serving(target, config, "127.0.0.1:0", |recorder| recorder)
    }

    /// A gateway on 127.0.0.1 that lets only `allowed` announce clients.
    pub(crate) fn allowing(allowed: &str) -> Self {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = config(allowed, &target);
        Self::serving(target, config, "127.0.0.1:0", |recorder| recorder)
    }

    /// The gateway of `config` on `listen`; `watch` may put another observer in front of the rig's.
    pub(crate) fn serving<O: Observer>(
        target: TcpListener,
        config: GatewayConfig,
        listen: &str,
        watch: impl FnOnce(Recorder) -> O,
    ) -> Self {
        let listener = Listener::bind(listen.parse().unwrap(), Listener::BACKLOG).unwrap();
        let address = listener.local_addr();
        let shutdown = Shutdown::new();
        let (sender, events) = mpsc::channel();
        let gateway = Gateway::new(config, watch(Recorder(sender))).unwrap();
        let (stop, serving) = (shutdown.clone(), gateway.clone());
        let thread = thread::spawn(move || runtime().block_on(serving.serve(listener, &stop)));
        let (gateway, thread) = (Some(gateway), Some(thread));
        Self { address, target, shutdown, gateway, events, tally: RefCell::default(), thread }
    }

    pub(crate) fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("it serves")
    }

    /// A balancer's connection, nothing sent yet.
    pub(crate) fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(self.address).unwrap())
    }

    /// The target's end of the next session.
    pub(crate) fn accept(&self) -> TcpStream {
        let come = try_accept(&self.target);
        // Why nobody came, the gateway has told already.
        patient(come.unwrap_or_else(|error| {
            panic!("nobody came to the target, {error}: {:?}", self.events.try_iter().collect::<Vec<_>>())
        }))
    }

    /// A session that relays: the balancer's end and the target's.
    pub(crate) fn session(&self) -> (TcpStream, TcpStream) {
        let mut peer = self.connect();
        peer.write_all(UNKNOWN).unwrap();
        (peer, self.accept())
    }

    /// What the next session that ends leaves behind.
    pub(crate) fn report(&self) -> Closed {
        loop {
            if let Event::Closed(closed) = self.event() {
                return *closed;
            }
        }
    }

    /// Waits until a session relays.
    pub(crate) fn established(&self) {
        while !matches!(self.event(), Event::Established) {}
    }

    fn event(&self) -> Event {
        let event = self.events.recv_timeout(DEADLINE).expect("something happens");
        self.tally.borrow_mut().note(&event);
        event
    }

    /// Stops the gateway and returns what it says, and the reports that nobody asked for.
    pub(crate) fn stop(mut self) -> (Result<Drained, ServeError>, Vec<Closed>) {
        self.shutdown.drain();
        self.join()
    }

    fn join(&mut self) -> (Result<Drained, ServeError>, Vec<Closed>) {
        let thread = self.thread.take().expect("joined once");
        self.gateway = None;
        let served = thread.join().expect("the gateway does not panic");
        let mut left = Vec::new();
        // Every session was reported before the gateway had ended, so all events are there.
        while let Ok(event) = self.events.try_recv() {
            self.tally.borrow_mut().note(&event);
            if let Event::Closed(closed) = event {
                left.push(*closed);
            }
        }
        let Tally { mut opened, mut closed } = self.tally.take();
        opened.sort_unstable();
        closed.sort_unstable();
        assert_eq!(opened, closed, "every session that was opened is reported, once");
        (served, left)
    }

    /// No session came to the target.
    pub(crate) fn target_was_left_alone(&self) -> bool {
        self.target.set_nonblocking(true).unwrap();
        matches!(self.target.accept(), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }
}

/// The defaults, for peers of `allowed` and one target.
pub(crate) fn config(allowed: &str, target: &TcpListener) -> GatewayConfig {
    let targets = match target.local_addr().unwrap() {
        SocketAddr::V4(v4) => Targets::new(Some(v4), None),
        SocketAddr::V6(v6) => Targets::new(None, Some(v6)),
    };
    GatewayConfig::new(AllowList::parse(allowed).unwrap(), targets.unwrap())
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.thread.is_some() && !thread::panicking() {
            self.shutdown.cut();
            self.join().0.expect("the listener is sound");
        }
    }
}

impl Tally {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Opened(id) => self.opened.push(*id),
            Event::Closed(closed) => self.closed.push(closed.id),
            Event::Established => {}
        }
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sends what the gateway tells to a channel.
pub(crate) struct Recorder(pub(crate) mpsc::Sender<Event>);

#[derive(Debug)]
pub(crate) enum Event {
    /// With the session's number.
    Opened(u64),
    Established,
    Closed(Box<Closed>),
}

impl Observer for Recorder {
    fn session_opened(&self, opened: &SessionOpened) {
        self.0.send(Event::Opened(opened.id.0)).ok();
    }

    fn session_established(&self, _established: &SessionEstablished) {
        self.0.send(Event::Established).ok();
    }

    fn session_closed(&self, report: &SessionReport) {
        self.0.send(Event::Closed(Box::new(Closed::of(report)))).ok();
    }
}

/// A report as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) header: Option<String>,
    pub(crate) opening: Vec<u8>,
    pub(crate) claimed: Option<SocketAddr>,
    pub(crate) bound: Option<SocketAddr>,
    pub(crate) client_port: Option<ClientPort>,
    pub(crate) target: Option<SocketAddr>,
    pub(crate) bytes: (u64, u64),
    pub(crate) header_len: u32,
    pub(crate) details: Option<HeaderDetails>,
    pub(crate) spliced: (u64, u64),
    pub(crate) first_byte: Option<Duration>,
    pub(crate) total: Duration,
    pub(crate) reason: CloseReason,
    pub(crate) error: Option<String>,
}

impl Closed {
    fn of(report: &SessionReport) -> Self {
        Self {
            id: report.id.0,
            peer: report.peer.addr(),
            header: report.header.map(|version| version.to_string()),
            opening: report.opening.clone(),
            claimed: report.claimed.map(ClaimedSource::addr),
            bound: report.bound,
            client_port: report.client_port,
            target: report.target.map(TargetAddr::addr),
            bytes: (report.bytes_up, report.bytes_down),
            header_len: report.header_len,
            details: report.details.as_deref().cloned(),
            spliced: (report.spliced_up, report.spliced_down),
            first_byte: report.first_byte_time,
            total: report.total_time,
            reason: report.reason,
            error: report.error.as_ref().map(ToString::to_string),
        }
    }
}

/// `accept(2)` with a deadline.
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    try_accept(listener).expect("a connection comes to the target")
}

fn try_accept(listener: &TcpListener) -> io::Result<TcpStream> {
    listener.set_nonblocking(false)?;
    // SO_RCVTIMEO is what bounds accept(2) on a listening socket.
    SockRef::from(listener).set_read_timeout(Some(DEADLINE))?;
    Ok(listener.accept()?.0)
}

/// A stream whose reads and writes fail instead of waiting for ever.
pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Closes with a reset.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

pub(crate) fn end(stream: &TcpStream) {
    stream.shutdown(Half::Write).unwrap();
}

pub(crate) fn read_exactly(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// How a connection ends, after `read` bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Reset,
}

/// Reads to the end, which must come.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    let end = match stream.read_to_end(&mut bytes) {
        Ok(_) => End::Fin,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
        Err(error) => panic!("neither end nor reset: {error}"),
    };
    (bytes, end)
}

/// Writes until nothing more is accepted for a while: every buffer on the way is full.
pub(crate) fn fill(stream: &mut TcpStream) -> u64 {
    let chunk = [b'x'; 64 * 1024];
    let mut sent = 0;
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    loop {
        match stream.write(&chunk) {
            Ok(written) => sent += written as u64,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("broke while it was filled: {error}"),
        }
    }
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    sent
}

/// Waits for the connection's error without reading, as a program does that has no room for more.
pub(crate) fn await_error(stream: &TcpStream) -> io::Error {
    use nix::poll::{PollFd, PollFlags, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let ready = poll(&mut fds, u16::try_from(DEADLINE.as_millis()).unwrap()).unwrap();
    assert_eq!(ready, 1, "the connection does not break");
    stream.take_error().unwrap().expect("a broken connection has an error")
}
