//! Why a worker could not be confined.

use nix::errno::Errno;

use super::capabilities::CapabilityError;
use super::identity::IdentityError;
use super::landlock::LandlockError;
use super::seccomp::SeccompError;
use crate::exit::{Exit, Failure};
use crate::privileges;

/// Why [`confine`](super::confine) gave up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JailError {
    /// A mistake of this program: Landlock and capabilities are a thread's, so the others would stay as they are.
    #[error("{0} threads run already, and rights are dropped one thread at a time")]
    Threads(usize),
    #[error("cannot {action}")]
    Process {
        action: &'static str,
        #[source]
        error: Errno,
    },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    #[error(transparent)]
    Landlock(#[from] LandlockError),
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
}

impl From<JailError> for Failure {
    fn from(error: JailError) -> Self {
        match &error {
            JailError::Threads(_) | JailError::Process { .. } => Self::new(Exit::Software, error),
            JailError::Identity(_) => {
                Self::new(Exit::NoPermission, error).hint("--user keep runs the workers as the user that starts them")
            }
            JailError::Capability(CapabilityError::Missing) => {
                privileges::grant(Self::new(Exit::NoPermission, error), "cap_net_admin,cap_net_raw")
            }
            JailError::Capability(CapabilityError::Kernel { .. }) => Self::new(Exit::NoPermission, error),
            JailError::Landlock(LandlockError::Lacks(_)) => Self::new(Exit::Config, error)
                .hint("--sandbox-missing landlock starts without what the kernel does not have of Landlock"),
            JailError::Landlock(LandlockError::Refused(_)) => Self::new(Exit::Config, error)
                .hint("--sandbox off starts without Landlock and seccomp filter"),
            JailError::Seccomp(_) => Self::new(Exit::Config, error)
                .hint("the kernel needs CONFIG_SECCOMP_FILTER, and a container runtime must let seccomp(2) through")
                .hint("--sandbox-missing anything starts without; --sandbox off does not ask for it"),
        }
    }
}
