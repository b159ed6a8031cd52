//! mmproxy-forwarder.
