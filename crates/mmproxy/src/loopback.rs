//! The loopback interface of a fresh network namespace, which starts down.

use std::io;

use rtnetlink::{LinkUnspec, new_connection};

/// Brings `lo` up in the calling thread's network namespace; 127.0.0.1 and ::1 come with it.
pub(crate) fn up() -> Result<(), LoopbackError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(LoopbackError::Netlink)?;
    runtime.block_on(async {
        let (connection, handle, _) = new_connection().map_err(LoopbackError::Netlink)?;
        tokio::spawn(connection);
        let up = LinkUnspec::new_with_index(LOOPBACK_INDEX).up().build();
        handle.link().set(up).execute().await.map_err(|error| LoopbackError::Up(Box::new(error)))
    })
}

/// Why `lo` stays down.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoopbackError {
    #[error("cannot talk to the kernel through netlink")]
    Netlink(#[source] io::Error),
    #[error("cannot bring the loopback interface up")]
    Up(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// `lo` is the first interface of every namespace (LOOPBACK_IFINDEX in include/net/flow.h).
const LOOPBACK_INDEX: u32 = 1;
