//! Answers to what is asked of a worker, each found by a task of its own.

use std::collections::HashMap;
use std::sync::Arc;

use mmproxy_forwarder::{SessionId, Which};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::channel::{Answer, Question};
use crate::eyes::Eyes;

/// Where answers come from.
pub(super) struct Answers {
    eyes: Arc<Eyes>,
    given: mpsc::UnboundedSender<(u64, Answer)>,
    taken: mpsc::UnboundedReceiver<(u64, Answer)>,
    /// Those who tell each step, by the question's number.
    following: HashMap<u64, Vec<AbortHandle>>,
}

impl Answers {
    pub(super) fn new(eyes: Arc<Eyes>) -> Self {
        let (given, taken) = mpsc::unbounded_channel();
        Self { eyes, given, taken, following: HashMap::new() }
    }

    /// Begins to answer.
    pub(super) fn begin(&mut self, number: u64, question: Question) {
        let (eyes, given) = (Arc::clone(&self.eyes), self.given.clone());
        // Nobody takes answers any more from a worker that ends.
        let give = move |answer| given.send((number, answer)).ok();
        match question {
            Question::Count => drop(give(Answer::Counted)),
            Question::Sessions { client, at_most } => {
                drop(tokio::spawn(
                    async move { give(Answer::Sessions(eyes.sessions_of(client, at_most).await)) },
                ));
            }
            Question::Close { id } => {
                drop(tokio::spawn(async move {
                    give(Answer::Closed(eyes.close(Which::Id(SessionId(id))).await))
                }));
            }
            Question::CloseClients { client } => {
                drop(tokio::spawn(
                    async move { give(Answer::Closed(eyes.close(Which::Clients(client)).await)) },
                ));
            }
            Question::Deny { changes } => {
                // Not in the task: changes are in force in the order that they come in.
                let ended = eyes.deny(&changes);
                drop(tokio::spawn(async move { give(Answer::Closed(ended.await)) }));
            }
            Question::Follow { client } => {
                let tasks = eyes.follow(client).into_iter().map(|mut steps| {
                    let given = self.given.clone();
                    let follow = async move {
                        while let Some(step) = steps.recv().await {
                            if given.send((number, Answer::Step(step))).is_err() {
                                return;
                            }
                        }
                    };
                    tokio::spawn(follow).abort_handle()
                });
                self.following.insert(number, tasks.collect());
            }
            Question::Leave => {
                self.following.remove(&number).iter().flatten().for_each(AbortHandle::abort);
            }
        }
    }

    /// The next answer that is ready.
    pub(super) async fn next(&mut self) -> (u64, Answer) {
        match self.taken.recv().await {
            Some(answer) => answer,
            // This value has a sender itself.
            None => std::future::pending().await,
        }
    }
}
