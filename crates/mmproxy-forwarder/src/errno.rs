//! What the kernel's error numbers mean to a gateway.

use std::io;

use nix::libc;

/// The other end reset the connection.
///
/// EPIPE is what a write gets, and ENOTCONN what `shutdown(2)` gets, when the reset was reported before or came
/// after a FIN.
pub(crate) fn is_reset(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ECONNRESET | libc::ECONNABORTED | libc::EPIPE | libc::ENOTCONN))
}

/// This machine ran out of something; the same call works later.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    // ENOSPC: epoll's own limit, fs.epoll.max_user_watches.
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::ENOSPC)
    )
}

/// There is no way to the other host, now or at all.
pub(crate) fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::ENETDOWN
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EAFNOSUPPORT
                | libc::EPROTONOSUPPORT
        )
    )
}

/// A privilege is missing or a firewall said no.
pub(crate) fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

/// The descriptor is no listening socket (any more): no later `accept(2)` can succeed.
pub(crate) fn is_no_listener(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::EFAULT)
    )
}

/// One connection failed before it was accepted, or a signal came; the next `accept(2)` is unaffected.
///
/// Linux passes errors of the new connection on; accept(2) asks to "treat them like EAGAIN by retrying".
pub(crate) fn is_lost_connection(error: &io::Error) -> bool {
    is_unreachable(error)
        || is_forbidden(error)
        || matches!(
            error.raw_os_error(),
            Some(
                libc::ECONNABORTED
                    | libc::ECONNRESET
                    | libc::EPROTO
                    | libc::ENOPROTOOPT
                    | libc::ETIMEDOUT
                    | libc::EINTR
                    | libc::EAGAIN
            )
        )
}

/// The error number for a test or a table.
#[cfg(test)]
pub(crate) fn os(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}
