//! The return path of spoofed connections: what must be in a network namespace so that a target's replies to the
//! client's address come back to the socket that spoofed it.
//!
//! A return path is a [`Plan`]: a list of [`Step`]s, each of which prints as the command an operator could type.
//! [`observe`] compares it with the kernel, [`apply`] and [`remove`] are `mmproxy setup` and `teardown`, and a
//! [`Lease`] holds it for as long as an instance runs.
//!
//! No function here sees a connection. None calls `ip`, `iptables` or `sysctl`; only the modes [`Mode::Connmark`] and
//! [`Mode::Socket`] and a [`check`] call `nft`, and the former two read what `iptables-nft-save` and
//! `iptables-legacy-save` print where an operator has rules of that kind. All work in the network namespace of the calling thread and need a
//! current-thread tokio runtime (or one whose threads share a namespace) with I/O and time enabled.
//!
//! A plan is data, and needs neither a kernel nor privileges:
//!
//! ```
//! use mmproxy_routing::{Families, Plan, Settings, Table};
//!
//! let settings = Settings { table: Table::new(7)?, ..Settings::default() };
//! let plan = Plan::fwmark(settings, Families::V4);
//! assert_eq!(
//!     plan.to_string().lines().collect::<Vec<_>>(),
//!     [
//!         "sysctl -w net.ipv4.tcp_fwmark_accept=1",
//!         "sysctl -w net.ipv4.fwmark_reflect=1",
//!         "ip rule add fwmark 0x7b lookup 7 priority 100",
//!         "ip route add local default dev lo table 7",
//!     ]
//! );
//! # Ok::<_, mmproxy_routing::SettingError>(())
//! ```
//!
//! A program that spoofs holds it for as long as it does so:
//!
//! ```no_run
//! use mmproxy_routing::{Families, Lease, Plan, Policy, Settings};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let lease = Lease::acquire(Plan::fwmark(Settings::default(), Families::BOTH), Policy::Install).await?;
//! // … serve …
//! lease.release().await?;
//! # Ok(())
//! # }
//! ```

mod apply;
mod change;
pub mod check;
mod diff;
mod error;
mod family;
mod lease;
mod ledger;
mod lookup;
mod maker;
mod mode;
mod netfilter;
mod nft;
mod observe;
mod ours;
mod plan;
mod remove;
mod rtnl;
mod scene;
mod step;
mod sysctl;
mod tool;
mod xtables;

pub use apply::{Applied, Outcome, apply};
pub use diff::diff;
pub use error::{Blame, RoutingError};
pub use family::{Ipv6Off, families_available, ipv6_off};
pub use lease::{Lease, Policy};
pub use lookup::{Question, Route, Verdict, default_device, lookup};
pub use mode::{Families, Family, Mark, Mode, Ports, Priority, SettingError, Settings, Table, Transport};
pub use netfilter::{Job, Netfilter, Redirect};
pub use observe::{Observed, Owner, State, observe};
pub use plan::Plan;
pub use remove::{InUse, Kept, KeptReason, Removal, remove};
pub use step::{Device, LocalRoute, Rule, Selector, Step, Sysctl, Undo};
