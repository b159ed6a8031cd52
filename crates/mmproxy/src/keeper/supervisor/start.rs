//! Starting workers: all at once, or those that are missing.

use std::path::PathBuf;

use mmproxy_forwarder::Namespace;
use tokio::time::Instant;
use tracing::warn;

use super::{PATIENCE, Supervisor};
use crate::exit::{Exit, Failure};
use crate::keeper::crew::{Action, Purpose};
use crate::keeper::event::Generation;
use crate::keeper::notify;
use crate::keeper::process::{Process, WorkerId};

impl Supervisor<'_> {
    /// Starts a worker for every group of a generation.
    pub(super) async fn start(&mut self, purpose: Purpose, generation: Generation) {
        let shift = &self.shifts[&generation];
        let mut workers = Vec::new();
        for group in 0..shift.groups.len() {
            let Some(place) = shift.ground.place(group) else {
                // Its namespace went away in between: the follower says when it is back.
                continue;
            };
            self.last_worker += 1;
            let id = WorkerId(self.last_worker);
            match shift.start(id, group, place, self.executable.clone(), &self.events).await {
                Ok(process) => {
                    self.processes.insert(id, process);
                    workers.push((id, group));
                }
                Err(error) => {
                    workers.iter().for_each(|(id, _)| self.kill(*id));
                    let failure = not_started(&self.executable, error);
                    self.act(Action::Failed(purpose, generation, group, failure)).await;
                    return;
                }
            }
        }
        self.crew.begin(purpose, generation, &workers);
    }

    pub(super) async fn start_group(
        &mut self,
        purpose: Purpose,
        generation: Generation,
        group: usize,
        place: Option<Namespace>,
    ) {
        let Some(shift) = self.shifts.get(&generation) else { return };
        self.last_worker += 1;
        let id = WorkerId(self.last_worker);
        match shift.start(id, group, place, self.executable.clone(), &self.events).await {
            Ok(process) => {
                self.processes.insert(id, process);
                self.crew.begin(purpose, generation, &[(id, group)]);
            }
            Err(error) => {
                warn!(
                    reason = not_started(&self.executable, error).reason(),
                    "a worker could not be started"
                );
                self.again(generation, group);
            }
        }
    }

    pub(super) fn started(&mut self) {
        let shift = &self.shifts[&self.current];
        let addresses = shift.addresses();
        for address in &addresses {
            self.console.always(format_args!("[+] Listening on {address}"));
        }
        self.stop.ready(&addresses);
        notify::ready(&self.summary());
    }

    /// A group without worker gets one: at once, or after a pause if that has not helped before.
    pub(super) fn again(&mut self, generation: Generation, group: usize) {
        if self.stopping.is_some() || generation != self.current {
            return;
        }
        let now = Instant::now();
        let at = self.backoff.entry((generation, group)).or_default().next(now);
        self.due.insert((generation, group), at);
    }

    pub(super) async fn overdue(&mut self) {
        let now = Instant::now();
        if let Some(deadline) = self.stopping
            && deadline <= now
        {
            warn!("workers did not end in time; they are killed");
            self.processes.values().for_each(Process::kill);
            self.stopping = Some(now + PATIENCE);
        }
        let due: Vec<_> = self.due.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect();
        for (generation, group) in due {
            self.due.remove(&(generation, group));
            let place = self.shifts.get(&generation).and_then(|shift| shift.ground.place(group));
            // Without its namespace nothing can be started; the follower says when it is back.
            if let Some(place) = place {
                self.start_group(Purpose::Restart, generation, group, place).await;
            }
        }
    }
}

fn not_started(executable: &std::path::Path, error: std::io::Error) -> Failure {
    Failure::new(Exit::Unavailable, NotStarted { executable: executable.to_owned(), error })
}

#[derive(Debug, thiserror::Error)]
#[error("cannot start a worker from {executable}")]
struct NotStarted {
    executable: PathBuf,
    #[source]
    error: std::io::Error,
}
