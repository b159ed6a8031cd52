//! What mmproxy promises, each promise a sentence, shown on the real program in real networks.
//!
//! Every test has its namespaces for itself and needs root or user namespaces; see `harness::isolated`.

mod allowlist;
mod commands;
mod demo;
mod exits;
mod header;
mod hops;
mod host;
mod lifecycle;
mod listening;
mod modes;
mod namespaces;
mod refused;
mod relay;
mod resources;
mod selfcheck;
mod setup;
mod source;
mod stop;
mod support;
