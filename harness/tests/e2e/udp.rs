//! Datagrams: what `-p udp` promises.

mod calls;
mod flows;
mod headers;
mod limits;
mod modes;
mod refused;
mod scene;
mod servers;
