//! The status page: one document that needs nothing beside it, neither script nor picture nor font.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::chart;
use super::history::{History, KEPT, Rates};
use super::rows::TcpRow;
use crate::control::NamedSession;
use crate::metrics::{ServiceSnapshot, Snapshot};

/// Sessions that are shown.
pub(super) const SESSIONS: usize = 100;

/// What the browser may do with the page: apply this one style sheet. The hash is that of `page.css`; `ci/status-page.sh`
/// compares the two.
pub(super) const POLICY: &str = concat!(
    "default-src 'none'; style-src 'sha256-",
    include_str!("page.css.sha256"),
    "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
);

const STYLE: &str = include_str!("page.css");

/// The page as it is now.
pub(super) fn render(snapshot: &Snapshot, sessions: &[NamedSession], history: &History) -> Markup {
    let checks = snapshot.checks();
    let ready = checks.iter().all(|check| check.holds);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="refresh" content="5";
                title { "mmproxy" @if !ready { " – not ready" } }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "mmproxy " small { (env!("CARGO_PKG_VERSION")) } }
                    p id="state" class=(if ready { "good" } else { "bad" }) {
                        @if ready { "ready" } @else { "not ready" }
                    }
                    p class="totals" { (totals(snapshot)) }
                }
                main {
                    @if !checks.is_empty() {
                        section {
                            h2 { "Health" }
                            ul class="checks" {
                                @for check in &checks {
                                    li class=(if check.holds { "good" } else { "bad" }) {
                                        @if !check.holds { b { "not so: " } }
                                        (check.what)
                                    }
                                }
                            }
                        }
                    }
                    @for (name, service) in &snapshot.services {
                        (one_service(name, service, &history.of(name)))
                    }
                    (live(sessions))
                    (processes(snapshot))
                }
                footer {
                    p {
                        "Reloads itself every 5 seconds. Charts show the last " (KEPT * 5 / 60) " minutes. For tools: "
                        a href="/metrics" { "metrics" } ", " a href="/healthz" { "healthz" } ", "
                        a href="/readyz" { "readyz" } "."
                    }
                }
            }
        }
    }
}

fn totals(snapshot: &Snapshot) -> Markup {
    let services = || snapshot.services.values();
    let active: u64 = services().map(|service| service.active() + service.flows_active()).sum();
    let opened: u64 = services().map(|service| service.opened + service.flows_opened).sum();
    let started = snapshot.processes.values().map(|process| process.started).min();
    html! {
        b { (count(active)) } " active, " b { (count(opened)) } " since the start"
        @if let Some(started) = started { ", up for " b { (duration(now().saturating_sub(started) * 1000)) } }
    }
}

fn one_service(name: &str, service: &ServiceSnapshot, rates: &[Rates]) -> Markup {
    let line = |of: fn(&Rates) -> f64| rates.iter().map(of).collect::<Vec<_>>();
    let per_second = |rate: f64| format!("{}/s", short(rate));
    let bits = |rate: f64| format!("{}bit/s", metric(rate * 8.0));
    html! {
        section class="service" {
            h2 { (name) }
            div class="charts" {
                (chart("active", &line(|rates| rates.active), short))
                (chart("opened", &line(|rates| rates.opened), per_second))
                (chart("refused", &line(|rates| rates.refused), per_second))
                (chart("to the target", &line(|rates| rates.bytes_up), bits))
                (chart("to the balancer", &line(|rates| rates.bytes_down), bits))
            }
            div class="columns" {
                (reasons("Never reached the target", &service.refused))
                (reasons("Ended", &service.closed))
                @if service.flows_opened > 0 { (reasons("Flows ended", &service.flows_closed)) }
                (reasons("Datagrams dropped", &service.dropped))
                (reasons("Client ports not kept", &service.port_fallbacks))
                @if service.dial_time.count() > 0 { (times(service)) }
            }
        }
    }
}

