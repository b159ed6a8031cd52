//! The control socket: what an operator can ask a running mmproxy, and what it answers.
//!
//! A Unix stream socket of the keeper's, for its user alone. Each request is a line of JSON, and so is each reply; a
//! request is answered by one reply, [`Request::Trace`] by one for each step until whoever asks goes away. A connection
//! takes any number of requests, one after the other.

mod client;
mod deny;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub(crate) use self::client::Client;
pub(crate) use self::deny::{DeniedRow, DenyReply, DenyRequest};
use crate::admin::SessionRow;
use crate::metrics::Snapshot;
use crate::trace::Step;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// How is everything?
    Status,
    /// Who is being served?
    Sessions {
        /// Whose client, as announced, is in this network; everybody's without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client: Option<IpNet>,
        /// No more than these.
        #[serde(default = "many")]
        at_most: usize,
    },
    /// End sessions; both sides are reset.
    Kill(Meant),
    /// Tell every step of the sessions of these clients.
    Trace { client: IpNet },
    /// Look at, or change, who is denied.
    Deny(DenyRequest),
    /// Read everything again.
    Reload,
}

/// Which sessions are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Meant {
    /// The one of this name.
    Session(SessionName),
    /// Those of clients in this network.
    Client(IpNet),
}

/// A session's name while the keeper lives, such as `3.17`: the worker's number and the session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct SessionName {
    pub(crate) worker: u64,
    pub(crate) id: u64,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Status(Box<Status>),
    Sessions(Vec<NamedSession>),
    /// These have ended.
    Killed(Vec<SessionName>),
    /// What came of a [`DenyRequest`].
    Deny(DenyReply),
    /// One step of a session that is traced.
    Step(Step),
    /// What was read again is in force.
    Reloaded,
    /// It was not done.
    Refused {
        /// Why; one line for each mistake.
        reason: String,
    },
}

/// How a running mmproxy is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    /// Of the keeper.
    pub(crate) pid: u32,
    pub(crate) uptime_s: u64,
    pub(crate) services: Vec<ServiceStatus>,
    pub(crate) workers: Vec<WorkerStatus>,
    /// Everything that was counted since the start.
    pub(crate) counted: Snapshot,
}

/// A service as it is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServiceStatus {
    pub(crate) name: String,
    /// `tcp`, `udp`.
    pub(crate) protocol: String,
    pub(crate) listen: Vec<String>,
    pub(crate) targets: Vec<String>,
}

/// A worker process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkerStatus {
    pub(crate) worker: u64,
    pub(crate) pid: i32,
    /// `preparing`, `serving`, `leaving`.
    pub(crate) state: String,
}

/// A live session with its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NamedSession {
    pub(crate) session: SessionName,
    #[serde(flatten)]
    pub(crate) row: SessionRow,
}

impl std::fmt::Display for SessionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.worker, self.id)
    }
}

impl std::str::FromStr for SessionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts =
            text.split_once('.').and_then(|(worker, id)| Some((worker.parse().ok()?, id.parse().ok()?)));
        let (worker, id) = parts.ok_or_else(|| {
            format!("`{text}` is no session's name; `mmproxy sessions` shows them, such as 3.17")
        })?;
        Ok(Self { worker, id })
    }
}

impl TryFrom<String> for SessionName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SessionName> for String {
    fn from(name: SessionName) -> Self {
        name.to_string()
    }
}

/// More than anybody reads.
const fn many() -> usize {
    10_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_written_as_documented() {
        for (request, text) in [
            (Request::Status, r#""status""#),
            (Request::Sessions { client: None, at_most: 10_000 }, r#"{"sessions":{}}"#),
            (
                Request::Sessions { client: Some("203.0.113.0/24".parse().unwrap()), at_most: 5 },
                r#"{"sessions":{"client":"203.0.113.0/24","at_most":5}}"#,
            ),
            (
                Request::Kill(Meant::Session(SessionName { worker: 3, id: 17 })),
                r#"{"kill":{"session":"3.17"}}"#,
            ),
            (
                Request::Kill(Meant::Client("203.0.113.7/32".parse().unwrap())),
                r#"{"kill":{"client":"203.0.113.7/32"}}"#,
            ),
            (Request::Trace { client: "::/0".parse().unwrap() }, r#"{"trace":{"client":"::/0"}}"#),
            (
                Request::Deny(DenyRequest::Add {
                    network: "203.0.113.7/32".parse().unwrap(),
                    for_s: Some(3600),
                    reason: Some("tries passwords".to_owned()),
                    close: true,
                }),
                r#"{"deny":{"add":{"network":"203.0.113.7/32","for_s":3600,"reason":"tries passwords","close":true}}}"#,
            ),
            (
                Request::Deny(DenyRequest::Add {
                    network: "203.0.113.7/32".parse().unwrap(),
                    for_s: None,
                    reason: None,
                    close: false,
                }),
                r#"{"deny":{"add":{"network":"203.0.113.7/32"}}}"#,
            ),
            (Request::Deny(DenyRequest::List), r#"{"deny":"list"}"#),
            (
                Request::Deny(DenyRequest::Remove { network: "203.0.113.7/32".parse().unwrap() }),
                r#"{"deny":{"remove":{"network":"203.0.113.7/32"}}}"#,
            ),
            (Request::Reload, r#""reload""#),
        ] {
            assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request, "{text}");
        }
    }

    #[test]
    fn a_name_is_a_worker_and_a_session() {
        assert_eq!("3.17".parse(), Ok(SessionName { worker: 3, id: 17 }));
        for text in ["", "3", "3.", ".17", "3.17.1", "a.b"] {
            assert!(text.parse::<SessionName>().is_err(), "{text}");
        }
    }
}
