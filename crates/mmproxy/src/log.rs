//! Logs: one record for each session, and for what the operator has to know, on standard error or in the journal.

mod sink;

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use mmproxy_forwarder::{
    AcceptPaused, Blame, ClaimedSource, ClientPort, CloseReason, DatagramsDropped, DropReason, FlowEnd,
    FlowReport, Observer, OwnAddressesStale, PipesScarce, RateLimited, SessionEstablished, SessionId,
    SessionOpened, SessionReport, UdpCounts, WorkerPanicked,
};
use serde::{Deserialize, Serialize};
use tracing::{Level, debug, info, warn};
use tracing_subscriber::filter::LevelFilter;

use crate::cli::LogFormat;
use crate::escape;
use crate::exit::{Chain, Exit, Failure};
use crate::hint::hint;

/// How much is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verbosity {
    /// Warnings.
    Quiet,
    /// And a line for each session.
    #[default]
    Normal,
    /// And each step of it.
    Verbose,
}

impl Verbosity {
    /// What the two flags ask for.
    pub(crate) const fn of(quiet: bool, verbose: bool) -> Self {
        match (quiet, verbose) {
            (true, _) => Self::Quiet,
            (false, false) => Self::Normal,
            (false, true) => Self::Verbose,
        }
    }
}

/// Starts logging so much and in the form that is asked for.
pub(crate) fn start(verbosity: Verbosity, format: Option<LogFormat>) -> Result<(), Failure> {
    let level = match verbosity {
        Verbosity::Quiet => LevelFilter::WARN,
        Verbosity::Normal => LevelFilter::INFO,
        Verbosity::Verbose => LevelFilter::DEBUG,
    };
    sink::start(level, format).map_err(|error| {
        Failure::new(Exit::Unavailable, format!("--log-format journald: {error}")).hint(
            "the journal's socket is /run/systemd/journal/socket; without systemd use --log-format json",
        )
    })
}

/// One session's record; `$level` is one of tracing's macros, which want their level at compile time.
///
/// What a peer chose is escaped here, whatever the form of the log.
macro_rules! line {
    ($level:ident, $service:expr, $report:expr, $held_back:expr) => {{
        let report: &SessionReport = $report;
        let details = report.details.as_deref();
        let tls = details.and_then(|details| details.tls.as_deref());
        let text = |text: &Option<Box<str>>| text.as_ref().map(|text| escape::escape(text.as_bytes()));
        let bytes = |bytes: &Option<Box<[u8]>>| bytes.as_ref().map(|bytes| escape::escape(bytes));
        $level!(
            service = %$service,
            id = report.id.0,
            peer = %report.peer,
            listener = %report.listener,
            client = report.claimed.map(tracing::field::display),
            bound = report.bound.map(tracing::field::display),
            client_port = report.client_port.map(port_label).map(tracing::field::display),
            target = report.target.map(tracing::field::display),
            header = report.header.map(tracing::field::display),
            header_bytes = report.header.map(|_| report.header_len),
            authority = details.and_then(|details| text(&details.authority)),
            unique_id = details.and_then(|details| bytes(&details.unique_id)),
            alpn = details.and_then(|details| bytes(&details.alpn)),
            aws_vpc_endpoint = details.and_then(|details| text(&details.aws_vpc_endpoint)),
            azure_link = details.and_then(|details| details.azure_link),
            gcp_psc = details.and_then(|details| details.gcp_psc),
            tls = tls.map(|tls| tls.encrypted),
            tls_version = tls.and_then(|tls| text(&tls.version)),
            tls_cipher = tls.and_then(|tls| text(&tls.cipher)),
            tls_client_cn = tls.and_then(|tls| text(&tls.common_name)),
            tls_client_verified = tls.filter(|tls| tls.certificate).map(|tls| tls.verified),
            bytes_up = report.bytes_up,
            bytes_down = report.bytes_down,
            spliced_up = Some(report.spliced_up).filter(|bytes| *bytes > 0),
            spliced_down = Some(report.spliced_down).filter(|bytes| *bytes > 0),
            header_ms = report.header_time.map(millis),
            dial_ms = report.dial_time.map(millis),
            first_byte_ms = report.first_byte_time.map(millis),
            duration_ms = report.total_time.as_millis() as u64,
            reason = %report.reason,
            error = report.error.as_ref().map(|error| Chain(error).to_string()),
            began_with = (!report.opening.is_empty()).then(|| escape::escape(&report.opening)),
            hint = (report.reason == CloseReason::HeaderMissing).then(|| hint(&report.opening)).flatten(),
            held_back = $held_back,
            "session closed"
        );
    }};
}

