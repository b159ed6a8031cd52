//! One worker: a thread that waits for datagrams, and moves them.

mod orders;
mod replies;

use std::io;
use std::os::fd::AsFd;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::addr::PeerAddr;
use crate::errno;
use crate::gateway::Drained;
use crate::live::{Ending, Order};
use crate::sys::calls::{Call, Calls, Ring};
use crate::sys::datagram::{Inbox, Outbox};
use crate::udp::core::{Core, Dropped, Incoming};
use crate::udp::gateway::UdpShared;
use crate::udp::listen::UdpListener;
use crate::udp::net::{Leg, Net};
use crate::udp::report::FlowEnd;
use crate::udp::sends::Sends;
use crate::udp::table::FlowId;
use orders::{CUT, DRAIN};

pub(crate) use orders::Orders;

/// Serves one [`UdpListener`] on the calling thread.
pub(crate) struct Worker<'a> {
    core: Core<Leg>,
    net: Net<'a>,
    inbox: Inbox,
    outbox: Outbox,
    calls: Calls,
    /// Flows that have something to read.
    ready: Vec<FlowId>,
    listener: &'a UdpListener,
    shared: &'a UdpShared,
}

impl<'a> Worker<'a> {
    /// # Errors
    ///
    /// The kernel does not let the sockets be watched.
    pub(crate) fn new(
        listener: &'a UdpListener,
        ring: Option<Ring>,
        shared: &'a UdpShared,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(listener.fd(), EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        epoll.add(listener.mailbox().bell(), EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        Ok(Self {
            core: new_core(listener, shared),
            net: Net::new(epoll, listener, shared, ring.is_some()),
            inbox: Inbox::new(BATCH),
            outbox: Outbox::new(BATCH, listener.family()),
            calls: Calls::new(ring),
            ready: Vec::with_capacity(EVENTS),
            listener,
            shared,
        })
    }

    /// Moves datagrams until `orders` say to end, or the listener breaks.
    ///
    /// # Errors
    ///
    /// What the kernel said about the listener; no datagram can arrive any more.
    pub(crate) fn run(&mut self, orders: &Orders) -> io::Result<Drained> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut end: Option<End> = None;
        let served = loop {
            let now = clock();
            match (orders.now(), &end) {
                (CUT, _) => break Ok(()),
                (DRAIN, None) => end = Some(self.begin_to_end(now)),
                _ => {}
            }
            if let Some(end) = &mut end {
                end.finished += self.core.expire(&mut self.net, now, FlowEnd::Stopped);
                if self.core.table().len() == 0 || now >= end.deadline {
                    break Ok(());
                }
            } else {
                self.core.expire(&mut self.net, now, FlowEnd::Idle);
            }
            let ready = match self.net.epoll.wait(&mut events, self.patience(now, end.as_ref())) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(errno) => break Err(errno.into()),
            };
            if let Err(error) = self.turn(&events[..ready], orders, clock()) {
                break Err(error);
            }
        };
        let cut = self.core.close_all(&mut self.net, FlowEnd::Stopped);
        served.map(|()| Drained { finished: end.map_or(0, |end| end.finished), cut })
    }

    /// After a panic: ends every flow, and has nothing left of what was going on. Needs nothing that might not be had.
    pub(crate) fn begin_anew(&mut self) {
        let flows = self.core.table().len();
        let again = AssertUnwindSafe(|| {
            self.core.close_all(&mut self.net, FlowEnd::Panicked);
            self.net.tell_panicked(flows, clock());
        });
        // What is half done, or an observer, may well panic again. The sockets close all the same, with the flows.
        drop(panic::catch_unwind(again));
        self.core = new_core(self.listener, self.shared);
        self.net.sends = self.calls.share().then(Sends::default);
        self.outbox.clear();
        self.ready.clear();
    }

    /// What there is to do after one wait.
    fn turn(&mut self, events: &[EpollEvent], orders: &Orders, now: Instant) -> io::Result<()> {
        if self.net.namespace_changed() {
            self.core.close_all(&mut self.net, FlowEnd::NamespaceGone);
        }
        if self.net.lists_changed() {
            self.core.close_where(&mut self.net, FlowEnd::ClientDenied, Net::denies);
        }
        let (mut arrivals, mut letters) = (false, false);
        for event in events {
            match event.data() {
                LISTENER => arrivals = true,
                BELL => letters = true,
                flow => self.ready.push(FlowId::from_bits(flow)),
            }
        }
        self.replies(now);
        if letters {
            self.letters(now);
            for (order, at_most) in orders.asked() {
                self.hear(&order, at_most);
            }
        }
        let received = if arrivals { self.arrivals(now) } else { Ok(()) };
        self.net.count();
        received
    }

    /// Datagrams from balancers.
    fn arrivals(&mut self, now: Instant) -> io::Result<()> {
        // Bounded, so that a flood does not keep the replies waiting.
        for _ in 0..BATCHES {
            let received = match self.inbox.receive(self.listener.fd()) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if errno::is_no_listener(&error) => return Err(error),
                // Of the moment: memory, a signal, or an error that ICMP brought for a reply.
                Err(_) => return Ok(()),
            };
            for index in 0..received {
                let datagram = self.inbox.get(index);
                let Some(from) = datagram.from else { continue };
                let local = datagram.to.or_else(|| self.listener.own_ip());
                let Some(local) = local else { continue };
                // Zero would make no progress: an empty datagram is one datagram.
                let size = datagram.segment.unwrap_or(datagram.bytes.len()).max(1);
                let mut pieces = datagram.bytes.chunks(size);
                let first = pieces.next().unwrap_or_default();
                for bytes in std::iter::once(first).chain(pieces) {
                    let incoming = Incoming { peer: PeerAddr::new(from), local, bytes };
                    deliver(&mut self.core, &mut self.net, &mut self.calls, &incoming, now);
                }
            }
            send_all(&mut self.core, &mut self.net, &mut self.calls, now);
            if received < self.inbox.batch() {
                break;
            }
        }
        Ok(())
    }

    /// Lets flows do what they were asked from outside.
    #[cold]
    fn hear(&mut self, order: &Order, at_most: usize) {
        let ids: Vec<FlowId> = self.core.table().ids().take(at_most).collect();
        for id in ids {
            let Some(flow) = self.core.table().get(id) else { continue };
            match order {
                // Whoever asked may have gone.
                Order::Tell(to) => {
                    to.send(self.net.live(flow)).ok();
                }
                Order::End(which, ending, to) => {
                    let number = flow.upstream.id();
                    if which.matches(number, flow.announced.client) {
                        let end = match ending {
                            Ending::Killed => FlowEnd::Killed,
                            Ending::Denied => FlowEnd::ClientDenied,
                        };
                        self.core.close(&mut self.net, id, end);
                        to.send(number).ok();
                    }
                }
            }
        }
    }

    /// Datagrams that arrived at another worker.
    fn letters(&mut self, now: Instant) {
        for letter in self.listener.mailbox().collect() {
            let incoming = Incoming { peer: letter.peer, local: letter.local, bytes: &letter.bytes };
            deliver(&mut self.core, &mut self.net, &mut self.calls, &incoming, now);
        }
        send_all(&mut self.core, &mut self.net, &mut self.calls, now);
    }

    fn begin_to_end(&mut self, now: Instant) -> End {
        self.core.stop();
        self.core.hurry(QUIET);
        End { deadline: now + self.shared.gateway.config.drain, finished: 0 }
    }

    /// How long nothing needs to be done.
    fn patience(&self, now: Instant, end: Option<&End>) -> EpollTimeout {
        let watch = self.net.watches_namespace().then(|| now + NAMESPACE_CHECK);
        let due = [self.core.table().next_expiry(), end.map(|end| end.deadline), watch];
        let Some(due) = due.into_iter().flatten().min() else { return EpollTimeout::NONE };
        // Rounded up: waking a moment too early would make this spin until the moment is over.
        let millis = due.saturating_duration_since(now).as_nanos().div_ceil(1_000_000);
        EpollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(EpollTimeout::MAX)
    }
}

