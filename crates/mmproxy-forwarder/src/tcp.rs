//! TCP: accept, header, dial, relay.

pub(crate) mod accept;
pub(crate) mod dial;
mod direction;
pub(crate) mod header;
mod last_words;
pub(crate) mod listen;
pub(crate) mod pipe;
pub(crate) mod relay;
pub(crate) mod socket;
pub(crate) mod timeouts;
pub(crate) mod traffic;
