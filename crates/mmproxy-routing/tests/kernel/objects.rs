//! What is installed, what is recognised, and what is left alone.

use mmproxy_routing::{
    Families, InUse, KeptReason, Outcome, Owner, Plan, Question, Settings, State as Found, Step, apply, diff,
    lookup, observe, remove,
};

use crate::namespace::{alone, ip, run, sysctl, sysctl_value};
use crate::state::{State, assert_same};

fn plan() -> Plan {
    Plan::fwmark(Settings::default(), Families::BOTH)
}

async fn outcomes(plan: &Plan) -> Vec<Outcome> {
    apply(plan).await.unwrap().into_iter().map(|applied| applied.outcome).collect()
}

async fn owners(plan: &Plan) -> Vec<Owner> {
    let found = observe(plan).await.unwrap();
    found
        .into_iter()
        .map(|observed| match observed.state {
            Found::Present(owner) => owner,
            state @ (Found::Missing | Found::Different { .. }) => panic!("{}: {state:?}", observed.step),
        })
        .collect()
}

fn type_all(plan: &Plan) {
    for step in plan.steps() {
        let command = step.to_string();
        let (program, arguments) = command.split_once(' ').unwrap();
        run(program, arguments);
    }
}

#[test]
fn setup_twice_then_teardown_leaves_no_trace() {
    alone("objects::setup_twice_then_teardown_leaves_no_trace", || async {
        for families in [Families::BOTH, Families::V4, Families::V6] {
            let plan = Plan::fwmark(Settings::default(), families);
            let before = State::now();
            assert!(outcomes(&plan).await.iter().all(|outcome| *outcome == Outcome::Added));
            let once = State::now();
            assert_ne!(once, before);
            assert!(outcomes(&plan).await.iter().all(|outcome| *outcome == Outcome::Verified));
            assert_same(&State::now(), &once, "the second setup");
            assert!(owners(&plan).await.iter().all(|owner| *owner == Owner::Permanent));

            let removal = remove(&plan, InUse::Keep).await.unwrap();
            assert_eq!(removal.removed.len(), plan.steps().len(), "{removal:?}");
            assert_eq!(removal.kept, []);
            assert_same(&State::now(), &before, "teardown");
            assert_eq!(remove(&plan, InUse::Keep).await.unwrap().removed, [], "nothing is left to remove");
        }
    });
}

#[test]
fn one_family_leaves_the_other_alone() {
    alone("objects::one_family_leaves_the_other_alone", || async {
        apply(&Plan::fwmark(Settings::default(), Families::V4)).await.unwrap();
        assert!(!ip("-6 rule").contains("0x7b"));
        assert_eq!(sysctl_value("net.ipv6.fwmark_reflect"), 0);
        remove(&Plan::fwmark(Settings::default(), Families::V4), InUse::Keep).await.unwrap();

        apply(&Plan::fwmark(Settings::default(), Families::V6)).await.unwrap();
        assert!(!ip("-4 rule").contains("0x7b"));
        assert!(ip("-6 rule").contains("fwmark 0x7b lookup 100"));
        assert_eq!(sysctl_value("net.ipv4.fwmark_reflect"), 0);
        assert_eq!(sysctl_value("net.ipv4.tcp_fwmark_accept"), 1, "the switch is for both families");
    });
}

/// Commands that are printed are commands that work, and what they make counts as present.
#[test]
fn what_an_operator_types_is_verified_and_never_removed() {
    alone("objects::what_an_operator_types_is_verified_and_never_removed", || async {
        let clean = State::now();
        type_all(&plan());
        let by_hand = State::now();
        assert!(owners(&plan()).await.iter().all(|owner| *owner == Owner::Foreign));
        assert!(outcomes(&plan()).await.iter().all(|outcome| *outcome == Outcome::Verified));
        assert_same(&State::now(), &by_hand, "setup");

        let removal = remove(&plan(), InUse::Remove).await.unwrap();
        assert_eq!(removal.removed, []);
        assert!(removal.kept.iter().all(|kept| kept.reason == KeptReason::Foreign), "{removal:?}");
        assert_eq!(removal.kept.len(), plan().steps().len());
        assert_same(&State::now(), &by_hand, "teardown");

        for step in plan().steps().iter().rev() {
            let command = step.undo().to_string();
            let (program, arguments) = command.split_once(' ').unwrap();
            run(program, arguments);
        }
        assert_same(&State::now(), &clean, "the undo commands");
    });
}

