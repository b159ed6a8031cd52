//! Rates, sums and order.

use super::*;
use crate::exit::Exit;
use crate::metrics::Snapshot;
use std::time::{Duration, Instant};

/// A look at one service, `seconds` after `start`.
pub(in super::super) fn look(start: Instant, seconds: u64, opened: u64, refused: u64, up: u64) -> Look {
    let counted = ServiceSnapshot {
        opened,
        closed: BTreeMap::from([("header_missing".to_owned(), refused)]),
        refused: BTreeMap::from([("header_missing".to_owned(), refused), ("no_target".to_owned(), 0)]),
        bytes: BTreeMap::from([("up/copy".to_owned(), up), ("down/splice".to_owned(), 5 * up)]),
        targets: BTreeMap::from([("127.0.0.1:22".to_owned(), true)]),
        ..ServiceSnapshot::default()
    };
    let counted = Snapshot {
        services: BTreeMap::from([("ssh".to_owned(), counted)]),
        return_path: BTreeMap::from([("host".to_owned(), true), ("docker:web".to_owned(), false)]),
        ..Snapshot::default()
    };
    let service = ServiceStatus {
        name: "ssh".to_owned(),
        protocol: "tcp".to_owned(),
        listen: vec!["0.0.0.0:2222".to_owned()],
        targets: vec!["127.0.0.1:22".to_owned()],
    };
    let status = Status {
        version: "0.1.0".to_owned(),
        pid: 7,
        uptime_s: seconds,
        services: vec![service],
        workers: vec![crate::control::WorkerStatus { worker: 1, pid: 8, state: "serving".to_owned() }],
        counted,
    };
    let sessions =
        vec![session(1, 9_000, up, 30.0), session(2, 80_000, 2 * up + 1, 10.0), session(3, 700, 3, 20.0)];
    Look { at: start + Duration::from_secs(seconds), status, sessions }
}

fn session(id: u64, age_ms: u64, bytes_up: u64, rtt_ms: f64) -> NamedSession {
    let row = serde_json::from_value(serde_json::json!({
        "service": "ssh", "id": id, "peer": "10.0.0.2:40112", "state": "relay",
        "client": format!("192.0.2.{id}:4711"), "target": "127.0.0.1:22",
        "age_ms": age_ms, "bytes_up": bytes_up, "bytes_down": 0,
        "peer_tcp": {
            "rtt_ms": rtt_ms, "retransmits": 0, "unacknowledged": 0, "congestion_window": 10, "silent_ms": 5,
        },
    }));
    let row = row.unwrap();
    NamedSession { session: SessionName { worker: 1, id }, row }
}

fn order(model: &Model) -> Vec<u64> {
    model.sessions().iter().map(|line| line.session.session.id).collect()
}

#[test]
fn rates_are_what_changed_between_two_looks_and_unknown_before() {
    let start = Instant::now();
    let mut model = Model::new(look(start, 0, 10, 2, 1000));
    assert_eq!(model.services()[0].opened, Count { total: 10, rate: None });
    model.note(Ok(look(start, 2, 15, 6, 5000)));
    let service = &model.services()[0];
    assert_eq!(service.opened, Count { total: 15, rate: Some(2.5) });
    assert_eq!(service.refused, Count { total: 6, rate: Some(2.0) });
    assert_eq!((service.up.rate, service.down.rate), (Some(2000.0), Some(10_000.0)));
    assert_eq!((service.live, model.live()), (9, 9));
    let [refusal] = &model.refusals()[..] else { panic!("one reason occurred") };
    assert_eq!((refusal.reason, refusal.times.rate), ("header_missing", Some(2.0)));
    let speeds: Vec<_> = model.sessions().iter().map(|line| line.speed).collect();
    // By bytes: 2, 1, and 3, which moved nothing.
    assert_eq!(speeds, [Some(4000.0), Some(2000.0), Some(0.0)]);
}

#[test]
fn another_process_has_no_rates_before_its_second_look() {
    let start = Instant::now();
    let mut model = Model::new(look(start, 0, 10, 2, 1000));
    let mut other = look(start, 1, 1, 0, 0);
    other.status.pid += 1;
    model.note(Ok(other));
    assert_eq!(model.services()[0].opened, Count { total: 1, rate: None });
}

#[test]
fn a_session_that_was_not_listed_has_a_speed_only_if_it_began_since() {
    let start = Instant::now();
    let mut first = look(start, 0, 3, 0, 100);
    first.sessions.clear();
    let mut model = Model::new(first);
    model.note(Ok(look(start, 1, 3, 0, 100)));
    for line in model.sessions() {
        let young = line.session.session.id == 3;
        assert_eq!(line.speed, young.then_some(3.0), "{line:?}");
    }
}

#[test]
fn sessions_are_in_the_order_asked_for() {
    let mut model = Model::new(look(Instant::now(), 0, 3, 0, 100));
    for (key, wanted) in [
        (Key::SortBy(Sort::Bytes), [2, 1, 3]),
        (Key::SortBy(Sort::Age), [2, 1, 3]),
        (Key::SortBy(Sort::Rtt), [1, 3, 2]),
        (Key::Invert, [2, 3, 1]),
        // Behind the last comes the first.
        (Key::Right, [3, 1, 2]),
        (Key::Left, [2, 3, 1]),
    ] {
        assert_eq!(model.press(key), Wanted::More);
        assert_eq!(order(&model), wanted, "{key:?}");
    }
    assert_eq!(model.press(Key::Quit), Wanted::End);
}

#[test]
fn scrolling_ends_at_the_last_session_also_when_there_are_fewer() {
    let start = Instant::now();
    let mut model = Model::new(look(start, 0, 3, 0, 100));
    for (key, first) in [(Key::PageDown, 3), (Key::Up, 1), (Key::Home, 2), (Key::End, 3)] {
        assert_eq!(model.press(key), Wanted::More);
        assert_eq!(order(&model)[0], first, "{key:?}");
    }
    let mut fewer = look(start, 1, 3, 0, 100);
    fewer.sessions.truncate(1);
    model.note(Ok(fewer));
    assert_eq!(order(&model), [1]);
}

#[test]
fn a_failure_is_told_until_there_is_a_look_again_and_what_was_seen_stays() {
    let start = Instant::now();
    let mut model = Model::new(look(start, 0, 3, 0, 100));
    model.note(Err(Failure::new(Exit::Unavailable, "nobody answers")));
    assert_eq!((model.complaint(), model.live()), (Some("nobody answers"), 3));
    model.note(Ok(look(start, 1, 3, 0, 100)));
    assert_eq!(model.complaint(), None);
}