/// Counts that are not 0, the largest first, each with a bar.
fn reasons(title: &str, counts: &BTreeMap<String, u64>) -> Markup {
    let mut told: Vec<_> = counts.iter().filter(|(_, count)| **count > 0).collect();
    told.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), reason.as_str()));
    let most = told.first().map_or(1, |(_, count)| **count);
    html! {
        @if !told.is_empty() {
            div {
                h3 { (title) }
                table {
                    @for (reason, number) in told {
                        tr {
                            td { (reason) }
                            td class="number" { (count(*number)) }
                            td class="bar" {
                                svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" {
                                    rect height="10" width=(format!("{:.1}", *number as f64 / most as f64 * 100.0)) {}
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn times(service: &ServiceSnapshot) -> Markup {
    let below = |seconds: Option<f64>| {
        seconds.map_or_else(|| "more than 5 s".to_owned(), |it| format!("≤ {} ms", it * 1000.0))
    };
    html! {
        div {
            h3 { "How long" }
            table {
                tr { th {} th class="number" { "median" } th class="number" { "99 %" } }
                @for (step, times) in [
                    ("header", &service.header_time),
                    ("dial", &service.dial_time),
                    ("first byte", &service.first_byte_time),
                ] {
                    @if times.count() > 0 {
                        tr {
                            td { (step) }
                            td class="number" { (below(times.quantile(0.5))) }
                            td class="number" { (below(times.quantile(0.99))) }
                        }
                    }
                }
            }
        }
    }
}

fn live(sessions: &[NamedSession]) -> Markup {
    let rtt = |tcp: Option<&TcpRow>| tcp.map_or(String::new(), |tcp| format!("{:.1}", tcp.rtt_ms));
    html! {
        section {
            h2 { "Live sessions" }
            @if sessions.is_empty() {
                p class="none" { "None." }
            } @else {
                div class="wide" {
                    table id="sessions" {
                        thead {
                            tr {
                                th class="number" { "session" } th { "service" } th { "client" } th { "target" } th { "balancer" }
                                th { "state" } th class="number" { "age" } th class="number" { "up" }
                                th class="number" { "down" }
                                th class="number" { "rtt ms" } th class="number" { "sent again" }
                            }
                        }
                        tbody {
                            @for NamedSession { session: name, row: session } in sessions.iter().take(SESSIONS) {
                                tr {
                                    td class="number" { (name) }
                                    td { (session.service) }
                                    td { (session.client.as_deref().unwrap_or("–")) }
                                    td { (session.target.as_deref().unwrap_or("–")) }
                                    td { (session.peer) }
                                    td { (session.state) }
                                    td class="number" { (duration(session.age_ms)) }
                                    td class="number" { (bytes(session.bytes_up)) }
                                    td class="number" { (bytes(session.bytes_down)) }
                                    td class="number" { (rtt(session.peer_tcp.as_ref())) }
                                    td class="number" {
                                        @if let Some(tcp) = &session.peer_tcp { (tcp.retransmits) }
                                    }
                                }
                            }
                        }
                    }
                }
                @if sessions.len() > SESSIONS {
                    p class="none" { "More live than the " (SESSIONS) " that are shown." }
                }
            }
        }
    }
}

fn processes(snapshot: &Snapshot) -> Markup {
    html! {
        @if !snapshot.processes.is_empty() {
            section {
                h2 { "Processes" }
                table {
                    tr {
                        th { "name" } th class="number" { "descriptors" } th class="number" { "of" }
                        th class="number" { "up for" }
                    }
                    @for (name, process) in &snapshot.processes {
                        tr {
                            td { (name) }
                            td class="number" { @if let Some(used) = process.descriptors { (count(used)) } }
                            td class="number" { (count(process.descriptor_limit)) }
                            td class="number" { (duration(now().saturating_sub(process.started) * 1000)) }
                        }
                    }
                }
                p class="none" {
                    (snapshot.threads) " threads serve"
                    @if snapshot.worker_restarts > 0 { ", " (snapshot.worker_restarts) " workers were restarted" }
                    "."
                }
            }
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A whole number in groups of three digits.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join("\u{202f}")
}

fn short(number: f64) -> String {
    if number >= 10_000.0 {
        metric(number)
    } else if number >= 10.0 || number.fract() == 0.0 {
        format!("{number:.0}")
    } else {
        format!("{number:.1}")
    }
}

/// With a decimal prefix and a space before it.
fn metric(number: f64) -> String {
    let (mut number, mut prefix) = (number, "");
    for next in ["k", "M", "G", "T"] {
        if number < 1000.0 {
            break;
        }
        (number, prefix) = (number / 1000.0, next);
    }
    if number >= 100.0 { format!("{number:.0} {prefix}") } else { format!("{number:.1} {prefix}") }
}

fn bytes(number: u64) -> String {
    format!("{}B", metric(number as f64))
}

fn duration(millis: u64) -> String {
    match millis / 1000 {
        0 => format!("{millis} ms"),
        seconds @ 1..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds @ 3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        seconds => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::SessionRow;
    use crate::control::SessionName;
    use proptest::prelude::*;

    fn session(text: &str) -> NamedSession {
        let row = SessionRow {
            service: text.to_owned(),
            id: 7,
            peer: text.to_owned(),
            client: Some(text.to_owned()),
            bound: None,
            target: Some(text.to_owned()),
            state: text.to_owned(),
            age_ms: 61_000,
            bytes_up: 1,
            bytes_down: 12_345_678,
            peer_tcp: None,
            target_tcp: None,
        };
        NamedSession { session: SessionName { worker: 3, id: 7 }, row }
    }

    fn page(text: &str) -> String {
        let service = ServiceSnapshot {
            refused: BTreeMap::from([(text.to_owned(), 1)]),
            targets: BTreeMap::from([(text.to_owned(), false)]),
            ..ServiceSnapshot::default()
        };
        let mut snapshot =
            Snapshot { services: BTreeMap::from([(text.to_owned(), service)]), ..Snapshot::default() };
        snapshot.return_path.insert(text.to_owned(), true);
        render(&snapshot, &[session(text)], &History::default()).into_string()
    }

    proptest! {
        /// Whatever stands in a name or an address: the page has the same elements, and no more.
        #[test]
        fn no_text_becomes_markup(text in r#"[<>&"'a-z/=!-]{0,40}"#) {
            let tags = |page: &str| page.matches('<').count();
            let plain = page("x");
            prop_assert_eq!(tags(&page(&text)), tags(&plain), "{}", text);
            prop_assert_eq!(page(&text).matches('"').count(), plain.matches('"').count());
        }
    }

    #[test]
    fn numbers_are_short_and_have_units() {
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!((bytes(999), bytes(12_345_678)), ("999 B".to_owned(), "12.3 MB".to_owned()));
        assert_eq!(
            (short(0.25), short(6.0), short(12_500.0)),
            ("0.2".to_owned(), "6".to_owned(), "12.5 k".to_owned())
        );
        assert_eq!((duration(999), duration(61_000)), ("999 ms".to_owned(), "1 min 1 s".to_owned()));
        assert_eq!(duration(90_061_000), "1 d 1 h");
    }

    #[test]
    fn more_sessions_than_are_shown_are_mentioned() {
        let many = vec![session("x"); SESSIONS + 1];
        let page = render(&Snapshot::default(), &many, &History::default()).into_string();
        assert_eq!(page.matches("<td class=\"number\">7</td>").count(), SESSIONS);
        assert!(page.contains("More live than the 100 that are shown."));
    }
}
