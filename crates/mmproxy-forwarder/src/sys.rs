//! System calls without a safe wrapper elsewhere: the only unsafe code of the workspace.

#![allow(unsafe_code, reason = "calls into the kernel; each block says why it is sound")]

pub(crate) mod calls;
pub(crate) mod datagram;
#[cfg(any(test, feature = "jail-probe"))]
pub(crate) mod forbidden;
pub(crate) mod queue;
pub(crate) mod tcp_info;
pub(crate) mod watch;
