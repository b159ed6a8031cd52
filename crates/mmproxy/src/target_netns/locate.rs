//! From a name to an open namespace, and whether the name still means the same.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};

use super::docker::{DockerError, Engine};
use super::{NAMED, NamespaceName};
use crate::exit::{Exit, Failure};
use crate::privileges;

/// Finds the namespace that a name means now, as often as it is asked.
#[derive(Debug)]
pub(crate) struct Locator {
    name: NamespaceName,
    /// The process that a number meant at first. The next one with that number is somebody else.
    process: OnceLock<Process>,
}

impl Locator {
    pub(crate) const fn new(name: NamespaceName) -> Self {
        Self { name, process: OnceLock::new() }
    }

    pub(crate) const fn name(&self) -> &NamespaceName {
        &self.name
    }

    /// Opens the namespace. Blocks for as long as a Docker Engine takes to answer, two seconds at most.
    pub(crate) fn locate(&self) -> Result<Found, NotFound> {
        match &self.name {
            NamespaceName::Path(path) => Found::at(path.clone()),
            NamespaceName::Named(name) => Found::at(format!("{NAMED}/{name}").into()),
            NamespaceName::Process(pid) => {
                if self.process.get().is_none() {
                    // Nobody else locates at the same time; if somebody did, the first one stays.
                    self.process.set(Process::open(*pid)?).ok();
                }
                let process = self.process.get().ok_or(NotFound::NoProcess { pid: *pid })?;
                Found::of(process.try_clone()?)
            }
            NamespaceName::Docker(container) => {
                let engine = Engine::from_environment()?;
                let pid = engine.pid_of(container)?;
                let process = Process::open(pid)?;
                // Had the container ended before the line above, its number could be somebody else's by now.
                if engine.pid_of(container)? != pid {
                    return Err(DockerError::not_running(container, "restarting").into());
                }
                Found::of(process)
            }
        }
    }
}

/// An open namespace.
#[derive(Debug)]
pub(crate) struct Found {
    /// The namespace.
    pub(crate) file: OwnedFd,
    id: Id,
    anchor: Anchor,
}

impl Found {
    /// Whether its name still leads to the very same namespace.
    pub(crate) fn is_current(&self) -> bool {
        let now = match &self.anchor {
            Anchor::Path(path) => fs::metadata(path).map(|file| Id::of(&file)).ok(),
            Anchor::Process(process) => process.namespace_id().ok(),
        };
        now == Some(self.id)
    }

    /// Its file, for other programs.
    pub(crate) fn path(&self) -> PathBuf {
        match &self.anchor {
            Anchor::Path(path) => path.clone(),
            Anchor::Process(process) => format!("/proc/{}/{NAMESPACE}", process.pid).into(),
        }
    }

    fn at(path: PathBuf) -> Result<Self, NotFound> {
        let open = || {
            // Without O_NONBLOCK, opening a named pipe would wait for its other end.
            let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path)?;
            Ok((Id::of(&file.metadata()?), file))
        };
        match open() {
            Ok((id, file)) => Ok(Self { file: file.into(), id, anchor: Anchor::Path(path) }),
            Err(error) => Err(NotFound::Path { path, error }),
        }
    }

    fn of(process: Process) -> Result<Self, NotFound> {
        let (file, id) = process.namespace().map_err(|errno| NotFound::of_process(process.pid, errno))?;
        Ok(Self { file, id, anchor: Anchor::Process(process) })
    }
}

/// Device and inode of a namespace's file: equal for one namespace, whatever it is called. The kernel reuses an inode
/// number only when nobody holds the namespace any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id {
    device: u64,
    inode: u64,
}

