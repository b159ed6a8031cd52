//! When to stop.

use std::net::SocketAddr;
use std::sync::mpsc;

use tokio::sync::oneshot;

use crate::exit::{Exit, Failure};
use crate::signals::{Asked, Signals};

/// When a gateway stops.
pub(crate) enum Until {
    /// On SIGTERM or SIGINT.
    Signalled,
    /// When the other end of `stopped` says so; `ready` hears the first address listened on.
    Told { ready: mpsc::Sender<SocketAddr>, stopped: oneshot::Receiver<()> },
}

/// Hears when to stop, or to read everything again.
pub(crate) enum Stop {
    Signals(Signals),
    Told {
        ready: mpsc::Sender<SocketAddr>,
        stopped: oneshot::Receiver<()>,
    },
    /// Told once; there is no second time.
    Over,
}

impl Stop {
    /// From here on a signal does not end the process before it has cleaned up.
    pub(crate) fn new(until: Until) -> Result<Self, Failure> {
        match until {
            Until::Signalled => {
                Signals::listen().map(Self::Signals).map_err(|error| Failure::new(Exit::Software, error))
            }
            Until::Told { ready, stopped } => Ok(Self::Told { ready, stopped }),
        }
    }

    /// Tells whoever waits where connections are taken.
    pub(crate) fn ready(&self, addresses: &[SocketAddr]) {
        if let (Self::Told { ready, .. }, Some(address)) = (self, addresses.first()) {
            // Whoever asked has gone: it will not connect, and `stopped` ends this run.
            ready.send(*address).ok();
        }
    }

    /// Waits for the next request.
    pub(crate) async fn asked(&mut self) -> Asked {
        match self {
            Self::Signals(signals) => signals.next().await,
            Self::Told { stopped, .. } => {
                // Dropping the other end is the same as saying so.
                stopped.await.ok();
                *self = Self::Over;
                Asked::Stop("told to")
            }
            Self::Over => std::future::pending().await,
        }
    }
}
