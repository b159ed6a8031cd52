//! Who serves, who is about to, and who leaves: decides what becomes of workers, and starts or ends none itself.

use std::collections::{BTreeMap, BTreeSet};

use super::event::Generation;
use super::process::{Ended, WorkerId};
use crate::channel::Order;
use crate::exit::Failure;

/// All worker processes that live.
///
/// Workers take over from each other in three steps: the new ones prepare, while the old ones serve; the old ones stop
/// accepting; the new ones begin to. In between nobody accepts for a moment, and what comes in waits in the sockets,
/// which are the same for all. A takeover that fails before its second step has changed nothing.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    members: BTreeMap<WorkerId, Member>,
    takeovers: Vec<Takeover>,
}

/// A worker process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) generation: Generation,
    /// Its group's place in its generation.
    pub(crate) group: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Getting ready, or ready and waiting for its turn.
    Preparing,
    Serving,
    /// Has been told to stop accepting.
    Leaving,
}

/// Workers that are to take over.
#[derive(Debug)]
struct Takeover {
    purpose: Purpose,
    generation: Generation,
    /// Those that are not ready yet.
    unready: BTreeSet<WorkerId>,
    ready: BTreeSet<WorkerId>,
    /// Once all are ready: those that still accept.
    before: Option<BTreeSet<WorkerId>>,
}

/// Why workers are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The first ones.
    Start,
    /// For what was read again.
    Reload,
    /// For one that ended.
    Restart,
    /// In the namespace that took the place of another.
    Follow,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Action {
    Tell(WorkerId, Order),
    Kill(WorkerId),
    /// A takeover is complete; the group of its first worker.
    Done(Purpose, Generation, usize),
    /// A takeover has come to nothing; those who served before go on.
    Failed(Purpose, Generation, usize, Failure),
    /// A worker that served has ended by itself.
    Lost(Generation, usize, Ended),
}

impl Member {
    /// In one word.
    pub(crate) const fn state(&self) -> &'static str {
        match self.state {
            State::Preparing => "preparing",
            State::Serving => "serving",
            State::Leaving => "leaving",
        }
    }
}

impl Crew {
    /// Begins a takeover by `workers`, each for a group of `generation`, which have been told to prepare.
    pub(crate) fn begin(&mut self, purpose: Purpose, generation: Generation, workers: &[(WorkerId, usize)]) {
        for &(id, group) in workers {
            self.members.insert(id, Member { generation, group, state: State::Preparing });
        }
        let unready = workers.iter().map(|(id, _)| *id).collect();
        self.takeovers.push(Takeover { purpose, generation, unready, ready: BTreeSet::new(), before: None });
    }

    /// A worker is prepared.
    pub(crate) fn ready(&mut self, id: WorkerId) -> Vec<Action> {
        let Some(number) = self.takeovers.iter().position(|takeover| takeover.unready.contains(&id)) else {
            return Vec::new();
        };
        let takeover = &mut self.takeovers[number];
        takeover.unready.remove(&id);
        takeover.ready.insert(id);
        if takeover.unready.is_empty() { self.relieve(number) } else { Vec::new() }
    }

    /// A worker does not accept any more.
    pub(crate) fn handed_over(&mut self, id: WorkerId) -> Vec<Action> {
        for takeover in &mut self.takeovers {
            if let Some(before) = &mut takeover.before {
                before.remove(&id);
            }
        }
        self.complete()
    }

    /// A worker cannot serve and says why; its end is still to come.
    pub(crate) fn failed(&mut self, id: WorkerId, failure: Failure) -> Vec<Action> {
        self.give_up(id, || failure)
    }

    /// A worker's process has ended.
    pub(crate) fn ended(
        &mut self,
        id: WorkerId,
        how: Ended,
        failure: impl FnOnce() -> Failure,
    ) -> Vec<Action> {
        let mut actions = self.give_up(id, failure);
        let Some(member) = self.members.remove(&id) else { return actions };
        if member.state == State::Serving {
            actions.push(Action::Lost(member.generation, member.group, how));
        }
        actions.extend(self.handed_over(id));
        actions
    }

    /// Nobody accepts any more: those who serve drain, those who prepare are ended.
    pub(crate) fn drain(&mut self) -> Vec<Action> {
        self.takeovers.clear();
        let mut actions = Vec::new();
        for (id, member) in &mut self.members {
            actions.push(match member.state {
                State::Preparing => Action::Kill(*id),
                State::Serving | State::Leaving => Action::Tell(*id, Order::Drain),
            });
            member.state = State::Leaving;
        }
        actions
    }

