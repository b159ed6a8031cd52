//! Questions that workers have to answer before whoever asked gets a reply.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;
use mmproxy_forwarder::DenyChange;
use tokio::time::Instant;

use super::control::Asker;
use super::process::WorkerId;
use crate::channel::{Answer, Order, Question};
use crate::control::{DenyReply, NamedSession, Reply, SessionName};

/// Open questions.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    last: u64,
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    asker: Asker,
    question: Question,
    /// Who has not answered.
    waiting: BTreeSet<WorkerId>,
    gathered: Gathered,
    /// Not waited for beyond this.
    until: Instant,
}

/// What the answers so far come to.
#[derive(Debug)]
enum Gathered {
    /// Counters, which are the tally's.
    Counters,
    Sessions {
        rows: Vec<NamedSession>,
        at_most: usize,
    },
    Killed(Vec<SessionName>),
    /// Sessions that ended because of the deny list, and what is told besides.
    Denied(DenyReply, Vec<SessionName>),
    /// Each step is passed on at once.
    Steps,
}

/// What is to be done about questions.
#[derive(Debug)]
pub(crate) enum Next {
    Tell(WorkerId, Order),
    /// All counters are as of now: the status can be told.
    Status(Asker),
}

impl Questions {
    /// Asks `workers` to count.
    pub(crate) fn count(&mut self, asker: Asker, workers: &[WorkerId], now: Instant) -> Vec<Next> {
        self.ask(asker, Question::Count, Gathered::Counters, workers, now)
    }

    /// Asks them for sessions.
    pub(crate) fn sessions(
        &mut self,
        asker: Asker,
        (client, at_most): (Option<IpNet>, usize),
        workers: &[WorkerId],
        now: Instant,
    ) -> Vec<Next> {
        let gathered = Gathered::Sessions { rows: Vec::new(), at_most };
        self.ask(asker, Question::Sessions { client, at_most }, gathered, workers, now)
    }

    /// Asks them to end sessions.
    pub(crate) fn kill(
        &mut self,
        asker: Asker,
        question: Question,
        workers: &[WorkerId],
        now: Instant,
    ) -> Vec<Next> {
        self.ask(asker, question, Gathered::Killed(Vec::new()), workers, now)
    }

    /// Has them follow the deny list; the asker hears `reply` when all of them do.
    pub(crate) fn deny(
        &mut self,
        asker: Asker,
        (change, reply): (DenyChange, DenyReply),
        workers: &[WorkerId],
        now: Instant,
    ) -> Vec<Next> {
        let gathered = Gathered::Denied(reply, Vec::new());
        self.ask(asker, Question::Deny { changes: vec![change] }, gathered, workers, now)
    }

    /// Asks them to tell each step, until the asker has gone.
    pub(crate) fn trace(
        &mut self,
        asker: Asker,
        client: IpNet,
        workers: &[WorkerId],
        now: Instant,
    ) -> Vec<Next> {
        self.ask(asker, Question::Follow { client }, Gathered::Steps, workers, now)
    }

    /// What a worker that has just become ready is asked too.
    pub(crate) fn of_new(&self, worker: WorkerId) -> Vec<Next> {
        let followed = self.open.iter().filter(|(_, open)| matches!(open.gathered, Gathered::Steps));
        followed
            .map(|(number, open)| Next::Tell(worker, Order::Ask(*number, open.question.clone())))
            .collect()
    }

    /// A worker answers.
    pub(crate) fn answered(&mut self, number: u64, worker: WorkerId, answer: Answer) -> Vec<Next> {
        let Some(open) = self.open.get_mut(&number) else { return Vec::new() };
        let named = |id| SessionName { worker: worker.0, id };
        match (&mut open.gathered, answer) {
            (Gathered::Sessions { rows, .. }, Answer::Sessions(more)) => {
                rows.extend(more.into_iter().map(|row| NamedSession { session: named(row.id), row }));
            }
            (Gathered::Killed(killed) | Gathered::Denied(_, killed), Answer::Closed(ids)) => {
                killed.extend(ids.into_iter().map(named));
            }
            (Gathered::Steps, Answer::Step(step)) => {
                // Whoever has gone is found by the next look.
                open.asker.send(Reply::Step(step)).ok();
                return Vec::new();
            }
            // The counters came before; and a worker that answers something else has answered.
            (
                Gathered::Counters
                | Gathered::Sessions { .. }
                | Gathered::Killed(_)
                | Gathered::Denied(..)
                | Gathered::Steps,
                _,
            ) => {}
        }
        open.waiting.remove(&worker);
        self.finish(number).into_iter().collect()
    }

    /// A worker will answer nothing any more.
    pub(crate) fn gone(&mut self, worker: WorkerId) -> Vec<Next> {
        let numbers: Vec<u64> = self.open.keys().copied().collect();
        let mut next = Vec::new();
        for number in numbers {
            if self.open.get_mut(&number).is_some_and(|open| open.waiting.remove(&worker)) {
                next.extend(self.finish(number));
            }
        }
        next
    }

