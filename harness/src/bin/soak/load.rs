//! Clients: who they are, when they rest, and what became of their sessions.

mod datagrams;
mod sessions;
mod strangers;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use harness::Family;

use crate::chance::Chance;
use crate::world::World;

/// All lanes: each is a thread that plays one client after the other, or one for long.
pub(crate) struct Load {
    seed: u64,
    pace: Mutex<Pace>,
    changed: Condvar,
    /// Odd while a fault is on that may break sessions.
    disturbance: AtomicU64,
    /// Odd while packets are lost.
    loss: AtomicU64,
    /// How often the balancer has been started anew: then it forgets its connections.
    balancer: AtomicU64,
    pub(crate) counts: Counts,
    failure: Mutex<Option<String>>,
}

#[derive(Default)]
struct Pace {
    paused: bool,
    over: bool,
    lanes: usize,
    resting: usize,
}

/// What the load has done.
#[derive(Default)]
pub(crate) struct Counts {
    /// Connections to the gateway that came about.
    pub(crate) made: AtomicU64,
    /// Sessions whose every byte came back, and the end behind it.
    whole: AtomicU64,
    /// Sessions that a fault may have broken.
    broken: AtomicU64,
    /// Sessions that the balancer forgot.
    forgotten: AtomicU64,
    /// Connections without a header, or with a wrong one.
    strangers: AtomicU64,
    bytes: AtomicU64,
    asked: AtomicU64,
    answered: AtomicU64,
}

/// How a session ended that nothing was wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Whole,
    /// The balancer was started anew meanwhile.
    Forgotten,
}

const SHORT: u8 = 8;
const LONG: u8 = 40;
const DATAGRAMS: u8 = 4;