/// A worker's own end.
struct End {
    deadline: Instant,
    /// Flows that fell silent by themselves.
    finished: usize,
}

fn new_core(listener: &UdpListener, shared: &UdpShared) -> Core<Leg> {
    let rules = shared.options.rules(listener.workers());
    Core::new(&shared.options, rules, shared.gateway.config.client_from)
}

fn deliver(
    core: &mut Core<Leg>,
    net: &mut Net<'_>,
    calls: &mut Calls,
    incoming: &Incoming<'_>,
    now: Instant,
) {
    if let Err(dropped) = core.datagram(net, incoming, now) {
        tell(net, Some(incoming.peer), &dropped, now);
    }
    if net.sends.as_ref().is_some_and(Sends::is_full) {
        send_all(core, net, calls, now);
    }
}

/// Sends what waits for it to targets.
fn send_all(core: &mut Core<Leg>, net: &mut Net<'_>, calls: &mut Calls, now: Instant) {
    let Some(mut sends) = net.sends.take_if(|sends| sends.len() > 0) else { return };
    // A new flow took the place of one that had just had a datagram.
    for _ in 0..sends.forget_unless(|id| core.upstream(id).is_some()) {
        tell(net, None, &Dropped::Full, now);
    }
    calls.make(
        sends.iter().filter_map(|(id, payload)| {
            Some(Call::Send(core.upstream(id)?.socket.socket().as_fd(), payload))
        }),
    );
    for number in 0..sends.len() {
        let (id, payload) = sends.get(number);
        let Err(error) = calls.outcome(number) else {
            net.sent(payload.len());
            continue;
        };
        let Some(leg) = core.upstream(id) else { continue };
        match leg.socket.send_after(error, payload) {
            Ok(()) => net.sent(payload.len()),
            Err(error) => {
                let peer = core.unsent(id, payload.len());
                tell(net, peer, &Dropped::Unsent(error), now);
            }
        }
    }
    sends.clear();
    net.sends = Some(sends);
}

#[cold]
fn tell(net: &Net<'_>, peer: Option<PeerAddr>, dropped: &Dropped, now: Instant) {
    net.tell_dropped(dropped.reason(), peer, dropped, now);
}

/// The shell's clock: pure code is given the time.
fn clock() -> Instant {
    Instant::now()
}

/// Events that belong to no flow.
const LISTENER: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;

/// Datagrams in one system call.
const BATCH: usize = 32;

/// Batches from balancers in a row.
const BATCHES: usize = 4;

/// Sockets told of in one system call.
const EVENTS: usize = 64;

/// A flow that is silent for so long while the gateway ends is over.
const QUIET: Duration = Duration::from_secs(1);

/// How often it is looked whether the target's namespace is still the same one, beside each time that a datagram comes.
const NAMESPACE_CHECK: Duration = Duration::from_secs(1);