    /// Ends what has waited for long enough, and what nobody wants to hear any more.
    pub(crate) fn look(&mut self, workers: &[WorkerId], now: Instant) -> Vec<Next> {
        let numbers: Vec<u64> = self.open.keys().copied().collect();
        let mut next = Vec::new();
        for number in numbers {
            let Some(open) = self.open.get_mut(&number) else { continue };
            if matches!(open.gathered, Gathered::Steps) {
                if open.asker.is_closed() {
                    self.open.remove(&number);
                    let leave = |worker: &WorkerId| Next::Tell(*worker, Order::Ask(number, Question::Leave));
                    next.extend(workers.iter().map(leave));
                }
            } else if open.until <= now {
                open.waiting.clear();
                next.extend(self.finish(number));
            }
        }
        next
    }

    fn ask(
        &mut self,
        asker: Asker,
        question: Question,
        gathered: Gathered,
        workers: &[WorkerId],
        now: Instant,
    ) -> Vec<Next> {
        self.last += 1;
        let number = self.last;
        let order = Order::Ask(number, question.clone());
        let waiting = workers.iter().copied().collect();
        self.open.insert(number, Open { asker, question, waiting, gathered, until: now + PATIENCE });
        let mut next: Vec<Next> = workers.iter().map(|worker| Next::Tell(*worker, order.clone())).collect();
        next.extend(self.finish(number));
        next
    }

    /// The reply, if everybody has answered.
    fn finish(&mut self, number: u64) -> Option<Next> {
        let open = self.open.get(&number)?;
        if !open.waiting.is_empty() || matches!(open.gathered, Gathered::Steps) {
            return None;
        }
        let open = self.open.remove(&number)?;
        let reply = match open.gathered {
            Gathered::Counters => return Some(Next::Status(open.asker)),
            Gathered::Sessions { mut rows, at_most } => {
                rows.sort_by_key(|row| row.session);
                rows.truncate(at_most);
                Reply::Sessions(rows)
            }
            Gathered::Killed(mut killed) => {
                killed.sort_unstable();
                Reply::Killed(killed)
            }
            Gathered::Denied(reply, mut closed) => {
                closed.sort_unstable();
                Reply::Deny(match reply {
                    DenyReply::Added { .. } => DenyReply::Added { closed },
                    reply @ (DenyReply::Listed(_) | DenyReply::Removed { .. }) => reply,
                })
            }
            Gathered::Steps => return None,
        };
        // Nobody listens who has lost patience.
        open.asker.send(reply).ok();
        None
    }
}

/// How long a worker may take: it looks at each session at its next turn.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::unbounded_channel;

    const A: WorkerId = WorkerId(1);
    const B: WorkerId = WorkerId(2);

    #[test]
    fn a_reply_waits_for_every_worker_and_for_none_that_has_gone() {
        let (mut questions, now) = (Questions::default(), Instant::now());
        let (asker, mut replies) = unbounded_channel();
        let next = questions.kill(asker, Question::Count, &[A, B], now);
        assert_eq!(next.len(), 2);
        assert!(questions.answered(1, B, Answer::Closed(vec![4, 3])).is_empty());
        assert!(replies.try_recv().is_err());
        questions.gone(A);
        let names = [3, 4].map(|id| SessionName { worker: 2, id });
        assert_eq!(replies.try_recv().unwrap(), Reply::Killed(names.to_vec()));
    }

    #[test]
    fn without_workers_there_is_an_answer_at_once() {
        let (asker, mut replies) = unbounded_channel();
        Questions::default().sessions(asker, (None, 10), &[], Instant::now());
        assert_eq!(replies.try_recv().unwrap(), Reply::Sessions(Vec::new()));
    }

    #[test]
    fn a_worker_that_does_not_answer_is_waited_for_only_so_long() {
        let (mut questions, now) = (Questions::default(), Instant::now());
        let (asker, mut replies) = unbounded_channel();
        questions.sessions(asker, (None, 10), &[A], now);
        questions.look(&[A], now);
        assert!(replies.try_recv().is_err());
        questions.look(&[A], now + PATIENCE);
        assert_eq!(replies.try_recv().unwrap(), Reply::Sessions(Vec::new()));
    }

    #[test]
    fn whoever_is_followed_is_followed_by_new_workers_too_until_nobody_listens() {
        let (mut questions, now) = (Questions::default(), Instant::now());
        let (asker, replies) = unbounded_channel();
        questions.trace(asker, "::/0".parse().unwrap(), &[A], now);
        assert!(matches!(questions.of_new(B)[..], [Next::Tell(B, Order::Ask(1, Question::Follow { .. }))]));
        assert!(questions.look(&[A, B], now + PATIENCE).is_empty());
        drop(replies);
        assert_eq!(questions.look(&[A, B], now).len(), 2);
        assert!(questions.of_new(B).is_empty());
    }
}
