//! What an operator and their tools see by HTTP: metrics, health, a page.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | counters for Prometheus |
//! | `/healthz` | 200 as long as the program serves |
//! | `/readyz` | 200 while every target is reachable and the return path intact, else 503; which one fails stands there |
//! | `/` | the status page |
//!
//! Nothing here is written to, no file is opened, and nothing of a request is used but its path and its `Accept` header.

mod chart;
mod history;
mod page;
mod rows;
mod server;

use std::future::Future;
use std::pin::Pin;

pub(crate) use self::rows::SessionRow;
pub(crate) use self::server::serve;
use crate::control::NamedSession;
use crate::metrics::Snapshot;

/// Where the answers come from: this process, and whatever it knows of others.
pub(crate) trait AdminState: Send + Sync + 'static {
    /// Counters of now.
    fn snapshot(&self) -> Snapshot;

    /// Sessions that live, of all workers, about `at_most` so many.
    fn sessions(&self, at_most: usize) -> Pin<Box<dyn Future<Output = Vec<NamedSession>> + Send + '_>>;
}
