//! What a worker asks its keeper: who is served by all workers, for whoever looks at the status page.

use std::collections::HashMap;

use tokio::sync::{mpsc, oneshot};

use crate::control::NamedSession;

/// Where others in this process ask; a clone is the same place.
#[derive(Clone, Debug)]
pub(crate) struct Curious(mpsc::UnboundedSender<Wish>);

/// Questions on their way to the keeper.
#[derive(Debug)]
pub(super) struct Curiosity {
    wishes: mpsc::UnboundedReceiver<Wish>,
    open: HashMap<u64, oneshot::Sender<Vec<NamedSession>>>,
    last: u64,
}

/// So many sessions at most, and whoever wants to know of them.
type Wish = (usize, oneshot::Sender<Vec<NamedSession>>);

pub(super) fn curiosity() -> (Curious, Curiosity) {
    let (sender, wishes) = mpsc::unbounded_channel();
    (Curious(sender), Curiosity { wishes, open: HashMap::new(), last: 0 })
}

impl Curious {
    /// Sessions of all workers, as their keeper gathers them; none if it has gone.
    pub(crate) async fn sessions(&self, at_most: usize) -> Vec<NamedSession> {
        let (answer, answered) = oneshot::channel();
        self.0.send((at_most, answer)).ok();
        answered.await.unwrap_or_default()
    }
}

impl Curiosity {
    /// The next question: its number, and how many sessions are wanted at most.
    pub(super) async fn next(&mut self) -> (u64, usize) {
        let Some((at_most, answer)) = self.wishes.recv().await else { return std::future::pending().await };
        // Whoever has lost patience waits for nothing more.
        self.open.retain(|_, open| !open.is_closed());
        self.last += 1;
        self.open.insert(self.last, answer);
        (self.last, at_most)
    }

    /// The keeper answers.
    pub(super) fn answered(&mut self, number: u64, sessions: Vec<NamedSession>) {
        if let Some(answer) = self.open.remove(&number) {
            answer.send(sessions).ok();
        }
    }
}
