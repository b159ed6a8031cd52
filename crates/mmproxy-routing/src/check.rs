//! Would a spoofed connection work, and where would it die if not: the thinking behind `mmproxy check`.
//!
//! [`examine`] looks at everything between a spoofed connection and its target and changes nothing. The caller then
//! makes a real spoofed connection, with [`Counters::read`] before and after, and [`locate`] says which hop it died
//! at. The findings say what was found, why it matters and what cures it; how they are printed is the caller's.
//!
//! Questions are semantic: the kernel is asked what it would do with a packet, rules are not compared as text.

mod capabilities;
mod counters;
mod examine;
mod fact;
mod finding;
mod firewall;
mod fit;
mod ground;
mod hop;
mod listener;
mod neighbours;
mod process;
mod reply;
mod rules;
mod sockets;
mod sysctls;

pub use counters::Counters;
pub use examine::{Strangers, examine};
pub use fact::Fact;
pub use finding::{ExitKind, Finding, Level, Subject, Target};
pub use hop::{Attempt, locate};
