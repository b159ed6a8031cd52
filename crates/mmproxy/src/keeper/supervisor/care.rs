//! What is looked at again and again.

use std::time::Duration;

use mmproxy_forwarder::OwnAddresses;
use tokio::time::Instant;
use tracing::{error, warn};

use super::Supervisor;
use crate::channel::{Addresses, Order};
use crate::keeper::notify;
use crate::keeper::process::WorkerId;

impl Supervisor<'_> {
    /// What is looked at again and again: do the workers answer, are the host's addresses the same?
    pub(super) fn beat(&mut self) {
        notify::alive();
        self.look_at_questions();
        self.denials.keep();
        let now = Instant::now();
        let silent: Vec<_> =
            self.unanswered.iter().filter(|(_, since)| **since + HUNG < now).map(|(id, _)| *id).collect();
        for id in silent {
            error!(worker = %id, "a worker does not answer any more; it is killed");
            self.unanswered.remove(&id);
            self.kill(id);
        }
        let serving: Vec<_> = self.crew.serving().collect();
        for (id, member) in &serving {
            if !self.unanswered.contains_key(id) {
                self.unanswered.insert(*id, now);
                self.tell(*id, Order::Ping);
            }
            let elsewhere = self
                .shifts
                .get(&member.generation)
                .is_some_and(|shift| shift.groups[member.group].netns.is_some());
            if elsewhere {
                self.tell_host(*id);
            }
        }
    }

    /// A worker in another namespace cannot ask for the host's addresses.
    fn tell_host(&mut self, id: WorkerId) {
        match OwnAddresses::of_this_host() {
            Ok(own) => {
                let host = Addresses::from(&own);
                if self.host.as_ref() != Some(&host) {
                    self.host = Some(host.clone());
                }
                self.tell(id, Order::Host(host));
            }
            Err(error) => warn!(%error, "cannot read this host's addresses; the last known are used"),
        }
    }
}

/// How long a worker may owe an answer: its threads do nothing that takes longer than milliseconds.
const HUNG: Duration = Duration::from_secs(30);
