//! What a gateway tells while it serves.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mmproxy_codec::Version;

use crate::addr::{ClaimedSource, PeerAddr, TargetAddr};
use crate::details::HeaderDetails;
use crate::report::{SessionId, SessionReport};
use crate::tcp::dial::ClientPort;
use crate::tcp::relay::Side;
use crate::udp::drops::DropReason;
use crate::udp::report::{FlowEnd, FlowReport};

/// Hears what happens. Logs, metrics and tests implement it; every method does nothing by default.
///
/// Methods are called from the threads of the runtime and hold up the session or the accept loop they tell of:
/// they must not block. A panic in one of the `session_` methods ends that session only, one in those about flows the
/// flows of that worker.
pub trait Observer: Send + Sync + 'static {
    /// A peer was accepted; whether it is allowed is not decided yet.
    fn session_opened(&self, _opened: &SessionOpened) {}

    /// A session's header was read.
    fn session_announced(&self, _announced: &SessionAnnounced<'_>) {}

    /// A session's client is authorised and its target chosen; the connection to it is made now.
    fn session_dialing(&self, _dialing: &SessionDialing) {}

    /// A session has its connection to the target and starts to relay.
    fn session_established(&self, _established: &SessionEstablished) {}

    /// One side of a session has ended, and the other was told.
    fn session_half_closed(&self, _half_closed: &SessionHalfClosed) {}

    /// A session ended. Called exactly once for each [`session_opened`](Self::session_opened), with both sides
    /// already closed.
    fn session_closed(&self, _report: &SessionReport) {}

    /// The accept loop waits because the machine ran out of something. Called by the accept loop, once a minute
    /// at most.
    fn accept_paused(&self, _paused: &AcceptPaused<'_>) {}

    /// Bulk goes through a smaller pipe, or through the buffer, for want of room. Once a minute at most.
    fn pipes_scarce(&self, _scarce: &PipesScarce<'_>) {}

    /// This host's own addresses could not be read again; the last known ones are used. Once a minute at most.
    fn own_addresses_stale(&self, _stale: &OwnAddressesStale<'_>) {}

    /// A flow of datagrams begins.
    fn flow_opened(&self, _opened: &FlowReport) {}

    /// A flow ended. Called exactly once for each [`flow_opened`](Self::flow_opened), with its socket already closed.
    fn flow_closed(&self, _report: &FlowReport, _end: FlowEnd) {}

    /// A datagram was dropped. Once a minute and reason at most.
    fn datagrams_dropped(&self, _dropped: &DatagramsDropped<'_>) {}

    /// A worker of a UDP gateway panicked and began anew, without the flows it had. Once a minute at most.
    fn worker_panicked(&self, _panicked: &WorkerPanicked) {}

    /// Accepting ended: the gateway was told to stop, or the listener broke. Sessions still have their drain.
    fn accept_stopped(&self, _listener: SocketAddr, _sessions: usize) {}
}

/// Hears nothing: for a gateway nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// A session that begins.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SessionOpened {
    /// Number of the session.
    pub id: SessionId,
    /// The load balancer.
    pub peer: PeerAddr,
    /// The listener it connected to.
    pub listener: SocketAddr,
}

/// A session whose header was read, or that needs none.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SessionAnnounced<'a> {
    /// Number of the session.
    pub id: SessionId,
    /// The load balancer.
    pub peer: PeerAddr,
    /// Version of the header; `None` where none is asked for.
    pub header: Option<Version>,
    /// The client as announced; `None` for LOCAL, UNKNOWN and families that TCP does not carry.
    pub claimed: Option<ClaimedSource>,
    /// What the header told beside addresses.
    pub details: Option<&'a HeaderDetails>,
    /// From accept to the end of the header.
    pub header_time: Duration,
}

/// A session that may reach its target.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SessionDialing {
    /// Number of the session.
    pub id: SessionId,
    /// The load balancer.
    pub peer: PeerAddr,
    /// The client as announced; `None` where nothing is spoofed.
    pub claimed: Option<ClaimedSource>,
    /// The target.
    pub target: TargetAddr,
}

/// A session of which one side has ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SessionHalfClosed {
    /// Number of the session.
    pub id: SessionId,
    /// The load balancer.
    pub peer: PeerAddr,
    /// The client as announced; `None` where nothing is spoofed.
    pub claimed: Option<ClaimedSource>,
    /// The side that ended.
    pub ended: Side,
}

