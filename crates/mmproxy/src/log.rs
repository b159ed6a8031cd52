//! Logs: one line for each session, and for what the operator has to know, on standard error.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use mmproxy_forwarder::{
    AcceptPaused, Blame, ClaimedSource, ClientPort, CloseReason, DatagramsDropped, DropReason, FlowEnd,
    FlowReport, Observer, OwnAddressesStale, PipesScarce, RateLimited, SessionEstablished, SessionId,
    SessionOpened, SessionReport, UdpCounts,
};
use tracing::{Level, debug, info, warn};
use tracing_subscriber::filter::LevelFilter;

use crate::escape;
use crate::exit::Chain;

/// Starts logging at the level that the flags ask for.
pub(crate) fn start(quiet: bool, verbose: bool) {
    let level = match (quiet, verbose) {
        (true, _) => LevelFilter::WARN,
        (false, false) => LevelFilter::INFO,
        (false, true) => LevelFilter::DEBUG,
    };
    // Only the demonstration and tests call this twice; the first subscriber stays.
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .try_init()
        .ok();
}

/// One session's line; `$level` is one of tracing's macros, which want their level at compile time.
macro_rules! line {
    ($level:ident, $report:expr, $held_back:expr) => {{
        let report: &SessionReport = $report;
        $level!(
            id = %report.id,
            peer = %report.peer,
            client = report.claimed.map(tracing::field::display),
            target = report.target.map(tracing::field::display),
            bytes_up = report.bytes_up,
            bytes_down = report.bytes_down,
            duration_ms = report.total_time.as_millis() as u64,
            reason = %report.reason,
            error = report.error.as_ref().map(|error| Chain(error).to_string()),
            began_with = (!report.opening.is_empty()).then(|| escape::escape(&report.opening)),
            held_back = $held_back,
            "session closed"
        )
    }};
}

/// The same for a flow of datagrams.
macro_rules! flow_line {
    ($level:ident, $report:expr, $end:expr, $held_back:expr) => {{
        let report: &FlowReport = $report;
        $level!(
            id = %report.id,
            peer = %report.peer,
            client = report.claimed.map(tracing::field::display),
            target = %report.target,
            datagrams_up = report.datagrams_up,
            datagrams_down = report.datagrams_down,
            bytes_up = report.bytes_up,
            bytes_down = report.bytes_down,
            duration_ms = report.total_time.as_millis() as u64,
            reason = %$end,
            held_back = $held_back,
            "flow closed"
        )
    }};
}

/// Writes what a UDP gateway has counted, at its end.
pub(crate) fn counted(counts: &UdpCounts) {
    for reason in DropReason::ALL {
        let datagrams = counts.dropped(reason);
        if datagrams > 0 {
            info!(%reason, datagrams, "datagrams were dropped");
        }
    }
    info!(
        up = counts.up,
        down = counts.down,
        flows_evicted = counts.evicted,
        replies_fragmented = counts.fragmented,
        "datagrams were forwarded"
    );
}

/// Writes what the gateway tells.
///
/// A session that reached its target has its line. One that did not because of what a peer sent is logged the
/// first time, then once a minute and reason with the number held back: a hostile peer cannot fill the disk.
pub(crate) struct SessionLog {
    refusals: Mutex<[RateLimited; CloseReason::ALL.len()]>,
    fallbacks: Mutex<RateLimited>,
    flows: Mutex<[RateLimited; FlowEnd::ALL.len()]>,
}

impl SessionLog {
    pub(crate) fn new() -> Self {
        Self {
            refusals: Mutex::new(std::array::from_fn(|_| RateLimited::per_minute())),
            fallbacks: Mutex::new(RateLimited::per_minute()),
            flows: Mutex::new(std::array::from_fn(|_| RateLimited::per_minute())),
        }
    }

    /// Level of a session's line, and how many lines of its kind were held back; `None` is held back too.
    fn admit(&self, report: &SessionReport, now: Instant) -> Option<(Level, u64)> {
        let level = match report.reason.blame() {
            // Health checks connect and leave, all day long.
            Blame::Nobody if report.reason == CloseReason::ConnectOnly => return Some((Level::DEBUG, 0)),
            Blame::Nobody => return Some((Level::INFO, 0)),
            // The relay was up: this is an access record, whoever broke the connection.
            _ if report.bound.is_some() => return Some((Level::INFO, 0)),
            Blame::Peer => Level::INFO,
            Blame::Configuration | Blame::Resources | Blame::Target | Blame::Gateway => Level::WARN,
        };
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals[report.reason as usize].admit(now).map(|held_back| (level, held_back))
    }
}