#[test]
fn rules_by_hand_count_when_they_do_the_job() {
    alone("objects::rules_by_hand_count_when_they_do_the_job", || async {
        let plan = Plan::fwmark(Settings::default(), Families::V4);
        let rule = plan.steps().iter().find(|step| matches!(step, Step::Rule(_))).unwrap().clone();
        for (typed, serves) in [
            ("fwmark 123 lookup 100", true),
            ("fwmark 0x7b/0xff lookup 100 priority 50", true),
            ("iif lo fwmark 0x7b lookup 100", false),
            ("fwmark 123 lookup 1000", false),
            ("fwmark 124 lookup 100", false),
            ("fwmark 123 from 10.0.0.0/8 lookup 100", false),
            ("fwmark 123 ipproto udp lookup 100", false),
            ("not fwmark 124 lookup 100", false),
        ] {
            ip(&format!("rule add {typed}"));
            let found = observe(&plan).await.unwrap();
            let state = &found.iter().find(|observed| observed.step == rule).unwrap().state;
            assert_eq!(*state == Found::Present(Owner::Foreign), serves, "{typed}: {state:?}");
            ip(&format!("rule del {typed}"));
        }
    });
}

#[test]
fn only_what_is_missing_is_added_and_only_that_is_removed() {
    alone("objects::only_what_is_missing_is_added_and_only_that_is_removed", || async {
        let steps = plan().steps().to_vec();
        for subset in 0..1_u32 << steps.len() {
            // Every third subset is enough to see each step both ways beside each other, in a third of the time.
            if subset % 3 != 0 {
                continue;
            }
            let typed: Vec<&Step> = steps
                .iter()
                .enumerate()
                .filter(|(bit, _)| subset & 1 << bit != 0)
                .map(|(_, step)| step)
                .collect();
            for step in &typed {
                let command = step.to_string();
                let (program, arguments) = command.split_once(' ').unwrap();
                run(program, arguments);
            }
            let before = State::now();
            let observed = observe(&plan()).await.unwrap();
            assert_eq!(diff(&observed).count(), steps.len() - typed.len());
            for (step, outcome) in steps.iter().zip(outcomes(&plan()).await) {
                let expected = if typed.contains(&step) { Outcome::Verified } else { Outcome::Added };
                assert_eq!(outcome, expected, "{step}, typed: {typed:?}");
            }
            remove(&plan(), InUse::Keep).await.unwrap();
            assert_same(&State::now(), &before, "setup and teardown beside what was typed");
            for step in typed.iter().rev() {
                let command = step.undo().to_string();
                let (program, arguments) = command.split_once(' ').unwrap();
                run(program, arguments);
            }
        }
    });
}

#[test]
fn rules_never_accumulate() {
    alone("objects::rules_never_accumulate", || async {
        let before = State::now().objects();
        for _ in 0..5 {
            apply(&plan()).await.unwrap();
            assert_eq!(State::now().objects(), before + 4);
        }
    });
}

#[test]
fn a_switch_that_was_on_stays_on() {
    alone("objects::a_switch_that_was_on_stays_on", || async {
        for (name, value) in [
            ("net.ipv4.tcp_fwmark_accept", 1),
            ("net.ipv4.fwmark_reflect", 2),
            ("net.ipv6.fwmark_reflect", 255),
        ] {
            sysctl(name, value);
            let before = State::now();
            apply(&plan()).await.unwrap();
            assert_eq!(sysctl_value(name), value);
            remove(&plan(), InUse::Keep).await.unwrap();
            assert_same(&State::now(), &before, name);
        }
    });
}

#[test]
fn a_switch_that_somebody_set_since_is_theirs() {
    alone("objects::a_switch_that_somebody_set_since_is_theirs", || async {
        apply(&plan()).await.unwrap();
        sysctl("net.ipv4.fwmark_reflect", 2);
        remove(&plan(), InUse::Keep).await.unwrap();
        assert_eq!(sysctl_value("net.ipv4.fwmark_reflect"), 2);
        assert_eq!(sysctl_value("net.ipv4.tcp_fwmark_accept"), 0);
    });
}

#[test]
fn two_setups_are_torn_down_one_by_one() {
    alone("objects::two_setups_are_torn_down_one_by_one", || async {
        let other_table = Plan::fwmark(
            Settings { mark: "7".parse().unwrap(), table: "300".parse().unwrap(), ..Settings::default() },
            Families::BOTH,
        );
        let same_table =
            Plan::fwmark(Settings { mark: "7".parse().unwrap(), ..Settings::default() }, Families::BOTH);
        for other in [other_table, same_table] {
            for (first, second) in [(plan(), other.clone()), (other, plan())] {
                let before = State::now();
                apply(&plan()).await.unwrap();
                apply(&first).await.unwrap();
                apply(&second).await.unwrap();
                remove(&first, InUse::Keep).await.unwrap();
                assert!(owners(&second).await.iter().all(|owner| *owner == Owner::Permanent));
                remove(&second, InUse::Keep).await.unwrap();
                assert_same(&State::now(), &before, "both torn down");
            }
        }
    });
}

