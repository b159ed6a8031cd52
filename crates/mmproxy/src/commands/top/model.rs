//! What `mmproxy top` shows: the last look, and what has changed since the one before.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::look::Look;
use crate::control::{NamedSession, ServiceStatus, SessionName, Status};
use crate::exit::Failure;
use crate::metrics::ServiceSnapshot;

/// Looks, and how the operator wants to see them.
#[derive(Debug)]
pub(super) struct Model {
    latest: Look,
    before: Option<Look>,
    /// Why the last attempt to look failed.
    complaint: Option<String>,
    sort: Sort,
    inverted: bool,
    /// Sessions above the first that is shown.
    scroll: usize,
}

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    SortBy(Sort),
    /// The largest first, or the smallest.
    Invert,
    /// Sort by the column before, or the next one.
    Left,
    Right,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

/// By what sessions are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    Age,
    /// Both ways together.
    #[default]
    Bytes,
    /// Bytes a second, both ways together.
    Speed,
    /// The balancer's round trip.
    Rtt,
}

/// What comes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Wanted {
    More,
    End,
}

/// A service with its rates; those are unknown at the first look.
#[derive(Debug)]
pub(super) struct ServiceLine<'a> {
    pub(super) service: &'a ServiceStatus,
    /// Each with whether it is up, where that is known.
    pub(super) targets: Vec<(&'a str, Option<bool>)>,
    pub(super) live: u64,
    pub(super) opened: Count,
    pub(super) refused: Count,
    pub(super) up: Count,
    pub(super) down: Count,
}

/// What was refused or dropped for one reason.
#[derive(Debug)]
pub(super) struct RefusalLine<'a> {
    pub(super) service: &'a str,
    pub(super) reason: &'a str,
    pub(super) times: Count,
}

/// A session with its speed.
#[derive(Debug)]
pub(super) struct SessionLine<'a> {
    pub(super) session: &'a NamedSession,
    /// Bytes a second, both ways together.
    pub(super) speed: Option<f64>,
}

/// How often since the start, and how often a second lately.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Count {
    pub(super) total: u64,
    pub(super) rate: Option<f64>,
}

impl Model {
    pub(super) const fn new(first: Look) -> Self {
        Self { latest: first, before: None, complaint: None, sort: Sort::Bytes, inverted: false, scroll: 0 }
    }

    /// Somebody has looked.
    pub(super) fn note(&mut self, look: Result<Look, Failure>) {
        match look {
            Ok(look) => {
                // Another process counts from nothing.
                let same = look.status.pid == self.latest.status.pid;
                let latest = std::mem::replace(&mut self.latest, look);
                self.before = same.then_some(latest);
                self.complaint = None;
                self.scroll = self.scroll.min(self.last());
            }
            Err(failure) => self.complaint = Some(failure.reason()),
        }
    }

    pub(super) fn press(&mut self, key: Key) -> Wanted {
        let (here, last) = (self.scroll, self.last());
        match key {
            Key::Quit => return Wanted::End,
            Key::SortBy(sort) => self.sort = sort,
            Key::Invert => self.inverted = !self.inverted,
            Key::Left => self.sort = self.sort.moved(Sort::ALL.len() - 1),
            Key::Right => self.sort = self.sort.moved(1),
            Key::Up => self.scroll = here.saturating_sub(1),
            Key::Down => self.scroll = (here + 1).min(last),
            Key::PageUp => self.scroll = here.saturating_sub(PAGE),
            Key::PageDown => self.scroll = (here + PAGE).min(last),
            Key::Home => self.scroll = 0,
            Key::End => self.scroll = last,
        }
        Wanted::More
    }

    pub(super) const fn status(&self) -> &Status {
        &self.latest.status
    }

    pub(super) fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    pub(super) const fn order(&self) -> (Sort, bool) {
        (self.sort, self.inverted)
    }

    /// Sessions and flows that live, whether they are listed or not.
    pub(super) fn live(&self) -> u64 {
        let counted = self.latest.status.counted.services.values();
        counted.map(|service| service.active() + service.flows_active()).sum()
    }

