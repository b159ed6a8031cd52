//! What a check says, in a real kernel: each hop is broken on purpose, and the verdict compared.

#![expect(clippy::unwrap_used, reason = "what a test prepares succeeds, or the test has failed")]

mod datagrams;
mod diagnosis;
mod elsewhere;
mod firewall;
mod hops;
mod modes;
#[path = "../kernel/namespace.rs"]
#[allow(dead_code, reason = "shared with the tests of the objects, which use more of it")]
mod namespace;
#[path = "../kernel/spoof.rs"]
#[allow(dead_code, reason = "shared with the tests of the traffic, which use more of it")]
mod spoof;
mod surroundings;
