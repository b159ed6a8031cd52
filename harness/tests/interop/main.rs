//! mmproxy between programs that others wrote: a real HAProxy before it, a real sshd behind it, fail2ban beside it.
//!
//! They are Debian packages (`haproxy`, `openssh-server`, `dnsmasq-base`, `fail2ban`); where one is missing its tests fail and
//! say so.

mod banned;
mod fail2ban;
mod haproxy;
mod health_checks;
mod recipes;
mod sshd;
