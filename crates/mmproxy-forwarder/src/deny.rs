//! Clients that are denied while the gateway runs, each for a time or for ever.
//!
//! Two views of the same thing: [`DenyList`] is the operator's, with reasons, and is kept in one place; [`DenyTable`]
//! is what every gateway looks clients up in, and follows by [`DenyChange`]s. Pure: `now` is a parameter.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::networks::normalised;

pub(crate) mod live;
mod table;
mod text;

pub use table::{DenyChange, DenyTable};
pub use text::{DenyListError, DenyMistake, DenyProblem};

/// Networks of clients that are denied, by hand or by a program such as fail2ban.
///
/// An entry is in force until its time comes, to the nanosecond, and is not counted or shown from then on; its memory is
/// given back by [`expire`](Self::expire). Times are the wall clock's, so that they mean the same after a restart.
///
/// An entry takes about 110 bytes here with a short reason, so a full list of a million some 110 MB; and in each gateway that
/// follows it 75 bytes (IPv4) or 135 bytes (IPv6), twice ([`DenyTable`]).
///
/// The text of a list, which [`parse`](Self::parse) reads back, has an entry a line:
///
/// ```text
/// 203.0.113.7/32 until 2026-11-27T18:00:00Z # fail2ban sshd
/// 198.51.100.0/24 # for ever
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenyList {
    entries: BTreeMap<IpNet, Denial>,
    capacity: usize,
}

/// What is known of a denied network.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Denial {
    /// `None`: for ever.
    until: Option<SystemTime>,
    /// Invariant: [`DenyList::REASON_LEN`] bytes at most, without control characters.
    reason: Option<Box<str>>,
}

/// An entry as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Denied {
    /// Who is denied.
    pub network: IpNet,
    /// When it ends; `None`: never.
    pub until: Option<SystemTime>,
    /// How long that is from now.
    pub remaining: Option<Duration>,
    /// What was given as the reason.
    pub reason: Option<String>,
}

impl DenyList {
    /// Entries that a list has room for unless told otherwise.
    pub const CAPACITY: usize = 1_000_000;

    /// Longest reason in bytes.
    pub const REASON_LEN: usize = 200;

    /// An empty list with room for [`CAPACITY`](Self::CAPACITY) entries.
    pub const fn new() -> Self {
        Self::with_capacity(Self::CAPACITY)
    }

    /// An empty list with room for `capacity` entries, for which no memory is taken yet.
    pub const fn with_capacity(capacity: usize) -> Self {
        Self { entries: BTreeMap::new(), capacity }
    }

    /// Denies `network` from `now` on, for `term`, or for ever. An entry for the same network is replaced: the last word
    /// counts, whether it is longer or shorter.
    ///
    /// Host bits are cleared, an IPv4-mapped network becomes IPv4.
    ///
    /// # Errors
    ///
    /// [`DenyError`]: there is no room, or the reason is not one line of text. The list is then as it was.
    pub fn add(
        &mut self,
        network: IpNet,
        term: Option<Duration>,
        reason: Option<&str>,
        now: SystemTime,
    ) -> Result<DenyChange, DenyError> {
        let until = term.and_then(|term| now.checked_add(term)).filter(|until| *until < never());
        let reason = reason.filter(|reason| !reason.trim().is_empty()).map(checked).transpose()?;
        let network = normalised(network);
        self.put(network, Denial { until, reason }, now)?;
        Ok(DenyChange::Add { network, until, close: false })
    }

    /// Takes exactly `network` off the list; `None` if it is not there.
    pub fn remove(&mut self, network: IpNet, now: SystemTime) -> Option<DenyChange> {
        let network = normalised(network);
        let denial = self.entries.remove(&network)?;
        denial.is_in_force(now).then_some(DenyChange::Remove { network })
    }

