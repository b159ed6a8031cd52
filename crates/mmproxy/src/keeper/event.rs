//! What the keeper hears of.

use std::fmt;

use mmproxy_forwarder::Namespace;
use tokio::sync::mpsc;

use super::control::Asker;
use super::process::{Ended, WorkerId};
use crate::channel::Report;
use crate::control::{NamedSession, Request};
use crate::target_netns::NamespaceName;

/// Something that happened while services are served.
#[derive(Debug)]
pub(crate) enum Event {
    /// A worker says something.
    Said(WorkerId, Report),
    /// A worker's process has ended.
    Ended(WorkerId, Ended),
    /// The network namespace of a generation's targets is there again, with its return path.
    Entered(Generation, NamespaceName, Namespace),
    /// It is gone.
    Left(Generation, NamespaceName),
    /// What a worker wanted to know, by the question's number.
    Gathered(WorkerId, u64, Vec<NamedSession>),
    /// Somebody asks by the control socket.
    Asked(Request, Asker),
}

/// Number of what was asked for: of the start first, and one more for each reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(pub(crate) u64);

/// Where events are sent; a clone is the same place.
#[derive(Clone)]
pub(crate) struct Events(mpsc::UnboundedSender<Event>);

impl Events {
    /// The place, and where events come out.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    pub(crate) fn tell(&self, event: Event) {
        // Nobody listens any more when the keeper has stopped serving.
        self.0.send(event).ok();
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}
