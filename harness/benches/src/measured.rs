//! What one measurement gives.

use serde::{Deserialize, Serialize};

/// One line of the raw record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) case: String,
    pub(crate) subject: String,
    pub(crate) round: usize,
    /// In the case's unit; empty if there is nothing to tell.
    pub(crate) rate: Option<f64>,
    pub(crate) unit: String,
    pub(crate) seconds: f64,
    /// Bytes, connections, round trips, datagrams or sessions.
    pub(crate) operations: f64,
    pub(crate) gateway_cpu_s: f64,
    pub(crate) gateway_user_cpu_s: f64,
    /// Of the gateway, for as many operations as the case counts in.
    pub(crate) gateway_cpu_per_unit: Option<f64>,
    pub(crate) generator_cpu_s: f64,
    pub(crate) target_cpu_s: f64,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) p999_us: Option<f64>,
    pub(crate) rss_before_kib: u64,
    pub(crate) rss_kib: u64,
    pub(crate) rss_after_kib: u64,
    pub(crate) descriptors_before: u64,
    pub(crate) descriptors: u64,
    pub(crate) descriptors_after: u64,
    pub(crate) sessions: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) wrong_sources: u64,
    /// What must not happen, and did.
    pub(crate) faults: String,
    /// Why it was not measured.
    pub(crate) skipped: String,
}