impl Id {
    fn of(file: &Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino() }
    }

    const fn of_stat(stat: &FileStat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// What is looked at to learn whether a namespace still is the wanted one.
#[derive(Debug)]
enum Anchor {
    Path(PathBuf),
    Process(Process),
}

/// A process, by its directory in /proc: an open one stays bound to its process, also when the number is reused.
#[derive(Debug)]
struct Process {
    pid: u32,
    directory: File,
}

impl Process {
    fn open(pid: u32) -> Result<Self, NotFound> {
        match File::open(format!("/proc/{pid}")) {
            Ok(directory) => Ok(Self { pid, directory }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(NotFound::NoProcess { pid }),
            Err(error) => Err(NotFound::Process { pid, error }),
        }
    }

    fn try_clone(&self) -> Result<Self, NotFound> {
        let Self { pid, directory } = self;
        let directory = directory.try_clone().map_err(|error| NotFound::Process { pid: *pid, error })?;
        Ok(Self { pid: *pid, directory })
    }

    fn namespace(&self) -> Result<(OwnedFd, Id), Errno> {
        let file = openat(&self.directory, NAMESPACE, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let id = Id::of_stat(&fstat(&file)?);
        Ok((file, id))
    }

    fn namespace_id(&self) -> Result<Id, Errno> {
        Ok(Id::of_stat(&fstatat(&self.directory, NAMESPACE, AtFlags::empty())?))
    }
}

/// Why a name leads to no namespace.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotFound {
    #[error("--target-netns: cannot open {}", path.display())]
    Path {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("--target-netns: there is no process {pid}")]
    NoProcess { pid: u32 },
    #[error("--target-netns: cannot open the network namespace of process {pid}")]
    Process {
        pid: u32,
        #[source]
        error: io::Error,
    },
    #[error("--target-netns")]
    Docker(#[from] DockerError),
}

impl NotFound {
    fn of_process(pid: u32, errno: Errno) -> Self {
        // A process that has ended, perhaps not waited for yet, has no namespaces.
        if matches!(errno, Errno::ESRCH | Errno::ENOENT | Errno::EINVAL) {
            Self::NoProcess { pid }
        } else {
            Self::Process { pid, error: errno.into() }
        }
    }
}

impl From<NotFound> for Failure {
    fn from(not_found: NotFound) -> Self {
        match &not_found {
            NotFound::Path { error, .. } | NotFound::Process { error, .. }
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                // proc(5): the files below /proc/PID/ns are for those who may trace the process.
                let grant = "cap_net_admin,cap_net_raw,cap_sys_admin,cap_sys_ptrace";
                privileges::grant(Self::new(Exit::NoPermission, not_found), grant)
            }
            NotFound::Path { .. } => Self::new(Exit::Config, not_found).hint(
                "`ip netns list` shows the names there are; `lsns -t net -o nsfs,pid,command` all namespaces",
            ),
            NotFound::NoProcess { .. } => Self::new(Exit::Config, not_found).hint(
                "name something that survives a restart: a name of `ip netns list`, or docker:CONTAINER",
            ),
            NotFound::Process { .. } => Self::new(Exit::Unavailable, not_found),
            NotFound::Docker(error) => {
                let (exit, cure) = (error.exit(), error.cure());
                Self::new(exit, not_found).hint(cure)
            }
        }
    }
}

/// A process's network namespace, below its directory.
const NAMESPACE: &str = "ns/net";

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn locator(name: &str) -> Locator {
        Locator::new(name.parse().unwrap())
    }

    fn exit(name: &str) -> (Exit, String) {
        let failure = Failure::from(locator(name).locate().unwrap_err());
        (failure.exit(), failure.to_string())
    }

    #[test]
    fn one_namespace_is_the_same_by_every_name_it_has() {
        let path = locator("/proc/self/ns/net").locate().unwrap();
        let process = locator(&std::process::id().to_string()).locate().unwrap();
        assert_eq!(path.id, process.id);
        assert!(path.is_current() && process.is_current());
    }

    #[test]
    fn a_file_that_was_replaced_or_removed_is_not_current_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web");
        fs::write(&path, "").unwrap();
        let found = locator(path.to_str().unwrap()).locate().unwrap();
        assert!(found.is_current());
        // The first one is still open, so the second has another number.
        fs::remove_file(&path).unwrap();
        assert!(!found.is_current());
        fs::write(&path, "").unwrap();
        assert!(!found.is_current());
    }

    #[test]
    fn a_process_that_ended_is_not_found_again_whoever_has_its_number() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let locator = locator(&child.id().to_string());
        let found = locator.locate().unwrap();
        assert!(found.is_current());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!found.is_current());
        let error = locator.locate().unwrap_err();
        assert!(matches!(error, NotFound::NoProcess { pid } if pid == child.id()), "{error:?}");
    }

    #[test]
    fn what_is_not_there_is_named_with_a_cure() {
        let (status, text) = exit("no-such-namespace");
        assert_eq!(status, Exit::Config);
        assert!(text.contains("/run/netns/no-such-namespace") && text.contains("ip netns list"), "{text}");
        // Above any number the kernel gives (/proc/sys/kernel/pid_max is 2^22 at most).
        let (status, text) = exit("4194305");
        assert_eq!(status, Exit::Config);
        assert!(text.contains("no process 4194305") && text.contains("docker:CONTAINER"), "{text}");
    }
}
