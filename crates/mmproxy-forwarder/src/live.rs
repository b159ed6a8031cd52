//! Sessions that live: what they tell of themselves when they are asked, and how they are asked to end.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use mmproxy_codec::Version;
use nix::libc;
use tokio::sync::mpsc::UnboundedSender;

use crate::addr::{ClaimedSource, PeerAddr, TargetAddr, unmapped};
use crate::report::SessionId;
use crate::sys::tcp_info::tcp_info;

/// A session, or a flow of datagrams, at the moment it was asked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LiveSession {
    /// Number of the session.
    pub id: SessionId,
    /// The load balancer.
    pub peer: PeerAddr,
    /// The listener.
    pub listener: SocketAddr,
    /// Version of the header.
    pub header: Option<Version>,
    /// The client as announced.
    pub claimed: Option<ClaimedSource>,
    /// The address the target sees; `None` before there is a connection to it.
    pub bound: Option<SocketAddr>,
    /// The target; `None` before it is chosen.
    pub target: Option<TargetAddr>,
    /// How far it has come.
    pub state: SessionState,
    /// Since accept.
    pub age: Duration,
    /// Bytes that the target accepted so far.
    pub bytes_up: u64,
    /// Bytes that the peer accepted so far.
    pub bytes_down: u64,
    /// The connection to the peer, where there are connections and both stand.
    pub peer_tcp: Option<TcpState>,
    /// The connection to the target.
    pub target_tcp: Option<TcpState>,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// Its header is awaited.
    Header,
    /// Its target is awaited.
    Dial,
    /// Bytes go both ways.
    Relay,
    /// One side has ended.
    HalfClosed,
}

impl SessionState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Header, Self::Dial, Self::Relay, Self::HalfClosed];

    /// Name in tables and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Dial => "dial",
            Self::Relay => "relay",
            Self::HalfClosed => "half_closed",
        }
    }
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What the kernel knows of a connection (`TCP_INFO`, tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpState {
    /// Smoothed round trip time.
    pub rtt: Duration,
    /// Its variation.
    pub rtt_variation: Duration,
    /// Segments sent again since the beginning.
    pub retransmits: u32,
    /// Segments that are on their way.
    pub unacknowledged: u32,
    /// Congestion window in segments.
    pub congestion_window: u32,
    /// Since something was received that carried data.
    pub silent_for: Duration,
}

impl TcpState {
    /// `None` if the kernel does not tell.
    pub(crate) fn of(socket: &impl AsFd) -> Option<Self> {
        let info: libc::tcp_info = tcp_info(socket).ok()?;
        Some(Self {
            rtt: Duration::from_micros(info.tcpi_rtt.into()),
            rtt_variation: Duration::from_micros(info.tcpi_rttvar.into()),
            retransmits: info.tcpi_total_retrans,
            unacknowledged: info.tcpi_unacked,
            congestion_window: info.tcpi_snd_cwnd,
            silent_for: Duration::from_millis(info.tcpi_last_data_recv.into()),
        })
    }
}

/// Which sessions are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one with this number.
    Id(SessionId),
    /// Those whose client, as announced, is in this network.
    Clients(IpNet),
}

impl Which {
    /// Whether it means the session `id` of the client `claimed`.
    pub fn matches(&self, id: SessionId, claimed: Option<ClaimedSource>) -> bool {
        match self {
            Self::Id(meant) => *meant == id,
            Self::Clients(network) => {
                claimed.is_some_and(|claimed| network.contains(&unmapped(claimed.addr()).ip()))
            }
        }
    }
}

/// The operator closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("closed by the operator")]
pub struct Killed;

/// What a session is asked.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// To tell of itself.
    Tell(UnboundedSender<LiveSession>),
    /// To end, if it is meant, and to say so.
    End(Which, Ending, UnboundedSender<SessionId>),
}

/// Why a session is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The operator wants it.
    Killed,
    /// Its client is denied from now on.
    Denied,
}

/// What sessions of a worker are asked and have not heard yet.
///
/// A session looks at each of its turns, which costs it one load while nobody asks. Dropped orders are as good as
/// answered ones: whoever asks waits until nobody holds the other end of the channel.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// Sessions that have some.
    pending: AtomicUsize,
    by_session: Mutex<HashMap<u32, Vec<Order>>>,
}

impl Orders {
    /// Gives `order` to the session `key`, which has to be woken.
    pub(crate) fn give(&self, key: u32, order: Order) {
        let mut orders = self.lock();
        orders.entry(key).or_default().push(order);
        self.pending.store(orders.len(), Ordering::Release);
    }

    /// Takes what the session `key` was asked.
    pub(crate) fn take(&self, key: u32) -> Vec<Order> {
        if self.pending.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let mut orders = self.lock();
        let taken = orders.remove(&key).unwrap_or_default();
        if orders.is_empty() {
            *orders = HashMap::new();
        }
        self.pending.store(orders.len(), Ordering::Release);
        taken
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Vec<Order>>> {
        self.by_session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
