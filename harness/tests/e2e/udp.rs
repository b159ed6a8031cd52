//! Datagrams: what `-p udp` promises.

mod flows;
mod headers;
mod limits;
mod modes;
mod refused;
mod scene;
mod servers;
