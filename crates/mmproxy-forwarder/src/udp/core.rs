//! What becomes of each datagram: decided here, done by a [`World`].
//!
//! Pure: no I/O and no clock, so that a fuzzer can play the balancers and the targets.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use mmproxy_codec::{DecodeOptions, HeaderError, SPP_LEN};

use crate::addr::PeerAddr;
use crate::choice::ClientFrom;
use crate::error::{AdmissionRefused, SessionError};
use crate::udp::drops::DropReason;
use crate::udp::header::{Announcement, DatagramRefused};
use crate::udp::key::FlowKey;
use crate::udp::options::{HeaderRule, UdpOptions};
use crate::udp::report::FlowEnd;
use crate::udp::table::{FlowId, FlowTable, Full, Rules, Way};

/// The flows of one worker and what is done with datagrams.
#[derive(Debug)]
pub(crate) struct Core<U> {
    table: FlowTable<Flow<U>>,
    decode: DecodeOptions,
    client_from: ClientFrom,
    header: HeaderRule,
    /// Only with [`HeaderRule::FirstDatagram`]: whose the datagrams without header are.
    ///
    /// Invariant: each is where its flow's `sender` says.
    senders: HashMap<Sender, FlowId>,
    stopping: bool,
}

/// Balancer's address and port, and the address it sends to.
type Sender = (SocketAddr, IpAddr);

/// One client's exchange with a target.
#[derive(Debug)]
pub(crate) struct Flow<U> {
    /// Where replies go: the balancer's address that sent last.
    pub(crate) peer: PeerAddr,
    /// Where they come from.
    pub(crate) local: IpAddr,
    pub(crate) announced: Announcement,
    pub(crate) upstream: U,
    pub(crate) opened: Instant,
    pub(crate) traffic: Traffic,
}

/// What went through a flow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) datagrams_up: u64,
    pub(crate) datagrams_down: u64,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
}

/// A datagram from a balancer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) peer: PeerAddr,
    /// The address it was sent to.
    pub(crate) local: IpAddr,
    pub(crate) bytes: &'a [u8],
}

/// Where a reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) to: PeerAddr,
    pub(crate) from: IpAddr,
    /// What it begins with.
    pub(crate) header: Option<[u8; SPP_LEN]>,
}

/// Sockets and policy.
pub(crate) trait World {
    /// A flow's socket to its target.
    type Upstream;
    /// What policy lets through: the client and its target.
    type Pass;

    /// Whether a balancer may send at all.
    fn admits(&mut self, peer: PeerAddr) -> bool;

    /// Gives a datagram to the worker that its flow belongs to; `None` if that is this one.
    fn hand_over(&mut self, key: &FlowKey, incoming: &Incoming<'_>) -> Option<Result<(), Dropped>>;

    /// Whether a flow may begin.
    fn authorise(&mut self, peer: PeerAddr, announced: &Announcement) -> Result<Self::Pass, SessionError>;

    /// Connects to the target.
    fn open(&mut self, pass: Self::Pass) -> Result<Self::Upstream, SessionError>;

    /// From now on replies of `upstream` are told by the number `id`.
    fn watch(&mut self, upstream: &Self::Upstream, id: FlowId) -> io::Result<()>;

    /// Sends a payload of the flow `id` to the target, now or together with others; if that fails later, the core is
    /// [told](Core::unsent).
    fn send(&mut self, id: FlowId, upstream: &Self::Upstream, payload: &[u8]) -> io::Result<()>;

    /// A flow began.
    fn opened(&mut self, flow: &Flow<Self::Upstream>);

    /// A flow ended; its socket closes with it.
    fn closed(&mut self, flow: Flow<Self::Upstream>, established: bool, end: FlowEnd);
}

impl<U> Core<U> {
    pub(crate) fn new(options: &UdpOptions, rules: Rules, client_from: ClientFrom) -> Self {
        Self {
            table: FlowTable::new(rules),
            decode: options.decode(),
            client_from,
            header: options.header,
            senders: HashMap::new(),
            stopping: false,
        }
    }

    /// Takes no new flows any more.
    pub(crate) const fn stop(&mut self) {
        self.stopping = true;
    }

    pub(crate) const fn table(&self) -> &FlowTable<Flow<U>> {
        &self.table
    }

