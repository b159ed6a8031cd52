//! The runtime of the main thread: for commands that ask the kernel a question and end, and for whatever the
//! gateway does beside serving.

use std::future::Future;

use crate::exit::{Exit, Failure};

/// Runs `future` on the calling thread, in its network namespace.
pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Software, error))?;
    Ok(runtime.block_on(future))
}
