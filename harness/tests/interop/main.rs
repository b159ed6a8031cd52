//! mmproxy between programs that others wrote: balancers and clients that announce, before servers that note their client,
//! with fail2ban beside it.
//!
//! All are Debian packages (`ci/deps.sh` has the list); where one is missing its tests fail and say so. DNS over UDP is in
//! `e2e/udp/servers.rs`.

mod banned;
mod fail2ban;
mod greeting;
mod haproxy;
mod health_checks;
mod mail;
mod nginx;
mod postgres;
mod recipes;
mod redis;
mod scene;
mod sshd;
mod tls;
