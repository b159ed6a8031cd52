//! Everybody who looks on while a service works: its log, its counters, those who follow sessions.

use std::net::SocketAddr;
use std::sync::Arc;

use mmproxy_forwarder::{
    AcceptPaused, DatagramsDropped, FlowEnd, FlowReport, Observer, OwnAddressesStale, SessionAnnounced,
    SessionDialing, SessionEstablished, SessionHalfClosed, SessionOpened, SessionReport, WorkerPanicked,
};

use crate::log::SessionLog;
use crate::metrics::ServiceMetrics;
use crate::trace::Trace;

/// The observers of one service. A clone is the same.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) name: Arc<str>,
    pub(crate) metrics: Arc<ServiceMetrics>,
    pub(crate) trace: Arc<Trace>,
    log: Arc<SessionLog>,
}

impl Watch {
    /// Of a service of this name.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            metrics: Arc::new(ServiceMetrics::new()),
            trace: Arc::new(Trace::new(name)),
            log: Arc::new(SessionLog::new(name)),
        }
    }

    /// Each of them; the counters last, so that whoever sees a session counted finds it in the log.
    fn each(&self) -> [&dyn Observer; 3] {
        [&*self.trace, &*self.log, &*self.metrics]
    }
}

impl Observer for Watch {
    fn session_opened(&self, opened: &SessionOpened) {
        self.each().iter().for_each(|observer| observer.session_opened(opened));
    }

    fn session_announced(&self, announced: &SessionAnnounced<'_>) {
        self.each().iter().for_each(|observer| observer.session_announced(announced));
    }

    fn session_dialing(&self, dialing: &SessionDialing) {
        self.each().iter().for_each(|observer| observer.session_dialing(dialing));
    }

    fn session_established(&self, established: &SessionEstablished) {
        self.each().iter().for_each(|observer| observer.session_established(established));
    }

    fn session_half_closed(&self, half_closed: &SessionHalfClosed) {
        self.each().iter().for_each(|observer| observer.session_half_closed(half_closed));
    }

    fn session_closed(&self, report: &SessionReport) {
        self.each().iter().for_each(|observer| observer.session_closed(report));
    }

    fn accept_paused(&self, paused: &AcceptPaused<'_>) {
        self.each().iter().for_each(|observer| observer.accept_paused(paused));
    }

    fn own_addresses_stale(&self, stale: &OwnAddressesStale<'_>) {
        self.each().iter().for_each(|observer| observer.own_addresses_stale(stale));
    }

    fn flow_opened(&self, opened: &FlowReport) {
        self.each().iter().for_each(|observer| observer.flow_opened(opened));
    }

    fn flow_closed(&self, report: &FlowReport, end: FlowEnd) {
        self.each().iter().for_each(|observer| observer.flow_closed(report, end));
    }

    fn datagrams_dropped(&self, dropped: &DatagramsDropped<'_>) {
        self.each().iter().for_each(|observer| observer.datagrams_dropped(dropped));
    }

    fn worker_panicked(&self, panicked: &WorkerPanicked) {
        self.each().iter().for_each(|observer| observer.worker_panicked(panicked));
    }

    fn accept_stopped(&self, listener: SocketAddr, sessions: usize) {
        self.each().iter().for_each(|observer| observer.accept_stopped(listener, sessions));
    }
}
