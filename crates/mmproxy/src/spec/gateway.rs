//! A service as the forwarder takes it.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};

use mmproxy_codec::{DecodeOptions, Formats, LimitError};
use mmproxy_forwarder::{
    AllowList, ClientFrom, DatagramFormat, DialOptions, Family, FlowLimits, GatewayConfig, HeaderRule,
    HealthChecks, Keepalive, KeepaliveInvalid, SourceClass, SourcePolicy, SourcePort, TargetChoice,
    TargetHealth, TargetNamespace, TargetsInvalid, TimeoutTooShort, UdpOptions, flows_within,
    sessions_within,
};
use serde::{Deserialize, Serialize};

use super::{Global, ServiceSpec, Spec, Timeouts};
use crate::cli::{HeaderArg, HealthCheckArg, SourceArg, SourceKind, SourcePortArg, UdpHeaderArg};

/// The marks of spoofed sockets, which the return path decides; `None` where it needs none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marks {
    pub(crate) v4: Option<NonZeroU32>,
    pub(crate) v6: Option<NonZeroU32>,
}

/// What the limit on descriptors allows one process that serves a [`Spec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Sessions of all services together.
    pub(crate) sessions: NonZeroUsize,
    /// Flows on each address that datagrams arrive at.
    pub(crate) flows: NonZeroUsize,
}

impl Budget {
    /// What is left of `descriptors` beside those of listeners and runtimes; where connections as well as datagrams are
    /// served, each kind has half.
    pub(crate) fn within(spec: &Spec, descriptors: u64) -> Self {
        let workers = spec.global.workers.get();
        let addresses = |tcp: bool| -> usize {
            let services = spec.services.iter().filter(|service| service.is_tcp() == tcp);
            services.map(|service| service.listen.len()).sum()
        };
        let (tcp, udp) = (addresses(true), addresses(false));
        // A listener on each address, or a socket, an epoll, a bell and an io_uring; and the three of each runtime.
        let taken = workers.saturating_mul(tcp.saturating_add(4 * udp).saturating_add(3));
        let left = descriptors.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
        let share = if tcp > 0 && udp > 0 { left / 2 } else { left };
        Self {
            sessions: sessions_within(share),
            flows: flows_within(share, NonZeroUsize::new(udp).unwrap_or(NonZeroUsize::MIN)),
        }
    }
}

impl ServiceSpec {
    /// How connections to the targets are made, in `namespace` if they are in another one.
    pub(crate) fn dial(
        &self,
        marks: Marks,
        namespace: Option<TargetNamespace>,
    ) -> Result<DialOptions, Invalid> {
        let Timeouts { connect, tcp_user, keepalive, .. } = self.timeouts;
        let keepalive =
            keepalive.map(|probing| Keepalive::with(probing.idle, probing.interval, probing.probes));
        Ok(DialOptions::new()
            .timeout(connect)
            .map_err(|error| Invalid::TooShort("connect-timeout", error))?
            .source_port(match self.source_port {
                SourcePortArg::Keep => SourcePort::Keep,
                SourcePortArg::Prefer => SourcePort::Prefer,
                SourcePortArg::Ephemeral => SourcePort::Ephemeral,
            })
            .keepalive(keepalive.transpose()?)
            .user_timeout(tcp_user)
            .map_err(|error| Invalid::TooShort("tcp-user-timeout", error))?
            .namespace(namespace)
            .mark_toward(Family::V4, marks.v4)
            .mark_toward(Family::V6, marks.v6))
    }

    /// Everything a gateway of this service is told; `sessions` are what the limit on descriptors allows.
    pub(crate) fn gateway(
        &self,
        global: &Global,
        dial: DialOptions,
        sessions: NonZeroUsize,
        health: TargetHealth,
    ) -> Result<GatewayConfig, Invalid> {
        let too_short = |key| move |error| Invalid::TooShort(key, error);
        let total = global.max_sessions.unwrap_or(sessions);
        if total > sessions {
            return Err(Invalid::TooManySessions { asked: total, most: sessions });
        }
        Ok(GatewayConfig::new(self.allow_list(), self.target_choice()?)
            .clients(self.clients.lists())
            .client_from(self.client_from())
            .sources(self.allow_source.iter().fold(SourcePolicy::new(), |all, kind| all.allow(class(*kind))))
            .health_checks(self.health_checks(), health)
            .dial(dial)
            .header_timeout(self.timeouts.header)
            .map_err(too_short("header-timeout"))?
            .idle_timeout(self.timeouts.idle)
            .map_err(too_short("idle-timeout"))?
            .half_closed_timeout(self.timeouts.half_closed)
            .map_err(too_short("half-closed-timeout"))?
            .drain(global.drain)
            .limits(self.limits.sessions(total))
            .decode(self.decode()?))
    }

