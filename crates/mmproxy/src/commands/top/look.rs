//! Looks at a running mmproxy, by its control socket.

use std::thread;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::cli::TopArgs;
use crate::commands::control::unexpected;
use crate::control::{Client, NamedSession, Reply, Request, Status};
use crate::exit::Failure;

/// What there was to see at one moment.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) status: Status,
    pub(super) sessions: Vec<NamedSession>,
}

/// Whoever looks.
pub(super) struct Looker {
    args: TopArgs,
    /// None after a failure: mmproxy may have been started anew.
    client: Option<Client>,
}

impl Looker {
    /// # Errors
    ///
    /// Nobody listens at the control socket.
    pub(super) fn connect(args: TopArgs) -> Result<Self, Failure> {
        let client = Client::connect(&args.control.control)?;
        Ok(Self { args, client: Some(client) })
    }

    /// # Errors
    ///
    /// No answer. The next look connects again.
    pub(super) fn look(&mut self) -> Result<Look, Failure> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.args.control.control)?,
        };
        let sessions = Request::Sessions { client: self.args.client, at_most: self.args.at_most };
        let Reply::Status(status) = client.ask(&Request::Status)? else { return Err(unexpected()) };
        let at = Instant::now();
        let Reply::Sessions(sessions) = client.ask(&sessions)? else { return Err(unexpected()) };
        self.client = Some(client);
        Ok(Look { at, status: *status, sessions })
    }
}

/// Looks in a thread of its own, so that keys are heard while mmproxy takes its time.
pub(super) fn repeat(mut looker: Looker) -> mpsc::Receiver<Result<Look, Failure>> {
    let (sender, looks) = mpsc::channel(1);
    thread::spawn(move || {
        loop {
            thread::sleep(looker.args.interval);
            if sender.blocking_send(looker.look()).is_err() {
                return;
            }
        }
    });
    looks
}
