//! What flags and keys stand for where they are left out: said once for both.

pub(crate) const PROTOCOL: &str = "tcp";
pub(crate) const BACKLOG: &str = "1024";
pub(crate) const DRAIN: &str = "10s";
pub(crate) const HEALTH_CHECKS: &str = "pass";
pub(crate) const SANDBOX: &str = "kill";
pub(crate) const SANDBOX_MISSING: &str = "landlock";
pub(crate) const SOURCE: &str = "header";
pub(crate) const SOURCE_PORT: &str = "prefer";

pub(crate) const RETURN_PATH: &str = "auto";
pub(crate) const ROUTING: &str = "auto";
pub(crate) const MARK: &str = "123";
pub(crate) const TABLE: &str = "100";
pub(crate) const PRIORITY: &str = "100";
pub(crate) const TPROXY_MARK: &str = "124";
pub(crate) const TPROXY_TABLE: &str = "101";

pub(crate) const HEADER_TIMEOUT: &str = "5s";
pub(crate) const CONNECT_TIMEOUT: &str = "5s";
pub(crate) const IDLE_TIMEOUT: &str = "off";
pub(crate) const HALF_CLOSED_TIMEOUT: &str = "5m";
pub(crate) const TCP_USER_TIMEOUT: &str = "off";
pub(crate) const KEEPALIVE: &str = "60s,15s,4";

pub(crate) const UDP_HEADER: &str = "every";
pub(crate) const UDP_IO_URING: &str = "auto";
pub(crate) const UDP_IDLE_TIMEOUT: &str = "1m";

pub(crate) const CLIENT_NETWORKS: &str = "24,56";
pub(crate) const NEW_SESSIONS: &str = "1000,4000";
pub(crate) const MAX_HEADER_SIZE: &str = "16384";