    /// What becomes of connections that speak for no client.
    pub(crate) const fn health_checks(&self) -> HealthChecks {
        match self.health_checks {
            HealthCheckArg::Pass => HealthChecks::Pass,
            HealthCheckArg::Answer => HealthChecks::Answer,
            HealthCheckArg::Refuse => HealthChecks::Refuse,
        }
    }

    /// The same about datagrams; each address listened on may have `flows`.
    pub(crate) fn datagrams(&self, flows: NonZeroUsize) -> Result<UdpOptions, Invalid> {
        let mut limits = FlowLimits::new(self.udp.max_flows.unwrap_or(flows));
        if let Some(flows) = self.udp.max_flows_per_balancer {
            limits = limits.per_balancer(flows);
        }
        if let Some(flows) = self.udp.max_flows_per_network {
            limits = limits.per_network(flows);
        }
        if limits.total() > flows {
            return Err(Invalid::TooManyFlows { asked: limits.total(), most: flows });
        }
        UdpOptions::new(limits)
            .format(if self.headers.contains(&HeaderArg::Spp) {
                DatagramFormat::Spp
            } else {
                DatagramFormat::V2
            })
            .header(match self.udp.which {
                UdpHeaderArg::Every => HeaderRule::EveryDatagram,
                UdpHeaderArg::FirstDatagram => HeaderRule::FirstDatagram,
            })
            .idle(self.udp.idle)
            .map_err(|error| Invalid::TooShort("udp-idle-timeout", error))
    }

    /// Which headers of connections are taken.
    fn decode(&self) -> Result<DecodeOptions, LimitError> {
        let formats = self.headers.iter().map(|format| match format {
            HeaderArg::V1 => Formats::V1,
            HeaderArg::V2 => Formats::V2,
            HeaderArg::Spp => Formats::SPP,
        });
        let options = DecodeOptions::new().max_v2_len(self.limits.max_header_size)?;
        Ok(match formats.reduce(Formats::and) {
            Some(formats) => options.formats(formats),
            None => options,
        })
    }

    /// Where the client's address comes from.
    pub(crate) const fn client_from(&self) -> ClientFrom {
        match self.source {
            SourceArg::Header => ClientFrom::Header,
            SourceArg::Peer => ClientFrom::Peer,
        }
    }

    /// The load balancers.
    pub(crate) fn allow_list(&self) -> AllowList {
        let mut allowed = AllowList::new();
        self.allowed.iter().for_each(|network| allowed.insert(*network));
        allowed
    }

    /// Where connections go.
    pub(crate) fn target_choice(&self) -> Result<TargetChoice, TargetsInvalid> {
        let others = self.targets.fixed()?;
        Ok(match (&self.targets.from_header, others) {
            (Some(allowed), others) => {
                TargetChoice::FromHeader { allowed: allowed.iter().cloned().collect(), others }
            }
            (None, Some(targets)) => TargetChoice::Fixed(targets),
            (None, None) => return Err(TargetsInvalid::None),
        })
    }
}

/// A service that cannot be served as it was asked for.
#[derive(Debug)]
pub(crate) enum Invalid {
    /// A time, and the key that it was given by.
    TooShort(&'static str, TimeoutTooShort),
    Keepalive(KeepaliveInvalid),
    Targets(TargetsInvalid),
    HeaderSize(LimitError),
    /// More sessions than the limit on descriptors allows.
    TooManySessions {
        asked: NonZeroUsize,
        most: NonZeroUsize,
    },
    /// More flows than the limit on descriptors allows.
    TooManyFlows {
        asked: NonZeroUsize,
        most: NonZeroUsize,
    },
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort(key, error) => write!(f, "--{key}: {error}"),
            Self::Keepalive(error) => error.fmt(f),
            Self::Targets(error) => error.fmt(f),
            Self::HeaderSize(error) => write!(f, "--max-header-size: {error}"),
            Self::TooManySessions { asked, most } => {
                write!(f, "--max-sessions {asked} is more than the limit on open files allows: {most}")
            }
            Self::TooManyFlows { asked, most } => {
                write!(f, "--udp-max-flows {asked} is more than the limit on open files allows: {most}")
            }
        }
    }
}

impl std::error::Error for Invalid {}

impl From<KeepaliveInvalid> for Invalid {
    fn from(error: KeepaliveInvalid) -> Self {
        Self::Keepalive(error)
    }
}

impl From<LimitError> for Invalid {
    fn from(error: LimitError) -> Self {
        Self::HeaderSize(error)
    }
}

impl From<TargetsInvalid> for Invalid {
    fn from(error: TargetsInvalid) -> Self {
        Self::Targets(error)
    }
}

const fn class(kind: SourceKind) -> SourceClass {
    match kind {
        SourceKind::Loopback => SourceClass::Loopback,
        SourceKind::Unspecified => SourceClass::Unspecified,
        SourceKind::Multicast => SourceClass::Multicast,
        SourceKind::Broadcast => SourceClass::Broadcast,
        SourceKind::LinkLocal => SourceClass::LinkLocal,
        SourceKind::Own => SourceClass::Own,
    }
}
