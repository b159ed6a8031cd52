//! Limits on connections, and lists of clients.

use std::num::NonZeroUsize;

use ipnet::IpNet;
use mmproxy_forwarder::{ClientLists, SessionLimits};
use serde::{Deserialize, Serialize};

use super::text;
use crate::cli::{Ceiling, Prefixes, Rate};

/// How many connections of one kind may live, and begin, at a time. `None`: the default of [`SessionLimits`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LimitsSpec {
    /// Sessions of each address listened on.
    pub(crate) per_listener: Option<NonZeroUsize>,
    /// Sessions of one balancer.
    pub(crate) per_balancer: Option<NonZeroUsize>,
    /// Sessions of one client.
    #[serde(with = "text::optional")]
    pub(crate) per_client: Option<Ceiling>,
    /// Sessions of the clients in one network.
    #[serde(with = "text::optional")]
    pub(crate) per_client_network: Option<Ceiling>,
    /// What a network of clients is.
    #[serde(with = "text")]
    pub(crate) client_networks: Prefixes,
    /// How fast sessions of the clients in one network may begin.
    #[serde(with = "text")]
    pub(crate) new_sessions_per_second: Rate,
    /// Bytes of the largest header.
    pub(crate) max_header_size: usize,
}

impl LimitsSpec {
    /// The same for sessions of which there are `total` at most.
    pub(crate) fn sessions(&self, total: NonZeroUsize) -> SessionLimits {
        let mut limits = SessionLimits::new(total)
            .per_listener(self.per_listener)
            .per_balancer(self.per_balancer)
            .client_networks(self.client_networks.0)
            .pace(self.new_sessions_per_second.0);
        if let Some(ceiling) = self.per_client {
            limits = limits.per_client(ceiling.0);
        }
        if let Some(ceiling) = self.per_client_network {
            limits = limits.per_client_network(ceiling.0);
        }
        limits
    }
}

/// For whom connections and datagrams are taken: the networks of every file and flag together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientsSpec {
    /// Who alone is served; `None`: everybody.
    pub(crate) allowed: Option<Vec<IpNet>>,
    /// Who is not.
    pub(crate) denied: Vec<IpNet>,
}

impl ClientsSpec {
    /// The same for lookups.
    pub(crate) fn lists(&self) -> ClientLists {
        ClientLists::new(self.allowed.clone(), self.denied.iter().copied())
    }

    /// Whether nobody can be a client, whoever it is.
    pub(crate) fn serves_nobody(&self) -> bool {
        self.allowed.as_ref().is_some_and(Vec::is_empty)
    }
}