/// With three digits behind the point, which is what a clock is good for.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// What became of the client's port.
const fn port_label(port: ClientPort) -> &'static str {
    match port {
        ClientPort::Kept => "kept",
        ClientPort::Ephemeral => "ephemeral",
        ClientPort::Fallback(conflict) => conflict.label(),
    }
}

/// The same for a flow of datagrams.
macro_rules! flow_line {
    ($level:ident, $service:expr, $report:expr, $end:expr, $held_back:expr) => {{
        let report: &FlowReport = $report;
        $level!(
            service = %$service,
            id = report.id.0,
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
        );
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
        panics = counts.panics,
        "datagrams were forwarded"
    );
}

/// Writes what the gateway tells.
///
/// A session that reached its target has its line. One that did not because of what a peer sent is logged the
/// first time, then once a minute and reason with the number held back: a hostile peer cannot fill the disk.
pub(crate) struct SessionLog {
    service: Box<str>,
    refusals: Mutex<[RateLimited; CloseReason::ALL.len()]>,
    fallbacks: Mutex<RateLimited>,
    flows: Mutex<[RateLimited; FlowEnd::ALL.len()]>,
}

impl SessionLog {
    pub(crate) fn new(service: &str) -> Self {
        Self {
            service: service.into(),
            refusals: Mutex::new(std::array::from_fn(|_| RateLimited::per_minute())),
            fallbacks: Mutex::new(RateLimited::per_minute()),
            flows: Mutex::new(std::array::from_fn(|_| RateLimited::per_minute())),
        }
    }

    /// Level of a session's line, and how many lines of its kind were held back; `None` is held back too.
    fn admit(&self, report: &SessionReport, now: Instant) -> Option<(Level, u64)> {
        let level = match report.reason.blame() {
            // Health checks connect and leave, all day long.
            Blame::Nobody if matches!(report.reason, CloseReason::ConnectOnly | CloseReason::HealthCheck) => {
                return Some((Level::DEBUG, 0));
            }
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
                info!(id = id.0, client = %claimed, %cause, held_back, "client port not kept");
            }
        }
    }
}

impl Observer for SessionLog {
    fn session_opened(&self, opened: &SessionOpened) {
        debug!(id = opened.id.0, peer = %opened.peer, listener = %opened.listener, "session opened");
    }

    fn session_established(&self, established: &SessionEstablished) {
        debug!(
            id = established.id.0, peer = %established.peer, client = %established.bound,
            target = %established.target, "session established"
        );
    }

    fn session_closed(&self, report: &SessionReport) {
        self.tell_fallback(report.id, report.claimed, report.client_port);
        match self.admit(report, clock()) {
            Some((Level::WARN, held_back)) => {
                line!(warn, self.service, report, Some(held_back).filter(|n| *n > 0));
            }
            Some((Level::DEBUG, _)) | None => line!(debug, self.service, report, None::<u64>),
            Some((_, held_back)) => line!(info, self.service, report, Some(held_back).filter(|n| *n > 0)),
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
            id = opened.id.0, peer = %opened.peer, client = %opened.bound, target = %opened.target, "flow opened"
        );
    }

    fn flow_closed(&self, report: &FlowReport, end: FlowEnd) {
        if report.established {
            flow_line!(info, self.service, report, end, None::<u64>);
            return;
        }
        // Whoever invents addresses can open flows, and must not fill the disk with them.
        let admitted = {
            let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
            flows[end as usize].admit(clock())
        };
        match admitted {
            Some(held_back) => {
                flow_line!(info, self.service, report, end, Some(held_back).filter(|n| *n > 0));
            }
            None => flow_line!(debug, self.service, report, end, None::<u64>),
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

    fn worker_panicked(&self, panicked: &WorkerPanicked) {
        let WorkerPanicked { listener, flows, held_back, .. } = *panicked;
        warn!(%listener, flows, held_back, "a worker panicked and began anew without its flows; this is a bug, please report it");
    }

    fn accept_stopped(&self, listener: SocketAddr, sessions: usize) {
        info!(%listener, sessions, "accepting stopped");
    }
}

/// The shell's clock: pure code is given the time.
fn clock() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
