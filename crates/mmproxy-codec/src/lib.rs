//! mmproxy-codec.
