//! The side that asks.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{Reply, Request};
use crate::exit::{Exit, Failure};

/// A connection to a running mmproxy.
pub(crate) struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the control socket at `path`.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or not for this user.
    pub(crate) fn connect(path: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(path).map_err(|error| unreachable(path, error))?;
        Ok(Self { path: path.to_owned(), stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the reply.
    ///
    /// # Errors
    ///
    /// The other side has gone, or refuses; then its reason.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Reply, Failure> {
        self.say(request)?;
        self.reply()?.ok_or_else(|| self.gone(io::ErrorKind::UnexpectedEof.into()))
    }

    /// Asks something that has several replies.
    ///
    /// # Errors
    ///
    /// The other side has gone.
    pub(crate) fn say(&mut self, request: &Request) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(request).map_err(|error| Failure::new(Exit::Software, error))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(|error| self.gone(error))
    }

    /// The next reply; `None` when the other side has ended.
    ///
    /// # Errors
    ///
    /// It refuses; then its reason.
    pub(crate) fn reply(&mut self) -> Result<Option<Reply>, Failure> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).map_err(|error| self.gone(error))? == 0 {
            return Ok(None);
        }
        match serde_json::from_str(&line) {
            Ok(Reply::Refused { reason }) => Err(Failure::new(Exit::Unavailable, reason)),
            Ok(reply) => Ok(Some(reply)),
            Err(error) => Err(Failure::new(Exit::Software, error)
                .hint("the running mmproxy may be of another version: restart it")),
        }
    }

    fn gone(&self, error: io::Error) -> Failure {
        unreachable(&self.path, error)
    }
}

fn unreachable(path: &Path, error: io::Error) -> Failure {
    let refused = error.kind() == io::ErrorKind::PermissionDenied;
    let failure = Failure::new(
        if refused { Exit::NoPermission } else { Exit::Unavailable },
        Unreachable { path: path.to_owned(), error },
    );
    if refused {
        failure.hint("the control socket is for the user that mmproxy runs as: try sudo")
    } else {
        failure.hint("start mmproxy with --control PATH, and name the same path here")
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no mmproxy answers at {path}")]
struct Unreachable {
    path: PathBuf,
    #[source]
    error: io::Error,
}