    pub(super) fn services(&self) -> Vec<ServiceLine<'_>> {
        self.latest.status.services.iter().map(|service| self.service(service)).collect()
    }

    fn service<'a>(&'a self, service: &'a ServiceStatus) -> ServiceLine<'a> {
        let now = Totals::of(&self.latest, &service.name);
        let before = self.before.as_ref().map(|before| Totals::of(before, &service.name));
        let count = |of: fn(&Totals) -> u64| self.count(of(&now), before.as_ref().map(of));
        let counted = self.latest.status.counted.services.get(&service.name);
        let up = |target: &String| counted.and_then(|counted| counted.targets.get(target).copied());
        ServiceLine {
            service,
            targets: service.targets.iter().map(|target| (target.as_str(), up(target))).collect(),
            live: now.live,
            opened: count(|totals| totals.opened),
            refused: count(|totals| totals.refused),
            up: count(|totals| totals.up),
            down: count(|totals| totals.down),
        }
    }

    /// What happens now first, then what happened most.
    pub(super) fn refusals(&self) -> Vec<RefusalLine<'_>> {
        let mut lines = Vec::new();
        for (service, counted) in &self.latest.status.counted.services {
            let before = self.before.as_ref();
            for (reason, times) in reasons(counted).filter(|(_, times)| *times > 0) {
                let before = before.map(|before| {
                    let counted = before.status.counted.services.get(service);
                    counted
                        .into_iter()
                        .flat_map(reasons)
                        .filter(|(one, _)| *one == reason)
                        .map(|(_, n)| n)
                        .sum()
                });
                lines.push(RefusalLine { service, reason, times: self.count(times, before) });
            }
        }
        let urgency = |line: &RefusalLine<'_>| (line.times.rate.unwrap_or(0.0), line.times.total);
        lines.sort_by(|one, other| descending(urgency(one), urgency(other)));
        lines
    }

    /// In the order wanted, from the first that is to be shown.
    pub(super) fn sessions(&self) -> Vec<SessionLine<'_>> {
        let before: BTreeMap<SessionName, u64> = self
            .before
            .iter()
            .flat_map(|before| &before.sessions)
            .map(|session| (session.session, bytes(session)))
            .collect();
        let mut lines: Vec<SessionLine<'_>> =
            self.latest.sessions.iter().map(|session| self.session(session, &before)).collect();
        lines.sort_by(|one, other| {
            let order = descending(one.key(self.sort), other.key(self.sort));
            let order = if self.inverted { order.reverse() } else { order };
            order.then_with(|| one.session.session.cmp(&other.session.session))
        });
        lines.drain(..self.scroll.min(lines.len()));
        lines
    }

    fn session<'a>(&self, session: &'a NamedSession, before: &BTreeMap<SessionName, u64>) -> SessionLine<'a> {
        let young = self.seconds().is_some_and(|seconds| session.row.age_ms as f64 <= seconds * 1000.0);
        // One that is older and was not listed says nothing of what it did lately.
        let former = before.get(&session.session).copied().or_else(|| young.then_some(0));
        SessionLine { session, speed: self.count(bytes(session), former).rate }
    }

    fn count(&self, total: u64, before: Option<u64>) -> Count {
        let rate = |(before, seconds): (u64, f64)| total.saturating_sub(before) as f64 / seconds;
        Count { total, rate: before.zip(self.seconds()).map(rate) }
    }

    /// From the last look but one to the last.
    fn seconds(&self) -> Option<f64> {
        let seconds = (self.latest.at - self.before.as_ref()?.at).as_secs_f64();
        (seconds > 0.0).then_some(seconds)
    }

    /// How far one can scroll.
    fn last(&self) -> usize {
        self.latest.sessions.len().saturating_sub(1)
    }
}

impl Sort {
    pub(super) const ALL: [Self; 4] = [Self::Age, Self::Bytes, Self::Speed, Self::Rtt];

    fn moved(self, steps: usize) -> Self {
        let place = Self::ALL.iter().position(|sort| *sort == self).unwrap_or_default();
        Self::ALL[(place + steps) % Self::ALL.len()]
    }
}

impl SessionLine<'_> {
    fn key(&self, sort: Sort) -> f64 {
        match sort {
            Sort::Age => self.session.row.age_ms as f64,
            Sort::Bytes => bytes(self.session) as f64,
            Sort::Speed => self.speed.unwrap_or(0.0),
            Sort::Rtt => self.session.row.peer_tcp.map_or(0.0, |tcp| tcp.rtt_ms),
        }
    }
}

/// A service's counters.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    live: u64,
    opened: u64,
    refused: u64,
    up: u64,
    down: u64,
}

impl Totals {
    fn of(look: &Look, service: &str) -> Self {
        let Some(counted) = look.status.counted.services.get(service) else { return Self::default() };
        let bytes = |direction: &str| {
            let of_it = counted.bytes.iter().filter(|(label, _)| label.starts_with(direction));
            of_it.map(|(_, bytes)| bytes).sum()
        };
        // A service has sessions or flows; the other is nought.
        Self {
            live: counted.active() + counted.flows_active(),
            opened: counted.opened + counted.flows_opened,
            refused: reasons(counted).map(|(_, times)| times).sum(),
            up: bytes("up/"),
            down: bytes("down/"),
        }
    }
}

fn reasons(counted: &ServiceSnapshot) -> impl Iterator<Item = (&str, u64)> {
    counted.refused.iter().chain(&counted.dropped).map(|(reason, times)| (reason.as_str(), *times))
}

const fn bytes(session: &NamedSession) -> u64 {
    session.row.bytes_up.saturating_add(session.row.bytes_down)
}

fn descending<T: PartialOrd>(one: T, other: T) -> Ordering {
    other.partial_cmp(&one).unwrap_or(Ordering::Equal)
}

/// Sessions that a page is.
const PAGE: usize = 10;

#[cfg(test)]
pub(super) mod tests;