impl SessionLog {
    fn tell_fallback(&self, id: SessionId, claimed: Option<ClaimedSource>, port: Option<ClientPort>) {
        if let (Some(claimed), Some(ClientPort::Fallback(cause))) = (claimed, port) {
            let mut fallbacks = self.fallbacks.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(held_back) = fallbacks.admit(clock()) {
                info!(%id, client = %claimed, %cause, held_back, "client port not kept");
            }
        }
    }
}

impl Observer for SessionLog {
    fn session_opened(&self, opened: &SessionOpened) {
        debug!(id = %opened.id, peer = %opened.peer, listener = %opened.listener, "session opened");
    }

    fn session_established(&self, established: &SessionEstablished) {
        debug!(
            id = %established.id, peer = %established.peer, client = %established.bound,
            target = %established.target, "session established"
        );
    }

    fn session_closed(&self, report: &SessionReport) {
        self.tell_fallback(report.id, report.claimed, report.client_port);
        match self.admit(report, clock()) {
            Some((Level::WARN, held_back)) => line!(warn, report, Some(held_back).filter(|n| *n > 0)),
            Some((Level::DEBUG, _)) | None => line!(debug, report, None::<u64>),
            Some((_, held_back)) => line!(info, report, Some(held_back).filter(|n| *n > 0)),
        }
    }

    fn accept_paused(&self, paused: &AcceptPaused<'_>) {
        warn!(
            listener = %paused.listener, error = %paused.error, held_back = paused.held_back,
            "accepting waits: the machine is out of something; raise the limit on open files (ulimit -n, LimitNOFILE=)"
        );
    }

    fn pipes_scarce(&self, scarce: &PipesScarce<'_>) {
        let PipesScarce { listener, error, wanted, got, held_back, .. } = *scarce;
        warn!(
            %listener, %error, wanted, got, held_back,
            "pipes are scarce, bulk costs more: raise fs.pipe-user-pages-soft, or grant CAP_SYS_RESOURCE"
        );
    }

    fn own_addresses_stale(&self, stale: &OwnAddressesStale<'_>) {
        warn!(error = %stale.error, held_back = stale.held_back, "cannot read this host's addresses; the last known are used");
    }

    fn flow_opened(&self, opened: &FlowReport) {
        self.tell_fallback(opened.id, opened.claimed, opened.client_port);
        debug!(
            id = %opened.id, peer = %opened.peer, client = %opened.bound, target = %opened.target, "flow opened"
        );
    }

    fn flow_closed(&self, report: &FlowReport, end: FlowEnd) {
        if report.established {
            flow_line!(info, report, end, None::<u64>);
            return;
        }
        // Whoever invents addresses can open flows, and must not fill the disk with them.
        let admitted = {
            let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
            flows[end as usize].admit(clock())
        };
        match admitted {
            Some(held_back) => flow_line!(info, report, end, Some(held_back).filter(|n| *n > 0)),
            None => flow_line!(debug, report, end, None::<u64>),
        }
    }

    fn datagrams_dropped(&self, dropped: &DatagramsDropped<'_>) {
        let DatagramsDropped { listener, reason, held_back, .. } = *dropped;
        let peer = dropped.peer.map(tracing::field::display);
        let error = Chain(dropped.error);
        match reason.blame() {
            Blame::Nobody | Blame::Peer => {
                info!(%listener, peer, %reason, %error, held_back, "datagram dropped");
            }
            Blame::Configuration | Blame::Resources | Blame::Target | Blame::Gateway => {
                warn!(%listener, peer, %reason, %error, held_back, "datagram dropped");
            }
        }
    }

    fn accept_stopped(&self, listener: SocketAddr, sessions: usize) {
        info!(%listener, sessions, "accepting stopped");
    }
}

/// The shell's clock: pure code is given the time.
fn clock() -> Instant {
    Instant::now()
}
