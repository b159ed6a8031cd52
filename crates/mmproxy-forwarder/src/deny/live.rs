//! A deny table that is changed while all threads look clients up in it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::{DenyChange, DenyTable};

/// Two tables: one that is read, and one that waits for the next change.
///
/// Readers take no lock and write to no memory that another thread reads. A change is made to the table that waits, which
/// then changes places with the other; so it costs what it is about and no copy of everything.
#[derive(Debug, Default)]
pub(crate) struct LiveDenyTable {
    read: ArcSwap<DenyTable>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    table: Arc<DenyTable>,
    /// What was done to the table that is read and not to this one.
    behind: Vec<DenyChange>,
}

impl LiveDenyTable {
    /// Whether the client at `ip` is denied now; `clock` is asked only where anybody is.
    pub(crate) fn denies(&self, ip: IpAddr, clock: impl FnOnce() -> SystemTime) -> bool {
        let table = self.read.load();
        !table.is_empty() && table.denies(ip, clock())
    }

    /// Does what `changes` say, in their order. When this returns, every lookup that begins sees all of them.
    pub(crate) fn apply(&self, changes: &[DenyChange], now: SystemTime) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Waiting { table, behind } = &mut *waiting;
        if Arc::get_mut(table).is_none() {
            // A lookup that began before the last change goes on: rare, and not worth waiting for.
            *table = Arc::new(DenyTable::clone(&self.read.load()));
            behind.clear();
        }
        let next = Arc::get_mut(table).expect("nobody else has it");
        behind.drain(..).for_each(|change| next.apply(&change, now));
        changes.iter().for_each(|change| next.apply(change, now));
        *table = self.read.swap(Arc::clone(table));
        behind.extend_from_slice(changes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, UNIX_EPOCH};

    fn add(ip: IpAddr) -> DenyChange {
        DenyChange::Add { network: ip.into(), until: None, close: false }
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn both_tables_follow_every_change() {
        let table = LiveDenyTable::default();
        let ips: Vec<IpAddr> = (0..20u8).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        for (number, ip) in ips.iter().enumerate() {
            table.apply(&[add(*ip)], now());
            if number % 3 == 0 {
                table
                    .apply(&[DenyChange::Remove { network: (*ip).into() }, add([10, 0, 0, 1].into())], now());
            }
            for (earlier, ip) in ips.iter().enumerate() {
                let denied = earlier <= number && earlier % 3 != 0;
                assert_eq!(table.denies(*ip, now), denied, "{ip} after {number}");
            }
        }
        table.apply(&[DenyChange::Replace(Vec::new())], now());
        table.apply(&[add(ips[0])], now());
        assert!(table.denies(ips[0], now) && !table.denies(ips[1], now));
    }

    #[test]
    fn readers_that_are_in_the_way_of_a_change_do_not_lose_it() {
        let (table, stop) = (LiveDenyTable::default(), AtomicBool::new(false));
        let constant = IpAddr::from([192, 0, 2, 1]);
        table.apply(&[add(constant)], now());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        // Keeps the table that is read from waiting alone.
                        let held = table.read.load_full();
                        assert!(table.denies(constant, now) && held.denies(constant, now()));
                    }
                });
            }
            for number in 0..2000u32 {
                let ip = IpAddr::from(number.to_be_bytes());
                table.apply(&[add(ip)], now());
                assert!(table.denies(ip, now));
                table.apply(&[DenyChange::Remove { network: ip.into() }], now());
                assert!(!table.denies(ip, now));
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