impl Load {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            pace: Mutex::new(Pace { paused: true, ..Pace::default() }),
            changed: Condvar::new(),
            disturbance: AtomicU64::new(0),
            loss: AtomicU64::new(0),
            balancer: AtomicU64::new(0),
            counts: Counts::default(),
            failure: Mutex::new(None),
        }
    }

    /// Starts every lane; they rest until [`resume`](Self::resume).
    pub(crate) fn start<'scope>(
        &'scope self,
        world: &'scope World,
        scope: &'scope thread::Scope<'scope, '_>,
    ) {
        // Threads that a thread in a namespace starts are in it too.
        world.net.balancer.run(|| {
            for lane in 0..SHORT + LONG + DATAGRAMS + 1 {
                let chance = Chance::new(self.seed ^ (u64::from(lane) << 32));
                scope.spawn(move || match lane {
                    0..SHORT => self.keep_on(sessions::short(self, lane, chance)),
                    SHORT..OTHERS => self.keep_on(sessions::long(self, lane, chance)),
                    OTHERS..STRANGERS => self.keep_on(datagrams::lane(self, lane, chance)),
                    _ => self.keep_on(strangers::lane(self, chance)),
                });
            }
        });
        self.pace().lanes = usize::from(SHORT + LONG + DATAGRAMS + 1);
    }

    fn keep_on(&self, mut work: impl FnMut()) {
        while self.may_go_on() {
            work();
        }
    }

    pub(crate) fn resume(&self) {
        self.pace().paused = false;
        self.changed.notify_all();
    }

    /// Lets every lane end what it does, and waits until all rest.
    pub(crate) fn pause(&self) -> Result<(), String> {
        self.pace().paused = true;
        let start = Instant::now();
        loop {
            self.verdict()?;
            let pace = self.pace();
            if pace.resting == pace.lanes {
                return Ok(());
            }
            if start.elapsed() > PATIENCE * 2 {
                return Err(format!("{} of {} lanes have come to rest", pace.resting, pace.lanes));
            }
            drop(self.changed.wait_timeout(pace, Duration::from_millis(100)));
        }
    }

    pub(crate) fn end(&self) {
        self.pace().over = true;
        self.changed.notify_all();
    }

    /// Rests while the load is paused; whether there is more to do.
    fn may_go_on(&self) -> bool {
        let mut pace = self.pace();
        pace.resting += 1;
        while pace.paused && !pace.over {
            self.changed.notify_all();
            pace = self.changed.wait(pace).unwrap_or_else(PoisonError::into_inner);
        }
        pace.resting -= 1;
        !pace.over
    }

    fn is_paused(&self) -> bool {
        let pace = self.pace();
        pace.paused || pace.over
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on sessions may break.
    pub(crate) fn disturb(&self) {
        assert!(self.disturbance.fetch_add(1, SeqCst).is_multiple_of(2), "one fault at a time");
    }

    /// The fault is over: a whole session shows it, within a minute.
    pub(crate) fn calm(&self) -> Result<(), String> {
        let start = Instant::now();
        let mut chance = Chance::new(self.seed);
        let mut probe = sessions::Lane::new(PROBE);
        loop {
            match probe.short(self, &mut chance, &mut 0) {
                Ok(_) => break,
                Err(reason) if start.elapsed() > PATIENCE => {
                    return Err(format!("nobody is served a minute after a fault: {reason}"));
                }
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
        self.disturbance.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Packets begin to be lost, or are lost no more. Sessions have to bear it; a reset that is lost is not sent again.
    pub(crate) fn loss_changes(&self) {
        self.loss.fetch_add(1, SeqCst);
    }

    /// What tells later whether a fault can have been between a reset and the one it was for; `None` while one is.
    fn undisturbed(&self) -> Option<(u64, u64)> {
        let seen = (self.disturbance.load(SeqCst), self.loss.load(SeqCst));
        (seen.0.is_multiple_of(2) && seen.1.is_multiple_of(2)).then_some(seen)
    }

    /// The balancer is started anew.
    pub(crate) fn restart_balancer(&self) {
        self.balancer.fetch_add(1, SeqCst);
    }

    /// What became of a session, whose client last had an answer at `seen`.
    fn judge(&self, what: &str, seen: u64, ended: Result<Ended, String>) {
        match ended {
            Ok(Ended::Whole) => count(&self.counts.whole),
            Ok(Ended::Forgotten) => count(&self.counts.forgotten),
            Err(reason) => {
                if seen.is_multiple_of(2) && self.disturbance.load(SeqCst) == seen {
                    self.fail(format!("{what}, which no fault had touched: {reason}"));
                } else {
                    count(&self.counts.broken);
                }
            }
        }
    }

    fn fail(&self, reason: String) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }

    /// The first failure.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    pub(crate) fn summary(&self) -> String {
        let Counts { made, whole, broken, forgotten, strangers, bytes, asked, answered } = &self.counts;
        format!(
            "sessions: {} made, {} whole, {} broken by faults, {} forgotten by the balancer, {} strangers'; \
             {} MiB there and back; datagrams: {} asked, {} answered",
            made.load(SeqCst),
            whole.load(SeqCst),
            broken.load(SeqCst),
            forgotten.load(SeqCst),
            strangers.load(SeqCst),
            bytes.load(SeqCst) >> 20,
            asked.load(SeqCst),
            answered.load(SeqCst),
        )
    }
}

const OTHERS: u8 = SHORT + LONG;
const STRANGERS: u8 = OTHERS + DATAGRAMS;
const PROBE: u8 = STRANGERS + 1;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, SeqCst);
}

/// The client of a lane, in one family, at a port.
fn client(lane: u8, family: Family, port: u16) -> SocketAddr {
    let ip = match family {
        Family::V4 => IpAddr::from(Ipv4Addr::new(192, 0, 2, 20 + lane)),
        Family::V6 => IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100 + u16::from(lane))),
    };
    SocketAddr::new(ip, port)
}

/// One of the two families.
fn either(chance: &mut Chance) -> Family {
    Family::BOTH[usize::from(chance.one_in(2))]
}
