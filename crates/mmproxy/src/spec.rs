//! What mmproxy was asked for, as meant: plain data, whoever asked for it and however.
//!
//! Flags (`resolve`) and files become a [`Spec`]; the keeper acts on it and hands each worker its part.

mod gateway;
mod limits;
mod text;

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use mmproxy_forwarder::{AllowedTarget, Targets, TargetsInvalid};
use mmproxy_routing::{Mark, Ports, Priority, Table};
use serde::{Deserialize, Serialize};

pub(crate) use self::gateway::{Budget, Invalid, Marks};
pub(crate) use self::limits::{ClientsSpec, LimitsSpec};
use crate::cli::{
    HeaderArg, HealthCheckArg, IoUringArg, LogFormat, ProtocolArg, ReturnPathArgs, ReturnPathMode, Routing,
    SourceArg, SourceKind, SourcePortArg, TproxyArgs, UdpHeaderArg,
};
use crate::jail::{MayLack, Sandbox, UserSpec};
use crate::log::Verbosity;
use crate::target_netns::NamespaceName;

/// All that one mmproxy serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) global: Global,
    /// At least one; names and addresses listened on are each there once.
    pub(crate) services: Vec<ServiceSpec>,
}

/// What all services share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Global {
    /// Threads that serve, in each worker process.
    pub(crate) workers: NonZeroUsize,
    /// Sessions of all services together, in each worker process. `None`: what the limit on open files allows.
    pub(crate) max_sessions: Option<NonZeroUsize>,
    /// How long sessions may go on when they have to end.
    pub(crate) drain: Duration,
    pub(crate) verbosity: Verbosity,
    /// Form of the log, if it is said.
    pub(crate) log_format: Option<LogFormat>,
    /// Where metrics and the status page are served.
    pub(crate) admin: Option<SocketAddr>,
    /// The control socket.
    pub(crate) control: Option<PathBuf>,
    /// Where the deny list is kept, from one start to the next.
    pub(crate) deny_state: Option<PathBuf>,
    pub(crate) jail: JailSpec,
}

/// What workers are kept from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JailSpec {
    /// Whom they become; `None` keeps the user that starts them.
    pub(crate) user: Option<UserSpec>,
    pub(crate) sandbox: Sandbox,
    pub(crate) may_lack: MayLack,
    /// Whether they keep CAP_NET_ADMIN, if the keeper has it.
    pub(crate) keep_net_admin: bool,
}

/// One kind of connection or datagram, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServiceSpec {
    /// Name in logs, metrics and messages.
    pub(crate) name: String,
    pub(crate) protocol: ProtocolArg,
    /// Addresses to listen on, each once; a range of ports is written out here.
    pub(crate) listen: Vec<SocketAddr>,
    /// Connections that may wait to be accepted, for each thread.
    pub(crate) backlog: u32,
    pub(crate) listen_transparent: bool,
    pub(crate) tproxy: TproxySpec,
    /// Where the client's address comes from.
    pub(crate) source: SourceArg,
    /// Formats of headers that are accepted; of datagrams one alone.
    pub(crate) headers: Vec<HeaderArg>,
    /// Load balancers: the networks of every file and flag together. Empty: nobody may connect.
    pub(crate) allowed: Vec<IpNet>,
    pub(crate) clients: ClientsSpec,
    /// Kinds of client address that are let in although they are refused by default.
    pub(crate) allow_source: Vec<SourceKind>,
    pub(crate) source_port: SourcePortArg,
    pub(crate) targets: TargetsSpec,
    /// Where the targets are, if not in this network namespace.
    #[serde(with = "text::optional")]
    pub(crate) target_netns: Option<NamespaceName>,
    pub(crate) return_path: ReturnPathSpec,
    /// What becomes of connections that speak for no client.
    pub(crate) health_checks: HealthCheckArg,
    pub(crate) timeouts: Timeouts,
    /// Of `protocol` TCP; of no meaning for UDP.
    pub(crate) limits: LimitsSpec,
    /// Of `protocol` UDP; of no meaning for TCP.
    pub(crate) udp: UdpSpec,
}

