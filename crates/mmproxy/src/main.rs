//! The mmproxy daemon.
fn main() {}
