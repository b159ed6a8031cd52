use super::*;
use crate::exit::Exit;

const FIRST: Generation = Generation(1);
const SECOND: Generation = Generation(2);
const A: WorkerId = WorkerId(1);
const B: WorkerId = WorkerId(2);
const C: WorkerId = WorkerId(3);

fn failure() -> Failure {
    Failure::new(Exit::Software, "told to")
}

/// What is to be done, in short.
fn short(actions: Vec<Action>) -> Vec<String> {
    let words = actions.into_iter().map(|action| match action {
        Action::Tell(id, order) => format!("{order:?} {id}"),
        Action::Kill(id) => format!("kill {id}"),
        Action::Done(purpose, Generation(number), _) => format!("done {purpose:?} {number}"),
        Action::Failed(purpose, Generation(number), group, _) => {
            format!("failed {purpose:?} {number}.{group}")
        }
        Action::Lost(Generation(number), group, _) => format!("lost {number}.{group}"),
    });
    words.collect()
}

fn serving() -> Crew {
    let mut crew = Crew::default();
    crew.begin(Purpose::Start, FIRST, &[(A, 0)]);
    assert_eq!(short(crew.ready(A)), ["Serve 1", "done Start 1"]);
    crew
}

#[test]
fn nobody_serves_before_all_of_the_first_are_ready() {
    let mut crew = Crew::default();
    crew.begin(Purpose::Start, FIRST, &[(A, 0), (B, 1)]);
    assert_eq!(short(crew.ready(B)), [] as [&str; 0]);
    assert_eq!(short(crew.ready(A)), ["Serve 1", "Serve 2", "done Start 1"]);
}

#[test]
fn the_new_ones_serve_when_the_old_ones_do_not_accept_any_more() {
    let mut crew = serving();
    crew.begin(Purpose::Reload, SECOND, &[(B, 0)]);
    assert_eq!(short(crew.ready(B)), ["HandOver 1"]);
    assert_eq!(short(crew.handed_over(A)), ["Serve 2", "done Reload 2"]);
    assert_eq!(short(crew.ended(A, Ended::Exited(0), failure)), [] as [&str; 0]);
    assert!(!crew.has(FIRST) && crew.has(SECOND));
}

#[test]
fn an_old_one_that_dies_instead_of_handing_over_keeps_nobody_waiting() {
    let mut crew = serving();
    crew.begin(Purpose::Reload, SECOND, &[(B, 0)]);
    crew.ready(B);
    assert_eq!(short(crew.ended(A, Ended::Killed(9), failure)), ["Serve 2", "done Reload 2"]);
}

#[test]
fn a_reload_that_fails_leaves_the_old_ones_serving() {
    let mut crew = serving();
    crew.begin(Purpose::Reload, SECOND, &[(B, 0), (C, 1)]);
    crew.ready(B);
    assert_eq!(short(crew.failed(C, failure())), ["kill 3", "kill 2", "failed Reload 2.1"]);
    assert_eq!(short(crew.ended(C, Ended::Exited(78), failure)), [] as [&str; 0]);
    assert_eq!(short(crew.ended(B, Ended::Killed(9), failure)), [] as [&str; 0]);
    assert_eq!(crew.serving().map(|(id, _)| id).collect::<Vec<_>>(), [A]);
}

#[test]
fn one_that_serves_and_dies_is_lost_and_another_takes_its_group() {
    let mut crew = serving();
    assert_eq!(short(crew.ended(A, Ended::Killed(9), failure)), ["lost 1.0"]);
    crew.begin(Purpose::Restart, FIRST, &[(B, 0)]);
    assert_eq!(short(crew.ready(B)), ["Serve 2", "done Restart 1"]);
}

#[test]
fn a_reload_makes_a_restart_of_the_old_superfluous() {
    let mut crew = serving();
    crew.ended(A, Ended::Killed(9), failure);
    crew.begin(Purpose::Restart, FIRST, &[(B, 0)]);
    crew.begin(Purpose::Reload, SECOND, &[(C, 0)]);
    assert_eq!(short(crew.ready(C)), ["kill 2", "Serve 3", "done Reload 2"]);
    assert_eq!(short(crew.ended(B, Ended::Killed(9), failure)), [] as [&str; 0]);
}

#[test]
fn one_of_many_groups_is_followed_and_the_others_do_not_notice() {
    let mut crew = Crew::default();
    crew.begin(Purpose::Start, FIRST, &[(A, 0), (B, 1)]);
    crew.ready(A);
    crew.ready(B);
    crew.begin(Purpose::Follow, FIRST, &[(C, 1)]);
    assert_eq!(short(crew.ready(C)), ["HandOver 2"]);
    assert_eq!(short(crew.handed_over(B)), ["Serve 3", "done Follow 1"]);
    assert_eq!(crew.serving().map(|(id, _)| id).collect::<Vec<_>>(), [A, C]);
}

#[test]
fn one_that_dies_between_ready_and_its_turn_is_started_again() {
    let mut crew = serving();
    crew.begin(Purpose::Reload, SECOND, &[(B, 0), (C, 1)]);
    crew.ready(B);
    crew.ready(C);
    assert_eq!(short(crew.ended(C, Ended::Killed(9), failure)), ["failed Restart 2.1"]);
    assert_eq!(short(crew.handed_over(A)), ["Serve 2", "done Reload 2"]);
}

#[test]
fn at_the_end_those_who_serve_drain_and_those_who_prepare_are_ended() {
    let mut crew = serving();
    crew.begin(Purpose::Reload, SECOND, &[(B, 0)]);
    assert_eq!(short(crew.drain()), ["Drain 1", "kill 2"]);
    crew.ended(B, Ended::Killed(9), failure);
    assert!(!crew.is_empty());
    assert_eq!(short(crew.ended(A, Ended::Exited(0), failure)), [] as [&str; 0]);
    assert!(crew.is_empty());
}
