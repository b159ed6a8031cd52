//! The return path in a real kernel: every test runs in a network namespace of its own.

#![expect(clippy::unwrap_used, reason = "what a test prepares succeeds, or the test has failed")]

mod handmade;
mod instance;
mod lease;
mod modes;
mod namespace;
mod netfilter;
mod objects;
mod refusals;
mod spoof;
mod state;
mod traffic;
