//! UDP: receive, header, flow, send; and the way back.
//!
//! ```text
//! worker    waits for sockets, moves datagrams in batches
//!   core      decides: which flow a datagram belongs to, where a reply goes
//!     header    whose it is             table    the flows, found, aged and bounded
//!   net       does: policy, sockets     steer    which worker has which client
//!     sends     what goes to targets next
//! ```

pub(crate) mod core;
pub(crate) mod drops;
mod endpoints;
pub(crate) mod gateway;
pub(crate) mod header;
pub(crate) mod key;
pub(crate) mod listen;
mod lru;
mod mailbox;
mod net;
pub(crate) mod options;
pub(crate) mod report;
mod sends;
mod steer;
pub(crate) mod table;
mod upstream;
mod worker;
