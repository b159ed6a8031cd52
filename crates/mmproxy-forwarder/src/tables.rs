//! What a gateway looks peers and clients up in, replaced as a whole while it serves.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use crate::allowlist::AllowList;
use crate::clients::{ClientDenied, ClientLists};
use crate::deny::DenyChange;
use crate::deny::live::LiveDenyTable;

/// The tables that all threads of a gateway read. A lookup takes no lock and writes to no memory in common.
#[derive(Debug)]
pub(crate) struct Tables {
    allowed: ArcSwap<AllowList>,
    clients: ArcSwap<ClientLists>,
    denied: LiveDenyTable,
    /// Changes so far, for those who remember answers.
    version: AtomicU64,
}

impl Tables {
    pub(crate) fn new(allowed: AllowList, clients: ClientLists) -> Self {
        Self {
            allowed: ArcSwap::from_pointee(allowed),
            clients: ArcSwap::from_pointee(clients),
            denied: LiveDenyTable::default(),
            version: AtomicU64::new(0),
        }
    }

    /// Whether `peer` may speak PROXY.
    pub(crate) fn allow(&self, peer: IpAddr) -> bool {
        self.allowed.load().contains(peer)
    }

    /// Whether the client at `ip` is served.
    pub(crate) fn check(&self, ip: IpAddr) -> Result<(), ClientDenied> {
        self.clients.load().check(ip)?;
        if self.denied.denies(ip, SystemTime::now) { Err(ClientDenied::Banned(ip)) } else { Ok(()) }
    }

    /// Differs from every earlier answer once a table was changed.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn replace_allowed(&self, allowed: AllowList) {
        self.allowed.store(Arc::new(allowed));
        self.changed();
    }

    pub(crate) fn replace_clients(&self, clients: ClientLists) {
        self.clients.store(Arc::new(clients));
        self.changed();
    }

    pub(crate) fn deny(&self, changes: &[DenyChange]) {
        self.denied.apply(changes, SystemTime::now());
        self.changed();
    }

    fn changed(&self) {
        // After the change: who sees the new number sees the new table.
        self.version.fetch_add(1, Ordering::Release);
    }
}