    /// Adds what `other` has; of two entries for one network the one that lasts longer stays.
    ///
    /// # Errors
    ///
    /// [`DenyError::Full`]; entries that fitted are there.
    pub fn merge(&mut self, other: &Self, now: SystemTime) -> Result<(), DenyError> {
        for (network, theirs) in other.entries.iter().filter(|(_, denial)| denial.is_in_force(now)) {
            let ours = self.entries.get(network);
            if ours.is_none_or(|ours| ours.is_shorter_than(theirs)) {
                self.put(*network, theirs.clone(), now)?;
            }
        }
        Ok(())
    }

    /// Forgets the entries whose time has come; how many.
    pub fn expire(&mut self, now: SystemTime) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, denial| denial.is_in_force(now));
        before - self.entries.len()
    }

    /// The entries in force, IPv4 first, in ascending order.
    pub fn iter(&self, now: SystemTime) -> impl Iterator<Item = Denied> {
        let in_force = self.entries.iter().filter(move |(_, denial)| denial.is_in_force(now));
        in_force.map(move |(network, denial)| denial.shown(*network, now))
    }

    /// The entries in force that contain all of `network`, the largest first: what still denies it.
    pub fn covering(&self, network: IpNet, now: SystemTime) -> impl Iterator<Item = Denied> {
        let network = normalised(network);
        (0..=network.prefix_len()).filter_map(move |length| {
            let larger = IpNet::new(network.addr(), length).ok()?.trunc();
            let denial = self.entries.get(&larger).filter(|denial| denial.is_in_force(now))?;
            Some(denial.shown(larger, now))
        })
    }

    /// The whole list for a gateway that has none yet.
    pub fn snapshot(&self, now: SystemTime) -> DenyChange {
        let in_force = self.entries.iter().filter(|(_, denial)| denial.is_in_force(now));
        DenyChange::Replace(in_force.map(|(network, denial)| (*network, denial.until)).collect())
    }

    /// How many entries take up room, also those whose time has come since the last [`expire`](Self::expire).
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn put(&mut self, network: IpNet, denial: Denial, now: SystemTime) -> Result<(), DenyError> {
        let is_full =
            |list: &Self| list.entries.len() >= list.capacity && !list.entries.contains_key(&network);
        if is_full(self) && (self.expire(now) == 0 || is_full(self)) {
            return Err(DenyError::Full { capacity: self.capacity });
        }
        self.entries.insert(network, denial);
        Ok(())
    }
}

impl Default for DenyList {
    fn default() -> Self {
        Self::new()
    }
}

impl Denial {
    fn is_in_force(&self, now: SystemTime) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    fn is_shorter_than(&self, other: &Self) -> bool {
        match (self.until, other.until) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(ours), Some(theirs)) => ours < theirs,
        }
    }

    fn shown(&self, network: IpNet, now: SystemTime) -> Denied {
        // In force, so it is not over.
        let remaining = self.until.map(|until| until.duration_since(now).unwrap_or_default());
        let reason = self.reason.as_deref().map(str::to_owned);
        Denied { network, until: self.until, remaining, reason }
    }
}

/// Why an entry was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DenyError {
    /// Every entry that there is room for is in force.
    #[error("all {capacity} entries of the deny list are in use")]
    Full {
        /// Entries that there is room for.
        capacity: usize,
    },
    /// The reason would break a line, or a terminal, that it is shown on; or is too long.
    #[error("a reason is one line of text of {} bytes at most", DenyList::REASON_LEN)]
    Reason,
}

/// What ends later than a date of four digits can tell ends never.
fn never() -> SystemTime {
    const YEAR_10000: u64 = 253_402_300_800;
    SystemTime::UNIX_EPOCH + Duration::from_secs(YEAR_10000)
}

fn checked(reason: &str) -> Result<Box<str>, DenyError> {
    let reason = reason.trim();
    if reason.len() > DenyList::REASON_LEN || reason.contains(char::is_control) {
        return Err(DenyError::Reason);
    }
    Ok(reason.into())
}

#[cfg(test)]
mod tests;
