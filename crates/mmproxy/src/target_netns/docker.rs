//! A container's first process, as the Docker Engine knows it.
//!
//! One question of the Engine API over its unix socket. In HTTP/1.0, on purpose: the answer is then never chunked
//! (RFC 9112 §7.1: no server may send a transfer coding to an HTTP/1.0 client) and ends with the connection, so that no
//! HTTP library is needed.

use std::env;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use crate::exit::Exit;

/// A container's name or number, safe to stand in the path of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container(String);

impl FromStr for Container {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        // What Docker allows in a name (daemon/names/names.go).
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if first && text.bytes().all(rest) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{text}` is no container's name"))
        }
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A Docker Engine on this machine.
#[derive(Debug)]
pub(super) struct Engine {
    socket: PathBuf,
}

impl Engine {
    /// The one of `$DOCKER_HOST`, or the usual one.
    pub(super) fn from_environment() -> Result<Self, DockerError> {
        Self::named(env::var("DOCKER_HOST").ok().as_deref())
    }

    fn named(host: Option<&str>) -> Result<Self, DockerError> {
        match host {
            None | Some("") => Ok(Self { socket: SOCKET.into() }),
            Some(host) => match host.strip_prefix("unix://") {
                Some(path) if path.starts_with('/') => Ok(Self { socket: path.into() }),
                _ => Err(DockerError::Elsewhere { host: host.to_owned() }),
            },
        }
    }

    /// Number of the first process of a running container, in the Engine's process namespace.
    pub(super) fn pid_of(&self, container: &Container) -> Result<u32, DockerError> {
        let (status, body) = self.get(&format!("/containers/{container}/json"))?;
        let strange = |what: String| DockerError::Strange { socket: self.socket.clone(), what };
        match status {
            200 => {
                let inspected: Inspected =
                    serde_json::from_slice(&body).map_err(|error| strange(error.to_string()))?;
                match inspected.state {
                    State { running: true, pid: pid @ 1.., .. } => Ok(pid),
                    State { status, .. } => {
                        Err(DockerError::not_running(container, status.as_deref().unwrap_or("not running")))
                    }
                }
            }
            404 => Err(DockerError::NoContainer { container: container.clone() }),
            _ => Err(strange(format!("status {status}, {}", String::from_utf8_lossy(&body).trim()))),
        }
    }

    /// Status and body of the answer to one request.
    fn get(&self, path: &str) -> Result<(u16, Vec<u8>), DockerError> {
        let socket = || self.socket.clone();
        let failed = |error: io::Error| {
            if error.kind() == io::ErrorKind::PermissionDenied {
                DockerError::NotPermitted { socket: socket(), error }
            } else {
                DockerError::NoEngine { socket: socket(), error }
            }
        };
        let mut stream = UnixStream::connect(&self.socket).map_err(failed)?;
        let mut answer = Vec::new();
        let mut talk = || {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: docker\r\nConnection: close\r\n\r\n")?;
            (&stream).take(LONGEST).read_to_end(&mut answer)
        };
        talk().map_err(failed)?;
        parse(&answer).map_err(|what| DockerError::Strange { socket: socket(), what: what.to_owned() })
    }
}

/// What `GET /containers/NAME/json` says, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: State,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
    /// 0 while there is no process.
    pid: u32,
    status: Option<String>,
}

/// Why there is no process of a container to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DockerError {
    #[error("DOCKER_HOST is {host}, and only unix:///PATH is understood")]
    Elsewhere { host: String },
    #[error("no Docker Engine answers at {}", socket.display())]
    NoEngine {
        socket: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("the Docker Engine's socket {} may not be used", socket.display())]
    NotPermitted {
        socket: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("there is no container {container}")]
    NoContainer { container: Container },
    #[error("container {container} is {status}")]
    NotRunning { container: Container, status: String },
    #[error("what answers at {} is no Docker Engine: {what}", socket.display())]
    Strange { socket: PathBuf, what: String },
}

impl DockerError {
    pub(super) fn not_running(container: &Container, status: &str) -> Self {
        Self::NotRunning { container: container.clone(), status: status.to_owned() }
    }

    /// A container or an Engine that is down may come up: worth another start.
    pub(super) const fn exit(&self) -> Exit {
        match self {
            Self::Elsewhere { .. } | Self::NoContainer { .. } => Exit::Config,
            Self::NotPermitted { .. } => Exit::NoPermission,
            Self::NoEngine { .. } | Self::NotRunning { .. } | Self::Strange { .. } => Exit::Unavailable,
        }
    }

    pub(super) fn cure(&self) -> String {
        match self {
            Self::Elsewhere { .. } => {
                "the namespaces of another machine's containers cannot be entered: run mmproxy on that machine".to_owned()
            }
            Self::NoEngine { .. } => {
                "start it (systemctl start docker), or name its socket: DOCKER_HOST=unix:///PATH".to_owned()
            }
            Self::NotPermitted { .. } => {
                "run mmproxy as root, or as a user of the socket's group (SupplementaryGroups=docker)".to_owned()
            }
            Self::NoContainer { .. } => "`docker ps --all` lists the containers there are".to_owned(),
            Self::NotRunning { container, .. } => format!("docker start {container}"),
            Self::Strange { .. } => "correct DOCKER_HOST".to_owned(),
        }
    }
}

/// Status and body of a whole HTTP/1.x answer without transfer coding.
fn parse(answer: &[u8]) -> Result<(u16, Vec<u8>), &'static str> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("the answer is no HTTP")?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| "the answer is no HTTP")?;
    let body = &answer[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .ok_or("the answer is no HTTP")?;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("the answer to an HTTP/1.0 request is chunked");
        }
        if name.eq_ignore_ascii_case("content-length") && value.trim().parse() != Ok(body.len()) {
            return Err("the answer is cut off");
        }
    }
    Ok((status, body.to_vec()))
}

/// Where Docker Engines listen unless told otherwise.
const SOCKET: &str = "/var/run/docker.sock";

/// How long the Engine may be silent.
const PATIENCE: Duration = Duration::from_secs(2);

/// No description of a container is this long, in bytes.
const LONGEST: u64 = 4 << 20;

#[cfg(test)]
mod tests;
