//! What an attack is.

use std::fmt::{self, Debug};
use std::pin::Pin;
use std::time::Instant;

use crate::Plan;
use crate::attacks::{floods, idle, malformed, slow};
use crate::world::runtime;

/// Something that a hostile balancer, or a crowd of clients behind an honest one, does all through a turn.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) what: String,
    /// What the gateway is told for it, beside its defaults.
    pub(crate) configuration: Configuration,
    /// How many connections it holds at a time: so many more descriptors does the gateway have then.
    pub(crate) held: u32,
    /// How many headers are to be refused in all turns together.
    pub(crate) malformed: u32,
    /// What the gateway's memory may grow by, after docs/operations.md ("Sizing", "Limits", "Datagrams").
    pub(crate) bound_kib: usize,
    pub(crate) begin: Begin,
}

/// What a gateway is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Configuration {
    /// Of connections.
    pub(crate) connections: &'static str,
    /// Whether datagrams are the same process's: connections have half of its descriptors then.
    pub(crate) together: bool,
}

/// Does it until the moment that is given.
pub(crate) type Begin = Box<dyn Fn(Instant) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync>;

impl Attack {
    pub(crate) fn all(plan: &Plan, crowd: u32) -> [Self; 4] {
        [slow::attack(crowd), malformed::attack(plan), idle::attack(crowd), floods::attack()]
    }

    pub(crate) fn new<F: Future<Output = ()> + 'static>(
        name: &'static str,
        what: String,
        begin: impl Fn(Instant) -> F + Send + Sync + 'static,
    ) -> Self {
        let begin = Box::new(move |end| -> Pin<Box<dyn Future<Output = ()>>> { Box::pin(begin(end)) });
        Self {
            name,
            what,
            configuration: Configuration { connections: "", together: true },
            held: 0,
            malformed: 0,
            bound_kib: SHARED_KIB,
            begin,
        }
    }

    /// The calling thread attacks until `end`, and takes back what it holds.
    pub(crate) fn run(&self, end: Instant) {
        runtime().block_on((self.begin)(end));
    }
}

impl Debug for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attack").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a connection costs whose header has not come, a session that is idle, and a flow.
pub(crate) const HEADER_KIB: usize = 8;
pub(crate) const IDLE_KIB: usize = 2;
pub(crate) const FLOW_KIB: usize = 2;
/// What those who spent some of their burst cost, however many are invented.
pub(crate) const NETWORKS_KIB: usize = 5 << 10;
/// Code and tables that the first of their kind touch.
const SHARED_KIB: usize = 4 << 10;
