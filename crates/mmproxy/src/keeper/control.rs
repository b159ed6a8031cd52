//! The control socket's side that answers: takes requests, and hands them to the supervisor.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tracing::debug;

use super::event::{Event, Events};
use crate::control::{Reply, Request};
use crate::exit::{Exit, Failure};

/// The socket at work; removed when dropped.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
    listening: JoinHandle<()>,
}

/// Whoever asked something; replies end when it is dropped.
pub(crate) type Asker = mpsc::UnboundedSender<Reply>;

impl Control {
    /// Listens at `path`, for this process's user alone. What an mmproxy left there that was killed is replaced.
    ///
    /// # Errors
    ///
    /// Another one answers there; no such directory; no permission.
    pub(crate) fn listen(path: &Path, events: &Events) -> Result<Self, Failure> {
        let failed = |error| Failure::new(Exit::Config, NotListening { path: path.to_owned(), error });
        let listener = bind(path).map_err(|error| {
            let failure = failed(error);
            failure.hint("the directory has to be there, and be this user's: RuntimeDirectory=mmproxy makes it in a unit")
        })?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        let listening = tokio::spawn(accept(listener, events.clone()));
        Ok(Self { path: path.to_owned(), listening })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.listening.abort();
        // Somebody may have removed it before.
        fs::remove_file(&self.path).ok();
    }
}

fn bind(path: &Path) -> io::Result<StdListener> {
    match StdListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        bound => return bound,
    }
    match StdStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another mmproxy answers there")),
        // Nobody listens on it any more.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path)?;
            StdListener::bind(path)
        }
        Err(error) => Err(error),
    }
}

async fn accept(listener: UnixListener, events: Events) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok(_) if connections.len() >= MOST => {}
            Ok((stream, _)) => drop(connections.spawn(converse(stream, events.clone()))),
            Err(error) => {
                debug!(%error, "the control socket waits");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Takes requests one after the other, until whoever asks has gone.
async fn converse(stream: UnixStream, events: Events) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    while let Ok(Some(line)) = request(&mut read).await {
        let answered = match serde_json::from_slice(&line) {
            Ok(request) => {
                let (asker, replies) = mpsc::unbounded_channel();
                let steady = matches!(request, Request::Trace { .. });
                events.tell(Event::Asked(request, asker));
                answer(replies, steady.then_some(&mut read), &mut write).await
            }
            Err(error) => {
                let reason = format!("this is no request: {error}");
                say(&mut write, &Reply::Refused { reason }).await
            }
        };
        if answered.is_err() {
            return;
        }
    }
}

/// Passes replies on. A request that is answered for ever ends with its asker's next word, or with its silence.
async fn answer(
    mut replies: mpsc::UnboundedReceiver<Reply>,
    mut asking: Option<&mut BufReader<OwnedReadHalf>>,
    write: &mut OwnedWriteHalf,
) -> io::Result<()> {
    loop {
        let reply = match &mut asking {
            Some(read) => tokio::select! {
                reply = replies.recv() => reply,
                _ = read.fill_buf() => None,
            },
            None => replies.recv().await,
        };
        match reply {
            Some(reply) => say(write, &reply).await?,
            None => return Ok(()),
        }
    }
}

async fn request(read: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let length = read.take(LONGEST).read_until(b'\n', &mut line).await?;
    Ok((length > 0 && line.pop() == Some(b'\n')).then_some(line))
}

async fn say(write: &mut OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    write.write_all(&line).await
}

#[derive(Debug, thiserror::Error)]
#[error("cannot have the control socket at {path}")]
struct NotListening {
    path: PathBuf,
    #[source]
    error: io::Error,
}

/// Connections at a time.
const MOST: usize = 64;

/// No request is longer.
const LONGEST: u64 = 1 << 20;

/// When the machine is out of descriptors.
const PAUSE: Duration = Duration::from_millis(200);