    /// Whether nobody lives.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether a reload is under way.
    pub(crate) fn is_reloading(&self) -> bool {
        self.takeovers.iter().any(|takeover| takeover.purpose == Purpose::Reload)
    }

    /// Whether anybody of `generation` lives.
    pub(crate) fn has(&self, generation: Generation) -> bool {
        self.members.values().any(|member| member.generation == generation)
    }

    /// Everybody who lives.
    pub(crate) fn members(&self) -> impl Iterator<Item = (WorkerId, Member)> + '_ {
        self.members.iter().map(|(id, member)| (*id, *member))
    }

    /// Everybody who accepts.
    pub(crate) fn serving(&self) -> impl Iterator<Item = (WorkerId, Member)> + '_ {
        self.members().filter(|(_, member)| member.state == State::Serving)
    }

    /// The second step: those before stop accepting.
    fn relieve(&mut self, number: usize) -> Vec<Action> {
        let takeover = &self.takeovers[number];
        let (purpose, generation) = (takeover.purpose, takeover.generation);
        let groups: BTreeSet<usize> =
            takeover.ready.iter().filter_map(|id| Some(self.members.get(id)?.group)).collect();
        let whole = matches!(purpose, Purpose::Start | Purpose::Reload);
        let mut actions = Vec::new();
        let mut before = BTreeSet::new();
        for (id, member) in &mut self.members {
            let relieved = whole || (member.generation == generation && groups.contains(&member.group));
            if member.state == State::Serving && relieved {
                member.state = State::Leaving;
                before.insert(*id);
                actions.push(Action::Tell(*id, Order::HandOver));
            }
        }
        self.takeovers[number].before = Some(before);
        if whole {
            actions.extend(self.cancel_others(generation));
        }
        actions.extend(self.complete());
        actions
    }

    /// Ends those who prepare for what is not wanted any more.
    fn cancel_others(&mut self, generation: Generation) -> Vec<Action> {
        let (kept, cancelled): (Vec<_>, Vec<_>) = std::mem::take(&mut self.takeovers)
            .into_iter()
            .partition(|takeover| takeover.generation == generation);
        self.takeovers = kept;
        let mut actions = Vec::new();
        for id in
            cancelled.into_iter().flat_map(|takeover| takeover.unready.into_iter().chain(takeover.ready))
        {
            if let Some(member) = self.members.get_mut(&id) {
                member.state = State::Leaving;
                actions.push(Action::Kill(id));
            }
        }
        actions
    }

    /// The third step, of every takeover that has come so far.
    fn complete(&mut self) -> Vec<Action> {
        let (done, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.takeovers)
            .into_iter()
            .partition(|takeover| takeover.before.as_ref().is_some_and(BTreeSet::is_empty));
        self.takeovers = rest;
        let mut actions = Vec::new();
        for takeover in done {
            let group =
                takeover.ready.first().and_then(|id| self.members.get(id)).map_or(0, |first| first.group);
            for id in takeover.ready {
                if let Some(member) = self.members.get_mut(&id) {
                    member.state = State::Serving;
                    actions.push(Action::Tell(id, Order::Serve));
                }
            }
            actions.push(Action::Done(takeover.purpose, takeover.generation, group));
        }
        actions
    }

    /// A takeover without one of its workers is none; past its second step it goes on without.
    fn give_up(&mut self, id: WorkerId, failure: impl FnOnce() -> Failure) -> Vec<Action> {
        let involved = |takeover: &Takeover| takeover.unready.contains(&id) || takeover.ready.contains(&id);
        let Some(number) = self.takeovers.iter().position(involved) else { return Vec::new() };
        let group = self.members.get(&id).map_or(0, |member| member.group);
        if self.takeovers[number].before.is_some() {
            let takeover = &mut self.takeovers[number];
            takeover.ready.remove(&id);
            let generation = takeover.generation;
            return vec![Action::Failed(Purpose::Restart, generation, group, failure())];
        }
        let takeover = self.takeovers.remove(number);
        let mut actions = Vec::new();
        for other in takeover.unready.into_iter().chain(takeover.ready) {
            if let Some(member) = self.members.get_mut(&other) {
                member.state = State::Leaving;
                actions.push(Action::Kill(other));
            }
        }
        actions.push(Action::Failed(takeover.purpose, takeover.generation, group, failure()));
        actions
    }
}

#[cfg(test)]
mod tests;
