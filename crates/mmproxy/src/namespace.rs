//! A private network namespace for this process, with root or without.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, getegid, geteuid};

/// How the private namespace was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Private {
    /// By an ordinary user, inside a user namespace of its own.
    WithoutRoot(Uid),
    /// By root, without a user namespace.
    AsRoot,
}

/// Moves the calling thread, and all threads it starts later, into a fresh network namespace.
///
/// Without root a user namespace is made first, which the kernel allows only while the process has a single thread:
/// call this before any runtime exists. The namespace goes when its last process ends.
pub(crate) fn enter_private() -> Result<Private, NamespaceError> {
    let uid = geteuid();
    if uid.is_root() && unshare(CloneFlags::CLONE_NEWNET).is_ok() {
        return Ok(Private::AsRoot);
    }
    // Root of a container often lacks CAP_SYS_ADMIN: then it is no better off than anybody else.
    let gid = getegid();
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).map_err(NamespaceError::refused)?;
    map_ids("/proc/self/setgroups", "deny")?;
    map_ids("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    map_ids("/proc/self/gid_map", &format!("0 {gid} 1"))?;
    Ok(Private::WithoutRoot(uid))
}

fn map_ids(path: &'static str, map: &str) -> Result<(), NamespaceError> {
    fs::write(path, map).map_err(|error| NamespaceError::Map { path, error })
}

/// Why there is no private namespace.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespaceError {
    /// user.max_user_namespaces is 0, a security module refuses, or a container's seccomp filter does.
    #[error("this host does not let you make a user and network namespace")]
    Refused(#[source] io::Error),
    /// The namespace was made but is powerless: AppArmor's restriction of unprivileged user namespaces does this.
    #[error("cannot write {path} of the new user namespace")]
    Map {
        path: &'static str,
        #[source]
        error: io::Error,
    },
}

impl NamespaceError {
    fn refused(errno: Errno) -> Self {
        Self::Refused(errno.into())
    }
}
