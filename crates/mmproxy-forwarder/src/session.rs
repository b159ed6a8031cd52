//! One session, from `accept(2)` to its report.

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::choice::ClientFrom;
use crate::error::SessionError;
use crate::netns::{Lifeline, NamespaceGone};
use crate::observer::{Observer, SessionEstablished, SessionOpened};
use crate::report::{CloseReason, OPENING_LEN, SessionReport};
use crate::tcp::accept::Accepted;
use crate::tcp::header::{Announcement, HeaderReadError};
use crate::tcp::relay::Traffic;
use crate::tcp::socket::Socket;
use crate::tcp::{dial, header, relay};
use crate::worker::Seat;

/// Runs one session and reports it. Dropping the future cuts the session.
pub(crate) async fn run(seat: Seat, accepted: Accepted) {
    let mut ledger = Ledger::open(seat, &accepted);
    match flow(accepted.stream, &mut ledger).await {
        Ok(()) => ledger.close(CloseReason::Finished, None),
        Err(error) => ledger.close(error.reason(), Some(error)),
    }
}

/// The steps of a session. Returning early, or being dropped, resets every connection it has.
async fn flow(stream: std::net::TcpStream, ledger: &mut Ledger) -> Result<(), SessionError> {
    let worker = Arc::clone(&ledger.seat.worker);
    let config = &worker.gateway.config;
    ledger.tell_opened();

    let peer = Socket::new(TcpStream::from_std(stream).map_err(HeaderReadError::Read)?);
    ledger.seat.admit(ledger.report.peer)?;
    let mut payload = BytesMut::new();
    let announced = match config.client_from {
        ClientFrom::Peer => Announcement::of_peer(ledger.report.peer),
        ClientFrom::Header => {
            let deadline = ledger.opened + config.header_timeout;
            match header::read(&peer, &mut payload, &config.decode, deadline).await {
                Ok(announced) => announced,
                Err(error) => {
                    ledger.keep_opening(&payload);
                    if matches!(error, HeaderReadError::ConnectOnly) {
                        peer.finish();
                    }
                    return Err(error.into());
                }
            }
        }
    };
    ledger.note_announced(announced);

    let dialed = match announced.client {
        Some(claimed) => {
            let source = worker.authorise(claimed)?;
            let target = config.targets.of_client(source, announced.destination)?;
            ledger.report.target = Some(target);
            dial::connect_spoofed(source, target, &config.dial).await?
        }
        None => {
            let target = config.targets.of_balancer(ledger.report.peer)?;
            ledger.report.target = Some(target);
            dial::connect_plain(target, &config.dial).await?
        }
    };
    ledger.note_dialed(&dialed);
    let target = Socket::new(dialed.stream);

    tokio::select! {
        biased;
        relayed = relay::both_ways(&peer, &target, payload, &ledger.traffic) => relayed?,
        () = outlived(dialed.lifeline, config.drain) => return Err(NamespaceGone.into()),
    }
    peer.finish();
    target.finish();
    Ok(())
}

/// Returns when the namespace of the target has been gone for `drain`. A process that ends has its sockets closed by
/// the kernel: most sessions end by that, and what was sent before is still delivered.
async fn outlived(lifeline: Option<Lifeline>, drain: Duration) {
    match lifeline {
        Some(lifeline) => {
            lifeline.cut().await;
            sleep(drain).await;
        }
        None => pending().await,
    }
}

/// The report in the making. Tells the observer exactly once, also when the session panics or its task is
/// dropped.
struct Ledger {
    seat: Seat,
    opened: Instant,
    report: SessionReport,
    traffic: Traffic,
    told: bool,
}

impl Ledger {
    fn open(seat: Seat, accepted: &Accepted) -> Self {
        let id = seat.worker.gateway.places.next_id();
        Self {
            seat,
            opened: Instant::now(),
            report: SessionReport::new(id, accepted.peer, accepted.listener),
            traffic: Traffic::default(),
            told: false,
        }
    }

    fn observer(&self) -> &dyn Observer {
        &*self.seat.worker.gateway.observer
    }

    fn tell_opened(&self) {
        let SessionReport { id, peer, listener, .. } = self.report;
        self.observer().session_opened(&SessionOpened { id, peer, listener });
    }

    fn keep_opening(&mut self, bytes: &[u8]) {
        self.report.opening = bytes[..bytes.len().min(OPENING_LEN)].to_vec();
    }

    fn note_announced(&mut self, announced: Announcement) {
        self.report.header = announced.version;
        self.report.claimed = announced.client;
        self.report.header_time = Some(self.opened.elapsed());
    }

    fn note_dialed(&mut self, dialed: &dial::Dialed) {
        let since_header = |time| self.opened.elapsed().saturating_sub(time);
        self.report.dial_time = self.report.header_time.map(since_header);
        self.report.bound = Some(dialed.bound);
        self.report.client_port = dialed.client_port;
        if let Some(target) = self.report.target {
            self.observer().session_established(&SessionEstablished {
                id: self.report.id,
                peer: self.report.peer,
                claimed: self.report.claimed,
                bound: dialed.bound,
                target,
            });
        }
    }

    fn close(mut self, reason: CloseReason, error: Option<SessionError>) {
        self.tell_closed(reason, error);
    }

    fn tell_closed(&mut self, reason: CloseReason, error: Option<SessionError>) {
        // Before the call: an observer that panics is not called again from `drop`.
        self.told = true;
        self.report.bytes_up = self.traffic.up();
        self.report.bytes_down = self.traffic.down();
        self.report.total_time = self.opened.elapsed();
        self.report.reason = reason;
        self.report.error = error;
        self.observer().session_closed(&self.report);
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let reason = if std::thread::panicking() { CloseReason::Panicked } else { CloseReason::Drained };
        // A second panic while the first one unwinds would abort the whole gateway.
        catch_unwind(AssertUnwindSafe(|| self.tell_closed(reason, None))).ok();
    }
}