    /// Hands a datagram to its target, by the flow it belongs to or by a new one.
    pub(crate) fn datagram<W: World<Upstream = U>>(
        &mut self,
        world: &mut W,
        incoming: &Incoming<'_>,
        now: Instant,
    ) -> Result<(), Dropped> {
        if !world.admits(incoming.peer) {
            return Err(SessionError::from(AdmissionRefused::NotAllowed(incoming.peer)).into());
        }
        let (announced, payload) = match self.client_from {
            ClientFrom::Peer => (Announcement::of_peer(incoming.peer), incoming.bytes),
            ClientFrom::Header => match Announcement::read(incoming.bytes, &self.decode) {
                Ok(read) => read,
                Err(refused) => {
                    let id = self.without_header(incoming, &refused).ok_or(refused)?;
                    return self.forward(world, id, incoming.bytes, now);
                }
            },
        };
        let key = announced.key(incoming.peer, incoming.local);
        let id = match self.table.find(&key) {
            Some(id) => id,
            None => match world.hand_over(&key, incoming) {
                Some(handed) => return handed,
                None => self.open(world, key, announced, incoming.peer, now)?,
            },
        };
        self.follow(id, incoming.peer);
        self.forward(world, id, payload, now)
    }

    /// Where a reply that arrived for the flow `id` goes; `None` if the flow is gone.
    pub(crate) fn reply(&mut self, id: FlowId, len: usize, now: Instant) -> Option<Answer> {
        let flow = self.table.get_mut(id)?;
        flow.traffic.datagrams_down += 1;
        flow.traffic.bytes_down += len as u64;
        let answer = Answer { to: flow.peer, from: flow.local, header: flow.announced.reply };
        self.table.touch(id, Way::Down, now);
        Some(answer)
    }

    /// A datagram of `len` bytes that the flow `id` was to send has not been sent; by whom it came.
    pub(crate) fn unsent(&mut self, id: FlowId, len: usize) -> Option<PeerAddr> {
        let flow = self.table.get_mut(id)?;
        flow.traffic.datagrams_up -= 1;
        flow.traffic.bytes_up -= len as u64;
        Some(flow.peer)
    }

    /// Whether the flow `id` may well have more replies: unless each datagram of its client has had one, as it is with
    /// questions and answers. Something lost makes no difference for long, only to what is found out in vain.
    pub(crate) fn expects_replies(&self, id: FlowId) -> bool {
        self.table.get(id).is_some_and(|flow| flow.traffic.datagrams_up != flow.traffic.datagrams_down)
    }

    /// The socket of the flow `id`.
    pub(crate) fn upstream(&self, id: FlowId) -> Option<&U> {
        self.table.get(id).map(|flow| &flow.upstream)
    }

    /// Ends the flows that are idle at `now`; how many.
    pub(crate) fn expire(
        &mut self,
        world: &mut impl World<Upstream = U>,
        now: Instant,
        end: FlowEnd,
    ) -> usize {
        let mut ended = 0;
        while let Some(id) = self.table.expired(now) {
            self.close(world, id, end);
            ended += 1;
        }
        ended
    }

    /// Ends every flow; how many.
    pub(crate) fn close_all(&mut self, world: &mut impl World<Upstream = U>, end: FlowEnd) -> usize {
        let ids: Vec<FlowId> = self.table.ids().collect();
        ids.iter().for_each(|id| self.close(world, *id, end));
        ids.len()
    }

    /// Ends the flows of which `doomed` says so; how many.
    pub(crate) fn close_where<W: World<Upstream = U>>(
        &mut self,
        world: &mut W,
        end: FlowEnd,
        doomed: impl Fn(&W, &Announcement) -> bool,
    ) -> usize {
        let flows = self
            .table
            .ids()
            .filter(|id| self.table.get(*id).is_some_and(|flow| doomed(world, &flow.announced)));
        let ids: Vec<FlowId> = flows.collect();
        ids.iter().for_each(|id| self.close(world, *id, end));
        ids.len()
    }

    /// Shortens the idle time, for a worker that is to end.
    pub(crate) fn hurry(&mut self, idle: std::time::Duration) {
        self.table.hurry(idle);
    }

    fn open<W: World<Upstream = U>>(
        &mut self,
        world: &mut W,
        key: FlowKey,
        announced: Announcement,
        peer: PeerAddr,
        now: Instant,
    ) -> Result<FlowId, Dropped> {
        if self.stopping {
            return Err(Dropped::Stopping);
        }
        let pass = world.authorise(peer, &announced)?;
        while let Some(victim) = self.table.victim(&key, now)? {
            self.close(world, victim, FlowEnd::Evicted);
        }
        let upstream = world.open(pass)?;
        let flow =
            Flow { peer, local: key.local, announced, upstream, opened: now, traffic: Traffic::default() };
        let id = self.table.insert(key, now, flow);
        if let Some(flow) = self.table.get(id) {
            if let Err(error) = world.watch(&flow.upstream, id) {
                self.table.remove(id);
                return Err(Dropped::Unwatched(error));
            }
            world.opened(flow);
        }
        if self.header == HeaderRule::FirstDatagram {
            self.senders.insert((peer.addr(), key.local), id);
        }
        Ok(id)
    }

