//! Honest clients: so many a second, whether they are answered or not.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use harness::{Echo, V2, Version, addr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::timeout_at;

use crate::pace::Pace;
use crate::world::{HONEST, World, connect, runtime};

/// New connections a second, and questions over UDP.
pub(crate) const RATE: u32 = 200;
/// How long a client waits, from the moment it was due: as long as the gateway does by itself for a header or a target, and so
/// long that a machine which has much else to do is not taken for a gateway that keeps clients waiting.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Honest traffic, until it is dropped.
pub(crate) struct Honest {
    log: Arc<Log>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What became of those that were due in a turn.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) time: Duration,
    /// Processor time that the gateway used meanwhile.
    pub(crate) cpu: Duration,
    pub(crate) connections: Kind,
    pub(crate) questions: Kind,
}

/// Connections, or questions.
#[derive(Debug, Default)]
pub(crate) struct Kind {
    pub(crate) offered: usize,
    /// From the moment they were due to the end; those that were answered in time.
    pub(crate) answered: Vec<Duration>,
    /// The first that got no answer, or a wrong one.
    pub(crate) failure: Option<String>,
}

#[derive(Default)]
struct Log {
    tally: Mutex<Tally>,
    waiting: AtomicUsize,
    /// Nobody comes between turns.
    resting: AtomicBool,
}

impl Honest {
    pub(crate) fn start(world: &World) -> Self {
        let (log, over) = (Arc::new(Log::default()), Arc::new(AtomicBool::new(false)));
        log.resting.store(true, Ordering::SeqCst);
        let (theirs, ended) = (Arc::clone(&log), Arc::clone(&over));
        // Threads that a thread in a namespace starts are in it too.
        let thread =
            world.net.balancer.run(|| thread::spawn(move || runtime().block_on(clients(&theirs, &ended))));
        Self { log, over, thread: Some(thread) }
    }

    /// Lets clients come for `time`, and waits for the last.
    pub(crate) fn turn(&self, time: Duration) -> Tally {
        drop(self.log.take());
        self.log.resting.store(false, Ordering::SeqCst);
        thread::sleep(time);
        self.log.resting.store(true, Ordering::SeqCst);
        // Nobody waits longer than a client's patience.
        thread::sleep(LOOK);
        while self.log.waiting.load(Ordering::SeqCst) > 0 {
            thread::sleep(LOOK);
        }
        let mut tally = self.log.take();
        tally.time = time;
        tally
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // If it panicked, the tally shows that nobody came.
            thread.join().ok();
        }
    }
}

impl Log {
    fn take(&self) -> Tally {
        std::mem::take(&mut *self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn enter(&self, which: fn(&mut Tally) -> &mut Kind) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        which(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner)).offered += 1;
    }

    fn leave(&self, which: fn(&mut Tally) -> &mut Kind, due: Instant, ended: Result<(), String>) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = which(&mut tally);
        match ended {
            Ok(()) => kind.answered.push(due.elapsed()),
            Err(reason) => drop(kind.failure.get_or_insert(reason)),
        }
        drop(tally);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn clients(log: &Arc<Log>, over: &AtomicBool) {
    let mut pace = Pace::new(RATE);
    for number in 0_u32.. {
        let due = pace.next().await;
        if over.load(Ordering::SeqCst) {
            return;
        }
        if log.resting.load(Ordering::SeqCst) {
            continue;
        }
        come(log, |tally| &mut tally.connections, due, connection(number));
        come(log, |tally| &mut tally.questions, due, question(number));
    }
}

/// Notes that somebody comes who was `due`, and what becomes of it.
fn come(
    log: &Arc<Log>,
    which: fn(&mut Tally) -> &mut Kind,
    due: Instant,
    work: impl Future<Output = Result<(), String>> + Send + 'static,
) {
    let log = Arc::clone(log);
    log.enter(which);
    tokio::spawn(async move {
        let ended = timeout_at((due + PATIENCE).into(), work).await;
        log.leave(which, due, ended.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}"))));
    });
}

/// A client connects, says something, and gets it back from a server that knows its address.
async fn connection(number: u32) -> Result<(), String> {
    let client = client(number, 10_000 + u16::try_from(number % 50_000).expect("below 50,000"));
    let failed = |error: std::io::Error| format!("{client}: {error}");
    let mut stream = connect(HONEST.tcp).await.map_err(failed)?;
    let said = format!("connection {number} {}\n", "x".repeat(200));
    let header = Version::V2.header(client, FRONTEND);
    stream.write_all(&[&header, said.as_bytes()].concat()).await.map_err(failed)?;
    stream.shutdown().await.map_err(failed)?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.map_err(failed)?;
    let wanted = format!("{client}\n{said}");
    (heard == wanted.as_bytes())
        .then_some(())
        .ok_or_else(|| format!("{client} heard {}", heard.escape_ascii()))
}

/// A client asks over UDP; most of them have asked before, one of ten comes for the first time.
async fn question(number: u32) -> Result<(), String> {
    let port = if number.is_multiple_of(10) {
        10_000 + u16::try_from(number % 50_000).expect("small")
    } else {
        7000
    };
    let client = client(number, port);
    let failed = |error: std::io::Error| format!("{client}: {error}");
    // A port of the balancer's for each question: no answer is taken for another one's.
    let socket = UdpSocket::bind("10.0.0.2:0").await.map_err(failed)?;
    socket.connect(addr(HONEST.udp)).await.map_err(failed)?;
    let said = format!("question {number}");
    let datagram = [&V2::datagram(client, FRONTEND).to_bytes(), said.as_bytes()].concat();
    socket.send(&datagram).await.map_err(failed)?;
    let wanted = Echo::answer(client, said.as_bytes());
    let mut heard = [0; 2048];
    loop {
        let length = socket.recv(&mut heard).await.map_err(failed)?;
        let heard = &heard[..length];
        if heard == wanted {
            return Ok(());
        }
        // Replies go to where a client's last question came from, late ones to an earlier question too.
        if !heard.starts_with(format!("{client} question ").as_bytes()) {
            return Err(format!("{client} heard {}", heard.escape_ascii()));
        }
    }
}

/// One of a hundred clients in as many networks.
fn client(number: u32, port: u16) -> SocketAddr {
    let network = u8::try_from(number % 100).expect("below 100");
    (Ipv4Addr::new(203, 0, network, 7), port).into()
}

/// What the balancer says it was connected to.
const FRONTEND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 443);

/// Between two looks whether the last client of a turn has gone.
const LOOK: Duration = Duration::from_millis(50);