#[test]
fn foreign_objects_in_our_way_of_speaking_are_left_alone() {
    alone("objects::foreign_objects_in_our_way_of_speaking_are_left_alone", || async {
        // Somebody else's choice of the same maker's number does not make things ours.
        ip("rule add from 10.0.0.0/8 lookup 77 priority 900 protocol 109");
        ip("route add local 10.7.0.0/16 dev lo table 77 proto 109");
        ip("route add blackhole 10.6.0.0/16 table 77 proto 77");
        ip("-6 route add local default dev lo table 78 proto 109 metric 5");
        let before = State::now();
        apply(&plan()).await.unwrap();
        remove(&plan(), InUse::Remove).await.unwrap();
        assert_same(&State::now(), &before, "setup and teardown");
    });
}

#[test]
fn the_kernel_is_asked_what_it_would_do() {
    alone("objects::the_kernel_is_asked_what_it_would_do", || async {
        let client = "192.0.2.1".parse().unwrap();
        let ask = async |question: Question| lookup(&question).await.unwrap();
        assert_eq!(ask(Question::to(client)).await, None, "no route at all");
        assert!(ask(Question::to("127.0.0.1".parse().unwrap())).await.unwrap().is_local());
        assert!(ask(Question::to("::1".parse().unwrap())).await.unwrap().is_local());

        ip("link add east type veth peer name west");
        ip("link set west up");
        ip("link set east up");
        ip("addr add 10.8.0.1/24 dev east");
        ip("route add default via 10.8.0.2");
        let route = ask(Question::to(client)).await.unwrap();
        assert!(!route.is_local());
        assert_eq!(route.device.as_deref(), Some("east"));
        assert_eq!(route.gateway, Some("10.8.0.2".parse().unwrap()));
        assert_eq!(route.table, 254);
        assert_eq!(route.preferred_source, Some("10.8.0.1".parse().unwrap()));

        apply(&plan()).await.unwrap();
        let mut marked = Question::to(client);
        marked.mark = Some(Settings::default().mark);
        marked.source = Some("127.0.0.1".parse().unwrap());
        let route = ask(marked).await.unwrap();
        assert!(route.is_local());
        assert_eq!(route.table, 100);
        assert!(!ask(Question::to(client)).await.unwrap().is_local(), "without the mark");

        ip("route add blackhole 203.0.113.0/24");
        assert_eq!(ask(Question::to("203.0.113.1".parse().unwrap())).await, None);

        let mut arriving = Question::to("10.8.0.1".parse().unwrap());
        arriving.source = Some("10.8.0.2".parse().unwrap());
        arriving.input = Some("east".to_owned());
        assert!(ask(arriving.clone()).await.unwrap().is_local());
        arriving.input = Some("nowhere".to_owned());
        assert!(lookup(&arriving).await.unwrap_err().to_string().contains("nowhere"));
    });
}

#[test]
fn a_host_with_ten_thousand_rules_and_routes_is_no_trouble() {
    alone("objects::a_host_with_ten_thousand_rules_and_routes_is_no_trouble", || async {
        const MANY: u32 = 10_000;
        let address = |n: u32| format!("10.{}.{}.{}", n >> 16, n >> 8 & 0xff, n & 0xff);
        let batch = |family: &str, line: &dyn Fn(u32) -> String| {
            let lines: String = (0..MANY).map(|n| line(n) + "\n").collect();
            crate::namespace::ip_batch(family, &lines);
        };
        batch("-4", &|n| format!("rule add from {} lookup 400 priority {}", address(n), 1000 + n));
        batch("-4", &|n| format!("route add local {} dev lo table 400", address(n)));
        batch("-6", &|n| format!("rule add from fd00::{n:x} lookup 400 priority {}", 1000 + n));
        batch("-6", &|n| format!("route add local fd00::{n:x} dev lo table 400"));
        let before = State::now();
        assert!(before.objects() > 4 * MANY as usize);

        for round in 0..3 {
            let started = std::time::Instant::now();
            apply(&plan()).await.unwrap();
            let set_up = started.elapsed();
            let found = observe(&plan()).await.unwrap();
            let looked = started.elapsed() - set_up;
            assert!(found.iter().all(|observed| observed.state == Found::Present(Owner::Permanent)));
            println!("round {round}: setup {set_up:?}, look {looked:?}");
            assert!(set_up < DEADLINE && looked < DEADLINE, "setup {set_up:?}, look {looked:?}");
        }
        assert_eq!(State::now().objects(), before.objects() + 4, "nothing accumulates");
        remove(&plan(), InUse::Keep).await.unwrap();
        assert_same(&State::now(), &before, "teardown");
    });
}

/// Generous: an unoptimised build on a machine with other things to do.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);
