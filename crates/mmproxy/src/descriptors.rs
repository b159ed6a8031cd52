//! How many descriptors the process may have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

/// Raises the soft limit to the hard one, for this process and those that it starts.
pub(crate) fn raise() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        warn!(%error, soft, hard, "the limit on descriptors could not be raised");
    }
}

/// The soft limit.
pub(crate) fn limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(POSIX_OPEN_MAX, |(soft, _)| soft)
}

/// What POSIX promises at least, should the kernel not tell.
const POSIX_OPEN_MAX: u64 = 20;
