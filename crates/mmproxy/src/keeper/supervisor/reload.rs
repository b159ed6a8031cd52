//! Reloading: another generation is prepared beside the one that serves, and takes over or goes.

use tracing::{error, info};

use super::Supervisor;
use crate::console::Console;
use crate::control::Reply;
use crate::exit::Failure;
use crate::keeper::activated::Activated;
use crate::keeper::crew::Purpose;
use crate::keeper::event::Generation;
use crate::keeper::notify;
use crate::keeper::shift::Shift;

impl Supervisor<'_> {
    /// Reads everything again; whatever is wrong with it, what is served stays as it is.
    pub(in super::super) async fn reload(&mut self) {
        if self.crew.is_reloading() {
            self.reload_again = true;
            return;
        }
        info!("reloading");
        notify::reloading();
        let generation = Generation(self.shifts.keys().next_back().map_or(0, |last| last.0) + 1);
        match self.next_shift(generation).await {
            Ok(shift) => {
                self.shifts.insert(generation, shift);
                self.start(Purpose::Reload, generation).await;
            }
            Err(failure) => self.not_reloaded(generation, &failure).await,
        }
    }

    async fn next_shift(&self, generation: Generation) -> Result<Shift, Failure> {
        let mut former = self.shifts[&self.current].sockets.clone();
        self.shifts.values().for_each(|shift| former.adopt(&shift.sockets));
        let spec = self.source.read()?;
        Shift::prepare(
            spec,
            generation,
            &former,
            &mut Activated::default(),
            &self.events,
            &mut Console::silent(),
        )
        .await
    }

    pub(super) async fn reloaded(&mut self, generation: Generation) {
        self.current = generation;
        for (_, before) in self.shifts.iter_mut().filter(|(other, _)| **other != generation) {
            before.sockets.retire();
        }
        self.tally.reloaded(true);
        self.tally.watch(self.shifts[&generation].return_paths.clone());
        self.due.clear();
        self.backoff.clear();
        info!("reloaded");
        self.reload_ended(&Reply::Reloaded);
        notify::ready(&self.summary());
        self.retire().await;
        self.once_more().await;
    }

    pub(super) async fn not_reloaded(&mut self, generation: Generation, failure: &Failure) {
        for line in failure.to_string().lines() {
            error!("{line}");
        }
        self.tally.reloaded(false);
        error!("not reloaded: what was served before is served on");
        self.reload_ended(&Reply::Refused { reason: failure.to_string() });
        // Its workers, if there are any, are on their way out; what they need goes with the last of them.
        if let Some(shift) = self.shifts.remove(&generation) {
            tokio::spawn(shift.ground.release());
        }
        notify::ready(&format!("{}; the last reload was refused", self.summary()));
        self.once_more().await;
    }

    pub(super) fn summary(&self) -> String {
        let shift = &self.shifts[&self.current];
        let (services, addresses) = (shift.services.all.len(), shift.addresses().len());
        format!("serving on {addresses} addresses, services: {services}")
    }

    async fn once_more(&mut self) {
        if std::mem::take(&mut self.reload_again) {
            self.reload_askers = std::mem::take(&mut self.next_reload_askers);
            Box::pin(self.reload()).await;
        }
    }

    /// Gives up what only workers needed that are gone.
    pub(super) async fn retire(&mut self) {
        let newest = self.shifts.keys().next_back().copied();
        let over: Vec<_> = self
            .shifts
            .keys()
            .copied()
            .filter(|generation| {
                *generation != self.current && Some(*generation) != newest && !self.crew.has(*generation)
            })
            .collect();
        for generation in over {
            if let Some(shift) = self.shifts.remove(&generation) {
                shift.ground.release().await;
            }
        }
    }
}
