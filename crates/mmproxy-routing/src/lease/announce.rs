//! Who else is running in this network namespace.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::knock::{Knock, knock};
use super::trust::may_route;
use crate::error::RoutingError;
use crate::plan::Plan;

/// A running instance's word that it needs the objects of its plan.
///
/// An abstract unix socket, whose name says what the plan is: visible to every process of the network namespace and
/// to no other, and gone the moment the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Announcement {
    /// Takes callers, who only want to know who listens, off the queue.
    receptionist: JoinHandle<()>,
}

impl Announcement {
    /// Announces an instance of this process.
    pub(crate) fn make(plan: &Plan) -> Result<Self, RoutingError> {
        let failed = |source| RoutingError::kernel("announce this instance to others", source);
        let listener = listen(plan).and_then(tokio::net::UnixListener::from_std).map_err(failed)?;
        let receptionist = tokio::spawn(async move {
            loop {
                if listener.accept().await.is_err() {
                    // Out of descriptors; the caller stays in the queue, so an immediate retry would spin.
                    sleep(PAUSE).await;
                }
            }
        });
        Ok(Self { receptionist })
    }

    /// Takes the word back. Nobody sees the instance any more when this returns.
    pub(crate) async fn withdraw(mut self) {
        self.receptionist.abort();
        // The socket is closed when the task is gone, and it is gone when it can be joined. It never ends by itself.
        (&mut self.receptionist).await.ok();
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.receptionist.abort();
    }
}

/// Another running instance.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// Its process, as our pid namespace numbers it; 0 if it is in another one.
    pub(crate) pid: i32,
    /// Its plan; `None` if a version of mmproxy wrote it that we do not understand.
    pub(crate) plan: Option<Plan>,
}

/// All instances that are running in this network namespace and may change its routing.
pub(crate) async fn running() -> Result<Vec<Instance>, RoutingError> {
    let failed = |source| RoutingError::kernel("look for other running instances", source);
    let mut instances = Vec::new();
    for name in announced().map_err(failed)? {
        instances.extend(instance(&name).await.map_err(failed)?);
    }
    Ok(instances)
}

/// The instance behind a name, unless it is gone, or a stranger's: anybody may use any name, and must not be able to
/// keep our rules in place.
async fn instance(name: &str) -> io::Result<Option<Instance>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match knock(name.as_bytes())? {
            Knock::Answered { pid, uid, .. } => {
                let trusted = uid == 0 || uid == geteuid().as_raw() || may_route(pid);
                let plan = || name.strip_prefix(PREFIX).and_then(|rest| Plan::read(rest.split_once('/')?.1));
                return Ok(trusted.then(|| Instance { pid, plan: plan() }));
            }
            Knock::Nobody => return Ok(None),
            // An instance empties its queue all the time. Who does not is none.
            Knock::Crowded if Instant::now() >= deadline => return Ok(None),
            Knock::Crowded => sleep(PAUSE).await,
        }
    }
}

/// The names of all announcements, whoever made them.
fn announced() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    // The kernel lists sockets in portions, and may skip one when another is closed in between: two looks.
    for _ in 0..2 {
        let sockets = fs::read("/proc/thread-self/net/unix")?;
        names.extend(String::from_utf8_lossy(&sockets).lines().filter_map(listening).map(str::to_owned));
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// The name in one line of `/proc/net/unix`, if it is that of a listening announcement.
///
/// `Num RefCount Protocol Flags Type St Inode Path`; the flag is `__SO_ACCEPTCON`, `@` stands for the leading zero of
/// an abstract name.
fn listening(line: &str) -> Option<&str> {
    let mut fields = line.split_ascii_whitespace();
    let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
    let name = fields.nth(3)?.strip_prefix('@')?;
    (flags & 0x1_0000 != 0 && name.starts_with(FAMILY)).then_some(name)
}

/// Binds the first free name for this process and plan.
fn listen(plan: &Plan) -> io::Result<UnixListener> {
    let (process, plan) = (std::process::id(), plan.written());
    for number in 0..=u16::MAX {
        let name = SocketAddr::from_abstract_name(format!("{PREFIX}{process:x}.{number:x}/{plan}"))?;
        match UnixListener::bind_addr(&name) {
            // Several leases of one process, or a process of the same number in another pid namespace.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            result => {
                let listener = result?;
                listener.set_nonblocking(true)?;
                return Ok(listener);
            }
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// The beginning of every announcement's name, of any version.
const FAMILY: &str = "mmproxy/lease/";

/// The same with the version of what follows.
const PREFIX: &str = "mmproxy/lease/1/";

/// How long an instance may take to empty its queue of callers.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two looks at a queue that is full.
const PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_announcements_are_read() {
        let name = "mmproxy/lease/1/7.0/fwmark:7b:64:64:46";
        let line = |flags: &str, name: &str| {
            format!("0000000000000000: 00000002 00000000 {flags} 0001 01 4711 {name}")
        };
        assert_eq!(listening(&line("00010000", &format!("@{name}"))), Some(name));
        assert_eq!(listening(&line("00000000", &format!("@{name}"))), None, "a caller");
        assert_eq!(listening(&line("00010000", name)), None, "a file");
        assert_eq!(listening(&line("00010000", "@other")), None);
        assert_eq!(listening("0000000000000000: 00000002 00000000 00010000 0001 01 4711"), None, "no name");
        assert_eq!(listening("Num       RefCount Protocol Flags    Type St Inode Path"), None);
    }
}
