//! Takes TCP connections that begin with a PROXY header and hands their payload to a target from the client's own
//! address, so that the target cannot tell it from a direct connection.
//!
//! ```text
//! accept            tcp::listen    PeerAddr        the load balancer
//!   admit           allowlist      may this peer speak PROXY at all? asked before one byte is read
//! read header       tcp::header    ClaimedSource   what the header says, and the bytes behind it
//! authorise         policy         SpoofSource     may it claim this source, is it denied, has it sessions enough?
//! dial              tcp::dial      TargetAddr      a transparent, marked socket bound to the client
//! relay             tcp::relay     leftover first, then both ways; half-close and reset carried over
//! close             report         one SessionReport with one CloseReason, exactly once
//! ```
//!
//! Datagrams with a header in front go the same way, each on its own: [`UdpGateway`].
//!
//! Targets in another network namespace, a container's for example, are reached through sockets that are made there:
//! [`TargetNamespace`].
//!
//! The return path of spoofed connections, policy routing, is not this crate's business; without it every spoofed
//! connection times out.
//!
//! ```no_run
//! use mmproxy_forwarder::{AllowList, Gateway, GatewayConfig, Listener, Shutdown, Targets, Unobserved};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let allowed = AllowList::parse("192.0.2.0/24 # the balancers")?;
//! let targets = Targets::new(Some("127.0.0.1:22".parse()?), Some("[::1]:22".parse()?))?;
//! let gateway = Gateway::new(GatewayConfig::new(allowed, targets), Unobserved)?;
//! let listener = Listener::bind("[::]:2222".parse()?, Listener::BACKLOG)?;
//! gateway.serve(listener, &Shutdown::new()).await?;
//! # Ok(())
//! # }
//! ```

mod addr;
mod allowlist;
mod choice;
mod clients;
mod config;
mod courtesy;
mod deny;
mod destination;
mod details;
mod errno;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod health;
mod limits;
mod lines;
mod live;
mod netns;
mod networks;
mod observer;
mod own;
mod places;
mod policy;
mod rate;
mod report;
mod session;
mod sys;
mod tables;
mod tcp;
mod tick;
mod udp;
mod worker;

pub use addr::{
    ClaimedSource, Family, PeerAddr, SpoofSource, TargetAddr, TargetInvalid, TargetProblem, Targets,
    TargetsInvalid, unmapped,
};
pub use allowlist::{AllowList, AllowListError, Mistake, NetworkProblem, parse_network, parse_networks};
pub use choice::{ClientFrom, TargetChoice};
pub use clients::{ClientDenied, ClientLists};
pub use config::{
    DialOptions, GatewayConfig, Keepalive, KeepaliveInvalid, RelayOptions, SourcePort, SourcePortUnknown,
    SpliceUse, TimeoutTooShort, sessions_within,
};
pub use courtesy::yield_after_bulk;
pub use deny::{Denied, DenyChange, DenyError, DenyList, DenyListError, DenyMistake, DenyProblem, DenyTable};
pub use destination::{
    AllowedTarget, AllowedTargetProblem, AllowedTargets, ClaimedDestination, DestinationRefused,
};
pub use details::{DETAIL_LEN, HeaderDetails, TlsDetails};
pub use error::{AdmissionRefused, Blame, NoTarget, ServeError, SessionError};
pub use gateway::{Drained, Gateway, Shutdown};
pub use health::{HealthCheckEnd, HealthChecks, TargetHealth};
pub use limits::{ClientLimitReached, ClientNetworks, Pace, SessionLimits};
pub use lines::{LineMistake, TextError};
pub use live::{Killed, LiveSession, SessionState, TcpState, Which};
pub use netns::{EnterError, Namespace, NamespaceGone, TargetNamespace};
pub use observer::{
    AcceptPaused, DatagramsDropped, Observer, OwnAddressesStale, PipesScarce, SessionAnnounced,
    SessionDialing, SessionEstablished, SessionHalfClosed, SessionOpened, Unobserved, WorkerPanicked,
};
pub use own::OwnAddresses;
pub use policy::{SourceClass, SourceClassUnknown, SourcePolicy, SourceRefused};
pub use rate::RateLimited;
pub use report::{CloseReason, OPENING_LEN, SessionId, SessionReport};
#[cfg(any(test, feature = "jail-probe"))]
#[doc(hidden)]
pub use sys::forbidden::Forbidden;
pub use tcp::dial::{Action, ClientPort, DialError, Dialed, PortConflict, connect_plain, connect_spoofed};
pub use tcp::header::HeaderReadError;
pub use tcp::listen::{BindError, ListenOptions, Listener};
pub use tcp::relay::{RelayError, Side};
pub use tcp::timeouts::Silent;
pub use tcp::traffic::{LaneTotals, TrafficTotals};
pub use udp::drops::{DropReason, UdpCounts};
pub use udp::gateway::UdpGateway;
pub use udp::header::DatagramRefused;
pub use udp::listen::UdpListener;
pub use udp::options::{DatagramFormat, FlowLimits, HeaderRule, UdpOptions, flows_within};
pub use udp::report::{FlowEnd, FlowReport};
