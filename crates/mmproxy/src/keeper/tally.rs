//! What all workers have counted, those that ended included, and what the keeper sees itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::process::WorkerId;
use crate::eyes::ReturnPathState;
use crate::metrics::{Process, Snapshot};

/// The sum of everything, so that no counter falls when a worker ends.
#[derive(Debug)]
pub(crate) struct Tally {
    process: Process,
    /// What each worker said last.
    latest: BTreeMap<WorkerId, Snapshot>,
    /// What those counted that are gone.
    ended: Snapshot,
    restarts: u64,
    reloads: BTreeMap<String, u64>,
    return_paths: BTreeMap<String, Arc<ReturnPathState>>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            process: Process::new(),
            latest: BTreeMap::new(),
            ended: Snapshot::default(),
            restarts: 0,
            reloads: BTreeMap::from([("applied".to_owned(), 0), ("refused".to_owned(), 0)]),
            return_paths: BTreeMap::new(),
        }
    }

    /// A worker has counted this much.
    pub(crate) fn counted(&mut self, id: WorkerId, snapshot: Snapshot) {
        self.latest.insert(id, snapshot);
    }

    /// A worker is gone.
    pub(crate) fn ended(&mut self, id: WorkerId) {
        if let Some(last) = self.latest.remove(&id) {
            self.ended.add(&last.ended());
        }
    }

    /// A worker ended without being told to.
    pub(crate) const fn lost(&mut self) {
        self.restarts += 1;
    }

    /// A reload came to this.
    pub(crate) fn reloaded(&mut self, applied: bool) {
        let outcome = if applied { "applied" } else { "refused" };
        *self.reloads.entry(outcome.to_owned()).or_default() += 1;
    }

    /// These are the return paths that count from now on, by where they are.
    pub(crate) fn watch(&mut self, return_paths: BTreeMap<String, Arc<ReturnPathState>>) {
        self.return_paths = return_paths;
    }

    /// Everything but what `worker` counts itself.
    pub(crate) fn beside(&self, worker: WorkerId) -> Snapshot {
        self.without(Some(worker))
    }

    /// Everything.
    pub(crate) fn all(&self) -> Snapshot {
        self.without(None)
    }

    fn without(&self, worker: Option<WorkerId>) -> Snapshot {
        let mut sum = self.ended.clone();
        for (_, snapshot) in self.latest.iter().filter(|(id, _)| Some(**id) != worker) {
            sum.add(snapshot);
        }
        sum.processes.insert("keeper".to_owned(), self.process.snapshot());
        sum.worker_restarts += self.restarts;
        sum.reloads.extend(self.reloads.clone());
        let known = |(place, state): (&String, &Arc<ReturnPathState>)| Some((place.clone(), state.get()?));
        sum.return_path.extend(self.return_paths.iter().filter_map(known));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::ServiceSnapshot;

    fn counted(opened: u64, finished: u64) -> Snapshot {
        let closed = BTreeMap::from([("finished".to_owned(), finished)]);
        let service = ServiceSnapshot { opened, closed, ..ServiceSnapshot::default() };
        Snapshot { services: BTreeMap::from([("ssh".to_owned(), service)]), ..Snapshot::default() }
    }

    #[test]
    fn no_counter_falls_when_a_worker_ends_and_none_is_counted_twice() {
        let mut tally = Tally::new();
        let (old, new) = (WorkerId(1), WorkerId(2));
        tally.counted(old, counted(5, 3));
        tally.counted(old, counted(7, 7));
        tally.counted(new, counted(2, 1));
        assert_eq!(tally.beside(new).services["ssh"].opened, 7);
        assert_eq!(tally.beside(old).services["ssh"].opened, 2);
        tally.ended(old);
        let beside = tally.beside(new);
        assert_eq!((beside.services["ssh"].opened, beside.services["ssh"].active()), (7, 0));
        assert_eq!(beside.reloads["applied"], 0);
    }
}
