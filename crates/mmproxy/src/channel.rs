//! What keeper and worker say to each other: one line of JSON each, over a pair of Unix sockets.

mod line;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use mmproxy_forwarder::{DenyChange, OwnAddresses};
use serde::{Deserialize, Serialize};

pub(crate) use self::line::{Ear, Mouth, halves};
use crate::admin::SessionRow;
use crate::cli::ProtocolArg;
use crate::control::NamedSession;
use crate::jail::{Confined, Confinement};
use crate::metrics::Snapshot;
use crate::spec::{Marks, Spec};
use crate::trace::Step;

/// What the keeper tells a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// The first: make yourself ready, and touch no socket yet.
    Prepare(Box<Assignment>),
    /// Serve: nobody else does any more.
    Serve,
    /// Stop accepting, another worker does from now on; sessions may finish.
    HandOver,
    /// Stop accepting, nobody does any more; sessions may finish.
    Drain,
    /// Reset what is left, and end.
    Cut,
    /// The network namespace that the targets were in is gone.
    NamespaceGone,
    /// The host's addresses have changed.
    Host(Addresses),
    /// What everybody else has counted, for whoever asks by the admin address.
    Others(Box<Snapshot>),
    /// Who is served by all workers: the answer to [`Report::WhoIsServed`] of this number.
    Served(u64, Vec<NamedSession>),
    /// Follow the deny list.
    Deny(Vec<DenyChange>),
    /// Answer this, to show that your threads go on.
    Ping,
    /// Answer this question, which has this number.
    Ask(u64, Question),
}

/// What somebody wants to know, or to have done, of all workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    /// What has been counted; [`Report::Counted`] comes before the answer.
    Count,
    /// Sessions that live, of these clients.
    Sessions { client: Option<IpNet>, at_most: usize },
    /// End the session of this number.
    Close { id: u64 },
    /// End the sessions of these clients.
    CloseClients { client: IpNet },
    /// Follow the deny list, and tell which sessions ended for that.
    Deny { changes: Vec<DenyChange> },
    /// Tell each step of the sessions of these clients, from now on.
    Follow { client: IpNet },
    /// Do not any more: what had this number before.
    Leave,
}

/// What a worker answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Counted,
    Sessions(Vec<SessionRow>),
    /// These have been closed.
    Closed(Vec<u64>),
    /// One of several.
    Step(Step),
}

/// What a worker tells the keeper.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// Prepared, and confined.
    Ready(Box<Confined>),
    /// It cannot serve; it ends.
    Failed {
        /// Exit status, after sysexits(3).
        exit: u8,
        /// What went wrong.
        reason: String,
        /// What cures it.
        hints: Vec<String>,
    },
    /// It does not accept any more.
    HandedOver,
    /// The answer to a ping.
    Pong,
    /// What it has counted so far; each second where there is an admin address, and at its end.
    Counted(Box<Snapshot>),
    /// The answer to the question of this number.
    Answer(u64, Answer),
    /// Somebody looks at the status page: which sessions do all workers have, at most so many? The question's number comes first.
    WhoIsServed(u64, usize),
}

/// A worker's part of the whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    /// With the services of this worker alone.
    pub(crate) spec: Spec,
    /// How each service's spoofed sockets are marked.
    pub(crate) marks: Vec<Marks>,
    /// The sockets it was started with, in their order; sockets of one address stand together.
    pub(crate) sockets: Vec<Slot>,
    /// Behind them comes the one of the admin address.
    pub(crate) admin: bool,
    /// Where the targets are in a network namespace of their own, which the worker was started in: the host's addresses,
    /// which it cannot ask for.
    pub(crate) host: Option<Addresses>,
    /// What it keeps before it serves.
    pub(crate) confinement: Confinement,
}

/// A socket that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// The service's place in the worker's [`Spec`].
    pub(crate) service: usize,
    /// The address's place in what the service listens on.
    pub(crate) address: usize,
    pub(crate) protocol: ProtocolArg,
}

/// Addresses of a host's interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    addresses: Vec<IpAddr>,
    broadcasts: Vec<Ipv4Addr>,
}

impl Addresses {
    /// These and `others`.
    pub(crate) fn and(&self, others: &OwnAddresses) -> OwnAddresses {
        OwnAddresses::new(
            self.addresses.iter().copied().chain(others.addresses()),
            self.broadcasts.iter().copied().chain(others.broadcasts()),
        )
    }
}

impl From<&OwnAddresses> for Addresses {
    /// In an order that does not change while they do not.
    fn from(own: &OwnAddresses) -> Self {
        let (mut addresses, mut broadcasts): (Vec<_>, Vec<_>) =
            (own.addresses().collect(), own.broadcasts().collect());
        addresses.sort_unstable();
        broadcasts.sort_unstable();
        Self { addresses, broadcasts }
    }
}
