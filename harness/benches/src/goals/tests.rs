use super::*;
use crate::measured::Measured;
use crate::record::{About, SubjectRecord};

/// A record of one case with a line for each subject.
fn record(case: &str, lines: &[(&str, Measured)]) -> Record {
    let subjects = lines.iter().map(|(name, _)| SubjectRecord {
        name: (*name).to_owned(),
        version: String::new(),
        must_be_right: *name == OURS,
        commands: Vec::new(),
        files: Vec::new(),
    });
    let about = About { subjects: subjects.collect(), cases: vec![case.to_owned()], ..About::default() };
    let lines = lines.iter().map(|(name, line)| Measured {
        case: case.to_owned(),
        subject: (*name).to_owned(),
        ..line.clone()
    });
    Record { about, lines: lines.collect() }
}

fn line(rate: f64, cpu: f64, p99: f64) -> Measured {
    Measured { rate: Some(rate), gateway_cpu_per_unit: Some(cpu), p99_us: Some(p99), ..Measured::default() }
}

fn met(record: &Record, case: &str) -> Vec<Option<bool>> {
    let title = CASES.iter().find(|found| found.name == case).unwrap().title;
    let about = format!("{title}: ");
    verdicts(record).into_iter().filter(|one| one.goal.starts_with(&about)).map(|one| one.met).collect()
}

#[test]
fn the_best_peer_is_the_one_to_compare_with() {
    let lines = |ours| {
        [
            (DIRECT, line(20_000.0, 0.0, 5.0)),
            (OURS, ours),
            ("haproxy", line(9000.0, 1.2, 11.0)),
            ("nginx", line(8000.0, 1.0, 12.0)),
        ]
    };
    let of = |ours| met(&record("connections", &lines(ours)), "connections");
    assert_eq!(of(line(9500.0, 1.1, 10.0)), [Some(true), Some(true), Some(true)]);
    assert_eq!(of(line(9400.0, 1.11, 11.5)), [Some(false), Some(false), Some(false)]);
}

#[test]
fn goals_refer_to_direct_where_they_say_so() {
    let lines = |rate| [(DIRECT, line(100.0, 0.0, 5.0)), (OURS, line(rate, 6.0, 1.0))];
    assert_eq!(met(&record("udp-64", &lines(60.0)), "udp-64"), [Some(true), None, Some(true)]);
    assert_eq!(met(&record("udp-64", &lines(59.0)), "udp-64"), [Some(false), None, Some(true)]);
}

#[test]
fn memory_that_stays_misses_the_goal() {
    let idle = |after| Measured {
        rate: Some(1.4),
        sessions: 3000,
        operations: 3000.0,
        rss_before_kib: 5000,
        rss_kib: 13_000,
        rss_after_kib: after,
        descriptors_before: 10,
        descriptors: 6010,
        descriptors_after: 10,
        ..Measured::default()
    };
    let of = |after| met(&record("idle", &[(OURS, idle(after))]), "idle");
    assert_eq!(of(7048), [Some(true), Some(true), Some(true)]);
    assert_eq!(of(7049), [Some(true), Some(true), Some(false)]);
}

#[test]
fn what_was_not_measured_is_not_known() {
    let record = record("ping-pong-1", &[(OURS, line(1.0, 1.0, 1.0))]);
    assert!(verdicts(&record).iter().all(|verdict| verdict.met.is_none()));
}
