//! SIGTERM and SIGINT: the first asks for a clean end, the second for an end now. SIGHUP: read everything again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that a gateway listens to.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// An end; who says so.
    Stop(&'static str),
    /// What was asked for is to be read again.
    Reload,
}

impl Signals {
    /// Takes the signals over from their default, which is to end the process at once.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next of them.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }
}