/// Where connections and datagrams go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TargetsSpec {
    /// For IPv4 clients.
    pub(crate) v4: Option<SocketAddrV4>,
    /// For IPv6 clients.
    pub(crate) v6: Option<SocketAddrV6>,
    /// What a header may name; then the two above are for headers that name nothing. `None`: headers decide nothing.
    #[serde(with = "text::optional_list")]
    pub(crate) from_header: Option<Vec<AllowedTarget>>,
}

impl TargetsSpec {
    /// The targets that are known before anything comes; `None` where the header names every one.
    pub(crate) fn fixed(&self) -> Result<Option<Targets>, TargetsInvalid> {
        if self.from_header.is_some() && self.v4.is_none() && self.v6.is_none() {
            return Ok(None);
        }
        Targets::new(self.v4, self.v6).map(Some)
    }
}

/// How replies come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReturnPathSpec {
    pub(crate) mode: ReturnPathMode,
    pub(crate) routing: Routing,
    #[serde(with = "text")]
    pub(crate) mark: Mark,
    #[serde(with = "text")]
    pub(crate) table: Table,
    #[serde(with = "text")]
    pub(crate) priority: Priority,
}

/// Ports that TPROXY rules hand to a transparent listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TproxySpec {
    #[serde(with = "text::list")]
    pub(crate) ports: Vec<Ports>,
    #[serde(with = "text")]
    pub(crate) mark: Mark,
    #[serde(with = "text")]
    pub(crate) table: Table,
}

/// Deadlines of connections; `None` is never.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Timeouts {
    pub(crate) header: Duration,
    pub(crate) connect: Duration,
    pub(crate) idle: Option<Duration>,
    pub(crate) half_closed: Option<Duration>,
    pub(crate) tcp_user: Option<Duration>,
    pub(crate) keepalive: Option<KeepaliveSpec>,
}

/// When silent connections are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeepaliveSpec {
    pub(crate) idle: Duration,
    pub(crate) interval: Duration,
    pub(crate) probes: u32,
}

/// What is said about datagrams alone. `None`: derived from the limit on open files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UdpSpec {
    pub(crate) which: UdpHeaderArg,
    pub(crate) idle: Duration,
    pub(crate) max_flows: Option<NonZeroUsize>,
    pub(crate) max_flows_per_balancer: Option<NonZeroUsize>,
    pub(crate) max_flows_per_network: Option<NonZeroUsize>,
    pub(crate) io_uring: IoUringArg,
}

impl Default for UdpSpec {
    fn default() -> Self {
        Self {
            which: UdpHeaderArg::Every,
            idle: Duration::from_secs(60),
            max_flows: None,
            max_flows_per_balancer: None,
            max_flows_per_network: None,
            io_uring: IoUringArg::Auto,
        }
    }
}

impl ServiceSpec {
    /// Whether connections, not datagrams, are served.
    pub(crate) fn is_tcp(&self) -> bool {
        self.protocol == ProtocolArg::Tcp
    }

    /// Whether a listener takes what is for other addresses and ports.
    pub(crate) fn is_transparent(&self) -> bool {
        self.listen_transparent || !self.tproxy.ports.is_empty()
    }

    /// The return path as the commands about it have it.
    pub(crate) const fn path(&self) -> ReturnPathArgs {
        ReturnPathArgs {
            protocol: self.protocol,
            return_path: self.return_path.mode,
            mark: self.return_path.mark,
            table: self.return_path.table,
            priority: self.return_path.priority,
        }
    }

    /// The way in as the commands about it have it.
    pub(crate) fn way_in(&self) -> TproxyArgs {
        TproxyArgs {
            tproxy_ports: self.tproxy.ports.clone(),
            tproxy_mark: self.tproxy.mark,
            tproxy_table: self.tproxy.table,
        }
    }
}
