//! What mmproxy promises, each promise a sentence, shown on the real program in real networks.
//!
//! Every test has its namespaces for itself and needs root or user namespaces; see `harness::isolated`.

mod allowlist;
mod check;
mod coexistence;
mod collisions;
mod commands;
mod config;
mod control;
mod datagrams;
mod demo;
mod denied;
mod deny;
mod exits;
mod eyes;
mod flags;
mod ground;
mod header;
mod hops;
mod host;
mod hostile;
mod jail;
mod lifecycle;
mod lifetimes;
mod limits;
mod listening;
mod load;
mod managed;
mod modes;
mod modes_udp;
mod namespaces;
mod refused;
mod relay;
mod reload;
mod resources;
mod scale;
mod selfcheck;
mod setup;
mod silence;
mod source;
mod stop;
mod support;
mod top;
mod tproxy;
mod udp;
mod weather;
