//! A session that lives, as a line of a table or a JSON object.

use mmproxy_forwarder::{ClaimedSource, LiveSession, TargetAddr, TcpState};
use serde::{Deserialize, Serialize};

/// One live session or flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    pub(crate) service: String,
    pub(crate) id: u64,
    pub(crate) peer: String,
    /// As announced; none for the balancer's own connections.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) client: Option<String>,
    /// What the target sees.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) bound: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) target: Option<String>,
    pub(crate) state: String,
    pub(crate) age_ms: u64,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) peer_tcp: Option<TcpRow>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) target_tcp: Option<TcpRow>,
}

/// One side of a session.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TcpRow {
    pub(crate) rtt_ms: f64,
    pub(crate) retransmits: u32,
    pub(crate) unacknowledged: u32,
    pub(crate) congestion_window: u32,
    pub(crate) silent_ms: u64,
}

impl SessionRow {
    pub(crate) fn of(service: &str, session: &LiveSession) -> Self {
        Self {
            service: service.to_owned(),
            id: session.id.0,
            peer: session.peer.addr().to_string(),
            client: session.claimed.map(ClaimedSource::addr).map(|client| client.to_string()),
            bound: session.bound.map(|bound| bound.to_string()),
            target: session.target.map(TargetAddr::addr).map(|target| target.to_string()),
            state: session.state.label().to_owned(),
            age_ms: millis(session.age),
            bytes_up: session.bytes_up,
            bytes_down: session.bytes_down,
            peer_tcp: session.peer_tcp.as_ref().map(TcpRow::of),
            target_tcp: session.target_tcp.as_ref().map(TcpRow::of),
        }
    }
}

impl TcpRow {
    fn of(tcp: &TcpState) -> Self {
        Self {
            rtt_ms: tcp.rtt.as_secs_f64() * 1000.0,
            retransmits: tcp.retransmits,
            unacknowledged: tcp.unacknowledged,
            congestion_window: tcp.congestion_window,
            silent_ms: millis(tcp.silent_for),
        }
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