    /// Sends the replies of `id` to where its balancer sends from now.
    fn follow(&mut self, id: FlowId, peer: PeerAddr) {
        let Some(flow) = self.table.get_mut(id) else { return };
        let before = std::mem::replace(&mut flow.peer, peer);
        if self.header == HeaderRule::FirstDatagram {
            let local = flow.local;
            if before != peer {
                self.forget_sender((before.addr(), local), id);
            }
            self.senders.insert((peer.addr(), local), id);
        }
    }

    /// The flow of a datagram that has no header, where that is fine.
    fn without_header(&self, incoming: &Incoming<'_>, refused: &DatagramRefused) -> Option<FlowId> {
        let DatagramRefused::Header(HeaderError::NotProxy | HeaderError::V1OnDatagram) = refused else {
            return None;
        };
        self.senders.get(&(incoming.peer.addr(), incoming.local)).copied()
    }

    fn forward(
        &mut self,
        world: &mut impl World<Upstream = U>,
        id: FlowId,
        payload: &[u8],
        now: Instant,
    ) -> Result<(), Dropped> {
        let Some(flow) = self.table.get_mut(id) else { return Ok(()) };
        world.send(id, &flow.upstream, payload).map_err(Dropped::Unsent)?;
        flow.traffic.datagrams_up += 1;
        flow.traffic.bytes_up += payload.len() as u64;
        self.table.touch(id, Way::Up, now);
        Ok(())
    }

    /// Ends the flow `id`.
    pub(crate) fn close(&mut self, world: &mut impl World<Upstream = U>, id: FlowId, end: FlowEnd) {
        let established = self.table.is_established(id);
        if let Some(flow) = self.table.remove(id) {
            self.forget_sender((flow.peer.addr(), flow.local), id);
            world.closed(flow, established, end);
        }
    }

    fn forget_sender(&mut self, sender: Sender, id: FlowId) {
        // It may have begun another flow since.
        if self.senders.get(&sender) == Some(&id) {
            self.senders.remove(&sender);
        }
    }
}

/// Why a datagram went nowhere.
#[derive(Debug)]
pub(crate) enum Dropped {
    Refused(DatagramRefused),
    NoFlow(SessionError),
    Full,
    Stopping,
    /// The other worker's mailbox is full.
    Undelivered,
    /// The kernel does not tell when the new socket has something to read.
    Unwatched(io::Error),
    Unsent(io::Error),
}

impl Dropped {
    pub(crate) fn reason(&self) -> DropReason {
        match self {
            Self::Refused(refused) => DropReason::of_refused(refused),
            Self::NoFlow(error) => DropReason::of_error(error),
            Self::Full => DropReason::FlowLimit,
            Self::Stopping => DropReason::Stopping,
            Self::Undelivered => DropReason::Overloaded,
            Self::Unwatched(_) => DropReason::OutOfResources,
            Self::Unsent(error) => DropReason::of_unsent(error),
        }
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::NoFlow(error) => error.fmt(f),
            Self::Full => f.write_str("a limit on flows is reached, and all of them are in use"),
            Self::Stopping => f.write_str("no new flows: the gateway is stopping"),
            Self::Undelivered => f.write_str("the worker it belongs to does not keep up"),
            Self::Unwatched(_) => f.write_str("cannot watch a socket"),
            Self::Unsent(_) => f.write_str("cannot send to the target"),
        }
    }
}

impl Error for Dropped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Refused(refused) => refused.source(),
            Self::NoFlow(error) => error.source(),
            Self::Full | Self::Stopping | Self::Undelivered => None,
            Self::Unwatched(error) | Self::Unsent(error) => Some(error),
        }
    }
}

impl From<DatagramRefused> for Dropped {
    fn from(refused: DatagramRefused) -> Self {
        Self::Refused(refused)
    }
}

impl From<SessionError> for Dropped {
    fn from(error: SessionError) -> Self {
        Self::NoFlow(error)
    }
}

impl From<Full> for Dropped {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}
