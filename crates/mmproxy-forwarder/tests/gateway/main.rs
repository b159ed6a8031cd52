//! The gateway over real sockets. Most of it runs on loopback without a privilege, with connections
//! that are not spoofed; `spoofed`, `datagrams`, `denied`, `limits` and `namespace` make themselves network namespaces.

#![allow(
    clippy::unwrap_used,
    reason = "what goes wrong in a test ends it; helpers outside #[test] are not seen as tests"
)]

mod admission;
mod datagrams;
mod denied;
mod denied_datagrams;
mod exhaustion;
mod header;
mod health;
mod isolated;
mod lifecycle;
mod limits;
mod live;
mod namespace;
mod relay;
mod rig;
mod spoofed;
mod timeouts;
mod workers;
