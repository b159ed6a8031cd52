//! This host's own addresses: a value for the policy, and the provider that keeps it current.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use crate::addr::unmapped;

/// The addresses of this host's interfaces at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OwnAddresses {
    addresses: HashSet<IpAddr>,
    broadcasts: HashSet<Ipv4Addr>,
}

impl OwnAddresses {
    /// A host with these `addresses`, on networks with these `broadcasts` addresses.
    pub fn new(
        addresses: impl IntoIterator<Item = IpAddr>,
        broadcasts: impl IntoIterator<Item = Ipv4Addr>,
    ) -> Self {
        Self { addresses: addresses.into_iter().collect(), broadcasts: broadcasts.into_iter().collect() }
    }

    /// Asks the kernel: `getifaddrs(3)` in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// What the kernel said; out of descriptors or memory are the usual ones.
    pub fn of_this_host() -> io::Result<Self> {
        let mut own = Self::default();
        for interface in getifaddrs()? {
            own.addresses.extend(interface.address.as_ref().and_then(ip));
            // On a point-to-point link this field is the far end's address, which is somebody else.
            if interface.flags.contains(InterfaceFlags::IFF_BROADCAST)
                && let Some(IpAddr::V4(broadcast)) = interface.broadcast.as_ref().and_then(ip)
            {
                own.broadcasts.insert(broadcast);
            }
        }
        Ok(own)
    }

    /// The addresses, in no order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().copied()
    }

    /// The broadcast addresses, in no order.
    pub fn broadcasts(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.broadcasts.iter().copied()
    }

    /// Whether `ip`, unmapped, belongs to this host.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.addresses.contains(&ip)
    }

    /// Whether `network` holds an address of this host.
    pub fn is_in(&self, network: IpNet) -> bool {
        self.addresses.iter().any(|ip| network.contains(ip))
    }

    /// Whether `ip` is the broadcast address of a network this host is in.
    pub fn is_broadcast(&self, ip: Ipv4Addr) -> bool {
        self.broadcasts.contains(&ip)
    }
}

/// Where a gateway learns this host's addresses, again and again.
///
/// The default is [`OwnAddresses::of_this_host`]; a jailed worker is told by its keeper instead.
pub(crate) type AddressProvider = dyn Fn() -> io::Result<OwnAddresses> + Send + Sync;

/// The last answer of a provider, asked again when it is needed and older than [`MAX_AGE`].
pub(crate) struct OwnCache {
    provider: Arc<AddressProvider>,
    last: Mutex<Last>,
}

struct Last {
    asked: Instant,
    own: Arc<OwnAddresses>,
}

impl OwnCache {
    /// Asks for the first time.
    pub(crate) fn new(provider: Arc<AddressProvider>, now: Instant) -> io::Result<Self> {
        let own = Arc::new(provider()?);
        Ok(Self { provider, last: Mutex::new(Last { asked: now, own }) })
    }

    /// Another cache, for another thread, that starts with the last answer of this one.
    pub(crate) fn fork(&self) -> Self {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = Last { asked: last.asked, own: Arc::clone(&last.own) };
        Self { provider: Arc::clone(&self.provider), last: Mutex::new(last) }
    }

    /// The addresses as of at most [`MAX_AGE`] before `now`.
    ///
    /// When the provider fails, the last known addresses are returned beside the error: they are nearly
    /// always still right, and serving nobody would be worse.
    pub(crate) fn at(&self, now: Instant) -> (Arc<OwnAddresses>, Option<io::Error>) {
        // A panic of the provider poisons the lock; the value behind it is still the last good one.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failed = None;
        if now.saturating_duration_since(last.asked) >= MAX_AGE {
            last.asked = now;
            match (self.provider)() {
                Ok(own) if own == *last.own => {}
                Ok(own) => last.own = Arc::new(own),
                Err(error) => failed = Some(error),
            }
        }
        (Arc::clone(&last.own), failed)
    }
}

impl fmt::Debug for OwnCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnCache").finish_non_exhaustive()
    }
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), 0)));
    let v6 = || address.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), 0)));
    v4.or_else(v6).map(|address| unmapped(address).ip())
}

/// How long an answer is good for: one `getifaddrs`, a netlink dump of some 50 µs, every two seconds at most.
const MAX_AGE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn this_host_has_its_loopback_addresses() {
        let own = OwnAddresses::of_this_host().expect("getifaddrs");
        assert!(own.contains(IpAddr::from([127, 0, 0, 1])));
        assert!(!own.contains(IpAddr::from([192, 0, 2, 7])));
    }

    fn counting() -> (Arc<AtomicU32>, Arc<AddressProvider>) {
        let calls = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&calls);
        let provider = Arc::new(move || match counter.fetch_add(1, Ordering::Relaxed) {
            2 => Err(io::Error::from_raw_os_error(24)),
            n => Ok(OwnAddresses::new([IpAddr::from([10, 0, 0, n as u8])], [])),
        });
        (calls, provider)
    }

    #[test]
    fn the_provider_is_asked_again_only_after_a_while() {
        let (calls, provider) = counting();
        let start = Instant::now();
        let cache = OwnCache::new(provider, start).expect("first answer");
        assert!(cache.at(start + MAX_AGE / 2).0.contains(IpAddr::from([10, 0, 0, 0])));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert!(cache.at(start + MAX_AGE).0.contains(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_failing_provider_leaves_the_last_answer_and_is_reported_once_per_attempt() {
        let (_, provider) = counting();
        let start = Instant::now();
        let cache = OwnCache::new(provider, start).expect("first answer");
        assert!(cache.at(start + MAX_AGE).1.is_none());
        let (own, failed) = cache.at(start + 2 * MAX_AGE);
        assert!(own.contains(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(failed.and_then(|error| error.raw_os_error()), Some(24));
        assert!(cache.at(start + 2 * MAX_AGE).1.is_none());
        assert!(cache.at(start + 3 * MAX_AGE).0.contains(IpAddr::from([10, 0, 0, 3])));
    }
}
