//! mmproxy between programs that others wrote: a real HAProxy before it, a real sshd behind it.
//!
//! They are Debian packages (`haproxy`, `openssh-server`, `dnsmasq-base`); where one is missing its tests fail and say so.

mod haproxy;
mod health_checks;
mod recipes;
mod sshd;
