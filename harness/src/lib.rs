//! Networks, balancers, targets and the real executable: the building blocks of end-to-end tests.
//!
//! A test is a sentence in its name and a short story in its body. It runs in namespaces of its own
//! ([`isolated`]), lays a network ([`Topology`]), starts the gateway ([`Gateway`]) before a server ([`Target`]), and
//! plays the balancer ([`Balancer`]):
//!
//! ```no_run
//! use harness::{Balancer, Family, Gateway, Target, Topology, Version, addr, isolated};
//!
//! isolated(|| {
//!     let net = Topology::new();
//!     let target = Target::listen(&net.gateway, addr("127.0.0.1:0"));
//!     let gateway = Gateway::before(&net, &target).start();
//!
//!     let header = Version::V1.header(addr("192.0.2.7:4711"), addr("10.0.0.1:22"));
//!     let client = Balancer::of(&net).announce(gateway.address(Family::V4), &header, b"hello");
//!
//!     let seen = target.accept();
//!     assert_eq!(seen.peer(), addr("192.0.2.7:4711"));
//!     seen.expect(b"hello");
//! });
//! ```
//!
//! None of this links a crate of the workspace: headers, socket tables and routing state are read and written by code
//! of its own, so that one mistake cannot hide on both sides of a test. Everything that does not happen within
//! [`DEADLINE`](expect::DEADLINE) panics with what was waited for; nothing sleeps and hopes.

mod balancer;
mod connection;
mod datagram;
pub mod expect;
mod gateway;
pub mod header;
mod isolation;
mod metrics;
mod netlink;
mod netns;
mod process;
mod screen;
mod sockets;
mod state;
mod target;
mod topology;
mod udp;
mod usage;
mod user;

pub use balancer::Balancer;
pub use connection::{Connection, End};
pub use datagram::{UdpTarget, spoofed};
pub use gateway::{Flags, Gateway, children, executable, mmproxy};
pub use header::{V2, Version};
pub use isolation::{LIMIT, isolated, isolated_program, scratch};
pub use metrics::Metrics;
pub use netns::Namespace;
pub use process::{Finished, Program, installed, run, shell};
pub use screen::Screen;
pub use state::State;
pub use target::Target;
pub use topology::{Container, Family, Topology, addr};
pub use udp::{Datagrams, Echo};
pub use usage::Usage;
pub use user::ordinary_user;