/// A session whose target answered.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SessionEstablished {
    /// Number of the session.
    pub id: SessionId,
    /// The load balancer.
    pub peer: PeerAddr,
    /// The client as announced; `None` where nothing is spoofed.
    pub claimed: Option<ClaimedSource>,
    /// The address the target sees.
    pub bound: SocketAddr,
    /// What became of the client's port; `None` where nothing was spoofed.
    pub client_port: Option<ClientPort>,
    /// The target.
    pub target: TargetAddr,
    /// From the end of the header to the connection to the target.
    pub dial_time: Duration,
}

/// A pause of the accept loop.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AcceptPaused<'a> {
    /// The listener that waits.
    pub listener: SocketAddr,
    /// What `accept(2)` said: EMFILE, ENFILE, ENOBUFS, ENOMEM, or something that does not stop.
    pub error: &'a io::Error,
    /// Pauses since the last one that was told.
    pub held_back: u64,
}

/// A pipe that could not be had as large as it should be; bytes arrive all the same, at a higher cost.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PipesScarce<'a> {
    /// The listener whose sessions wanted it.
    pub listener: SocketAddr,
    /// What `pipe2(2)` or `fcntl(F_SETPIPE_SZ)` said: EPERM above `fs.pipe-user-pages-soft` or `fs.pipe-max-size`,
    /// EMFILE, ENFILE, ENOMEM.
    pub error: &'a io::Error,
    /// Bytes that it should hold.
    pub wanted: usize,
    /// Bytes that the one which was to be had holds; `None`: the buffer is used instead.
    pub got: Option<usize>,
    /// As many times it was the same since the last one that was told.
    pub held_back: u64,
}

/// A failed attempt to read this host's own addresses.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct OwnAddressesStale<'a> {
    /// What the provider said.
    pub error: &'a io::Error,
    /// Failures since the last one that was told.
    pub held_back: u64,
}

/// A datagram that went nowhere.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DatagramsDropped<'a> {
    /// The listener it came to, or was to leave from.
    pub listener: SocketAddr,
    /// The balancer that sent it, or that was to get it.
    pub peer: Option<PeerAddr>,
    /// Why.
    pub reason: DropReason,
    /// The error behind `reason`.
    pub error: &'a (dyn Error + 'static),
    /// Datagrams dropped for the same reason since the last one that was told.
    pub held_back: u64,
}

/// A worker that panicked.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct WorkerPanicked {
    /// The listener it serves.
    pub listener: SocketAddr,
    /// Flows that ended with it.
    pub flows: usize,
    /// Panics since the last one that was told.
    pub held_back: u64,
}

impl<T: Observer + ?Sized> Observer for Arc<T> {
    fn session_opened(&self, opened: &SessionOpened) {
        (**self).session_opened(opened);
    }

    fn session_announced(&self, announced: &SessionAnnounced<'_>) {
        (**self).session_announced(announced);
    }

    fn session_dialing(&self, dialing: &SessionDialing) {
        (**self).session_dialing(dialing);
    }

    fn session_half_closed(&self, half_closed: &SessionHalfClosed) {
        (**self).session_half_closed(half_closed);
    }

    fn session_established(&self, established: &SessionEstablished) {
        (**self).session_established(established);
    }

    fn session_closed(&self, report: &SessionReport) {
        (**self).session_closed(report);
    }

    fn accept_paused(&self, paused: &AcceptPaused<'_>) {
        (**self).accept_paused(paused);
    }

    fn pipes_scarce(&self, scarce: &PipesScarce<'_>) {
        (**self).pipes_scarce(scarce);
    }

    fn own_addresses_stale(&self, stale: &OwnAddressesStale<'_>) {
        (**self).own_addresses_stale(stale);
    }

    fn flow_opened(&self, opened: &FlowReport) {
        (**self).flow_opened(opened);
    }

    fn flow_closed(&self, report: &FlowReport, end: FlowEnd) {
        (**self).flow_closed(report, end);
    }

    fn datagrams_dropped(&self, dropped: &DatagramsDropped<'_>) {
        (**self).datagrams_dropped(dropped);
    }

    fn worker_panicked(&self, panicked: &WorkerPanicked) {
        (**self).worker_panicked(panicked);
    }

    fn accept_stopped(&self, listener: SocketAddr, sessions: usize) {
        (**self).accept_stopped(listener, sessions);
    }
}
