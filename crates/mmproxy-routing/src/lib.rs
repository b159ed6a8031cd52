//! mmproxy-routing.
