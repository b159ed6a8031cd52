//! What is asked about the deny list, and what is answered.

use std::time::SystemTime;

use ipnet::IpNet;
use mmproxy_forwarder::Denied;
use serde::{Deserialize, Serialize};

use super::SessionName;

/// What is to be done with the deny list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum DenyRequest {
    /// Deny these clients from now on.
    Add {
        network: IpNet,
        /// For so many seconds; for ever without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_s: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// And end their sessions.
        #[serde(default)]
        close: bool,
    },
    /// Who is denied?
    List,
    /// Deny these clients no longer.
    Remove { network: IpNet },
}

/// What came of it. It is in force in every worker then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DenyReply {
    Added {
        /// Sessions that ended for it.
        closed: Vec<SessionName>,
    },
    Listed(Vec<DeniedRow>),
    Removed {
        /// Whether exactly this network was denied.
        was_denied: bool,
        /// Entries that deny all of it still.
        still: Vec<DeniedRow>,
    },
}

/// An entry of the deny list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeniedRow {
    pub(crate) network: IpNet,
    /// As in RFC 3339; `None` is for ever.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) remaining_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) reason: Option<String>,
}

impl From<Denied> for DeniedRow {
    fn from(denied: Denied) -> Self {
        let until = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
        Self {
            network: denied.network,
            until: denied.until.map(until),
            remaining_s: denied.remaining.map(|left| left.as_secs()),
            reason: denied.reason,
        }
    }
}
