//! Instances that start, stop and are killed beside each other.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use mmproxy_routing::{
    Families, InUse, KeptReason, Lease, Outcome, Owner, Plan, Policy, RoutingError, Settings, State as Found,
    apply, observe, remove,
};

use crate::instance::Instance;
use crate::namespace::{alone, ip, run, sysctl, sysctl_value};
use crate::spoof::arrives;
use crate::state::{State, assert_same};

fn plan(mark: u32, table: u32, families: Families) -> Plan {
    let settings = Settings {
        mark: mark.to_string().parse().unwrap(),
        table: table.to_string().parse().unwrap(),
        ..Settings::default()
    };
    Plan::fwmark(settings, families)
}

fn usual() -> Plan {
    plan(123, 100, Families::BOTH)
}

fn other() -> Plan {
    plan(7, 300, Families::BOTH)
}

fn works(plan: &Plan) -> bool {
    let mark = plan.settings().mark.get();
    let v4 = !plan.families().v4 || arrives("127.0.0.1", "127.0.0.1", "192.0.2.1", mark).is_ok();
    v4 && (!plan.families().v6 || arrives("::1", "::1", "2001:db8::1", mark).is_ok())
}

async fn install(plan: &Plan) -> Lease {
    let lease = Lease::acquire(plan.clone(), Policy::Install).await.unwrap();
    assert!(works(plan));
    lease
}

#[test]
fn a_lease_adds_what_is_missing_and_takes_it_away_again() {
    alone("lease::a_lease_adds_what_is_missing_and_takes_it_away_again", || async {
        let before = State::now();
        let lease = install(&usual()).await;
        assert!(lease.applied().iter().all(|applied| applied.outcome == Outcome::Added));
        assert!(observe(&usual()).await.unwrap().iter().all(|o| o.state == Found::Present(Owner::Leased)));
        let removal = lease.release().await.unwrap();
        assert_eq!(removal.removed.len(), usual().steps().len());
        assert_eq!(removal.kept, []);
        assert_same(&State::now(), &before, "release");
    });
}

#[test]
fn two_instances_in_every_order_of_stopping() {
    alone("lease::two_instances_in_every_order_of_stopping", || async {
        let pairs = [
            (usual(), usual()),
            (usual(), other()),
            (usual(), plan(7, 100, Families::BOTH)),
            (usual(), plan(123, 100, Families::V4)),
            (usual(), plan(123, 100, Families::V6)),
            (plan(123, 100, Families::V4), plan(123, 100, Families::V6)),
            (plan(1, 300, Families::V4), plan(2, 301, Families::V6)),
        ];
        for (one, two) in pairs.iter().flat_map(|(one, two)| [(one, two), (two, one)]) {
            for first_stops_first in [true, false] {
                let before = State::now();
                let (first, second) = (install(one).await, install(two).await);
                let (stops, stays, plan) =
                    if first_stops_first { (first, second, two) } else { (second, first, one) };
                stops.release().await.unwrap();
                assert!(works(plan), "{one}and\n{two}{first_stops_first}");
                assert!(
                    observe(plan).await.unwrap().iter().all(|o| o.state == Found::Present(Owner::Leased))
                );
                stays.release().await.unwrap();
                assert_same(&State::now(), &before, "both stopped");
            }
        }
    });
}

/// What only the stopped instance needed goes at once, not when the last one stops.
#[test]
fn what_the_others_do_not_need_goes_at_once() {
    alone("lease::what_the_others_do_not_need_goes_at_once", || async {
        let v4 = install(&plan(123, 100, Families::V4)).await;
        let only_v4 = State::now();
        let both = install(&usual()).await;
        both.release().await.unwrap();
        assert_same(&State::now(), &only_v4, "the other family");
        v4.release().await.unwrap();

        let both = install(&usual()).await;
        let v4 = install(&plan(123, 100, Families::V4)).await;
        both.release().await.unwrap();
        assert_same(&State::now(), &only_v4, "the other family, the other way round");
        v4.release().await.unwrap();
    });
}

#[test]
fn instances_that_are_killed_leave_nothing_for_ever() {
    alone("lease::instances_that_are_killed_leave_nothing_for_ever", || async {
        let before = State::now();
        for next in [usual(), other()] {
            Instance::start(&usual(), Policy::Install).kill();
            assert_ne!(State::now(), before, "what it had made is still there");
            let adopted = Instance::start(&next, Policy::Install);
            assert!(works(&next));
            adopted.stop();
            assert_same(&State::now(), &before, "the next instance stopped");
        }
        for torn_down in [usual(), other()] {
            Instance::start(&usual(), Policy::Install).kill();
            remove(&torn_down, InUse::Keep).await.unwrap();
            assert_same(&State::now(), &before, "teardown");
        }
    });
}

#[test]
fn a_killed_instance_takes_nothing_from_a_living_one() {
    alone("lease::a_killed_instance_takes_nothing_from_a_living_one", || async {
        for (one, two) in [(usual(), usual()), (usual(), other())] {
            for first_is_killed in [true, false] {
                let before = State::now();
                let (first, second) =
                    (Instance::start(&one, Policy::Install), Instance::start(&two, Policy::Install));
                let (victim, survivor, plan) =
                    if first_is_killed { (first, second, &two) } else { (second, first, &one) };
                victim.kill();
                assert!(works(plan));
                let third = Instance::start(plan, Policy::Install);
                survivor.stop();
                assert!(works(plan));
                third.stop();
                assert_same(&State::now(), &before, "all stopped");
            }
        }
    });
}

#[test]
fn what_setup_made_outlives_instances() {
    alone("lease::what_setup_made_outlives_instances", || async {
        let before = State::now();
        apply(&usual()).await.unwrap();
        let set_up = State::now();
        let lease = install(&usual()).await;
        assert!(lease.applied().iter().all(|applied| applied.outcome == Outcome::Verified));
        let removal = lease.release().await.unwrap();
        assert_eq!(removal.removed, []);
        assert!(removal.kept.iter().all(|kept| kept.reason == KeptReason::Permanent), "{removal:?}");
        assert_same(&State::now(), &set_up, "the instance stopped");

        // Another mark and table, which needs the same switches.
        install(&other()).await.release().await.unwrap();
        assert_same(&State::now(), &set_up, "the other instance stopped");
        remove(&usual(), InUse::Keep).await.unwrap();
        assert_same(&State::now(), &before, "teardown");
    });
}

#[test]
fn setup_beside_an_instance_makes_its_objects_permanent() {
    alone("lease::setup_beside_an_instance_makes_its_objects_permanent", || async {
        let before = State::now();
        apply(&usual()).await.unwrap();
        let set_up = State::now();
        remove(&usual(), InUse::Keep).await.unwrap();

        let lease = install(&usual()).await;
        apply(&usual()).await.unwrap();
        assert_same(&State::now(), &set_up, "setup beside the instance is like setup without it");
        lease.release().await.unwrap();
        assert_same(&State::now(), &set_up, "the instance stopped");
        remove(&usual(), InUse::Keep).await.unwrap();
        assert_same(&State::now(), &before, "teardown");

        // The switches that the instance turned on are needed by another setup by now.
        let lease = install(&usual()).await;
        apply(&other()).await.unwrap();
        lease.release().await.unwrap();
        assert!(works(&other()));
        remove(&other(), InUse::Keep).await.unwrap();
        assert_same(&State::now(), &before, "teardown of the other");
    });
}

#[test]
fn teardown_leaves_what_runs_unless_forced() {
    alone("lease::teardown_leaves_what_runs_unless_forced", || async {
        for set_up_first in [true, false] {
            let before = State::now();
            if set_up_first {
                apply(&usual()).await.unwrap();
            }
            let instance = Instance::start(&usual(), Policy::Install);
            let running = State::now();
            let removal = remove(&usual(), InUse::Keep).await.unwrap();
            assert_eq!(removal.removed, []);
            assert_eq!(removal.kept.len(), usual().steps().len());
            assert!(removal.kept.iter().all(|kept| kept.reason == KeptReason::InUse(vec![instance.pid()])));
            assert_same(&State::now(), &running, "teardown");

            let removal = remove(&usual(), InUse::Remove).await.unwrap();
            assert_eq!(removal.removed.len(), usual().steps().len());
            assert_eq!(removal.kept, []);
            assert_same(&State::now(), &before, "teardown by force");
            instance.stop();
            assert_same(&State::now(), &before, "the instance stopped");
        }
    });
}

#[test]
fn teardown_of_one_leaves_the_switches_that_another_needs() {
    alone("lease::teardown_of_one_leaves_the_switches_that_another_needs", || async {
        for policy in [Policy::Install, Policy::CheckOnly] {
            let before = State::now();
            apply(&usual()).await.unwrap();
            if policy == Policy::CheckOnly {
                // Everything but the switches, by hand.
                for step in other().steps().iter().filter(|step| step.to_string().starts_with("ip ")) {
                    ip(step.to_string().strip_prefix("ip ").unwrap());
                }
            }
            let instance = Instance::start(&other(), policy);
            remove(&usual(), InUse::Remove).await.unwrap();
            assert!(works(&other()));
            instance.stop();
            if policy == Policy::CheckOnly {
                for step in other().steps().iter().filter(|step| step.to_string().starts_with("ip ")) {
                    ip(step.undo().to_string().strip_prefix("ip ").unwrap());
                }
            }
            assert_same(&State::now(), &before, "the instance stopped");
        }
    });
}

#[test]
fn checking_only_looks() {
    alone("lease::checking_only_looks", || async {
        let before = State::now();
        let lease = Lease::acquire(usual(), Policy::CheckOnly).await.unwrap();
        assert!(lease.applied().iter().all(|applied| applied.outcome == Outcome::Missing));
        assert_same(&State::now(), &before, "check only");
        lease.release().await.unwrap();

        // It still counts: what it found stays for it.
        let installed = Instance::start(&usual(), Policy::Install);
        let checking = Lease::acquire(usual(), Policy::CheckOnly).await.unwrap();
        assert!(checking.applied().iter().all(|applied| applied.outcome == Outcome::Verified));
        installed.stop();
        assert!(works(&usual()));
        checking.release().await.unwrap();
        assert_same(&State::now(), &before, "the last one stopped");
    });
}

#[test]
fn a_switch_that_was_on_before_stays_on() {
    alone("lease::a_switch_that_was_on_before_stays_on", || async {
        sysctl("net.ipv4.tcp_fwmark_accept", 1);
        let before = State::now();
        let (one, two) = (install(&usual()).await, install(&other()).await);
        one.release().await.unwrap();
        two.release().await.unwrap();
        assert_same(&State::now(), &before, "both stopped");
    });
}

#[test]
fn a_switch_that_is_turned_off_under_a_setup_is_turned_on_for_the_run() {
    alone("lease::a_switch_that_is_turned_off_under_a_setup_is_turned_on_for_the_run", || async {
        let before = State::now();
        sysctl("net.ipv4.tcp_fwmark_accept", 1);
        apply(&usual()).await.unwrap();
        sysctl("net.ipv4.tcp_fwmark_accept", 0);
        let lease = install(&usual()).await;
        lease.release().await.unwrap();
        assert_eq!(sysctl_value("net.ipv4.tcp_fwmark_accept"), 0);
        remove(&usual(), InUse::Keep).await.unwrap();
        assert_same(&State::now(), &before, "teardown");
    });
}

#[test]
fn a_refused_start_leaves_no_announcement_behind() {
    alone("lease::a_refused_start_leaves_no_announcement_behind", || async {
        ip("-6 route add unreachable default table 100");
        let before = State::now();
        let error = Lease::acquire(usual(), Policy::Install).await.unwrap_err();
        assert!(matches!(error, RoutingError::Conflict { .. }), "{error}");
        assert_same(&State::now(), &before, "after the refusal");
        tokio::task::yield_now().await;
        let sockets = std::fs::read_to_string("/proc/thread-self/net/unix").unwrap();
        assert!(!sockets.contains("@mmproxy"), "{sockets}");
    });
}

fn listen(name: &str) -> UnixListener {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap()
}

#[test]
fn who_holds_the_lock_for_ever_is_named() {
    alone("lease::who_holds_the_lock_for_ever_is_named", || async {
        let _held = listen("mmproxy/lock");
        // Ten seconds of patience pass at once: nothing else is left to do.
        tokio::time::pause();
        let error = apply(&usual()).await.unwrap_err();
        let holder = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(error, RoutingError::Locked { holder: found, .. } if found == holder), "{error}");
        assert!(error.to_string().contains(&format!("process {holder}")), "{error}");
    });
}

#[test]
fn the_lock_passes_on_when_it_is_let_go() {
    alone("lease::the_lock_passes_on_when_it_is_let_go", || async {
        let held = listen("mmproxy/lock");
        let waiting = tokio::spawn(async { apply(&usual()).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.unwrap().unwrap();
    });
}

#[test]
fn an_instance_that_cannot_be_understood_keeps_everything() {
    alone("lease::an_instance_that_cannot_be_understood_keeps_everything", || async {
        let before = State::now();
        let newer = listen("mmproxy/lease/2/4711.0/teleport:5");
        let lease = install(&usual()).await;
        let running = State::now();
        let me = i32::try_from(std::process::id()).unwrap();
        let removal = lease.release().await.unwrap();
        assert!(removal.kept.iter().all(|kept| kept.reason == KeptReason::InUse(vec![me])), "{removal:?}");
        assert_same(&State::now(), &running, "release");
        drop(newer);
        remove(&usual(), InUse::Keep).await.unwrap();
        assert_same(&State::now(), &before, "teardown");
    });
}

/// A stranger may use any name. He must not be able to keep our rules in place; an instance that runs as a user of
/// its own, with the capability, must.
#[test]
fn only_users_who_may_change_routes_keep_them() {
    alone("lease::only_users_who_may_change_routes_keep_them", || async {
        let me = run("id", "-u");
        assert_eq!(me.trim(), "0");
        if std::fs::read_to_string("/proc/self/uid_map").unwrap().split_whitespace().nth(2) == Some("1") {
            // A user namespace with a single user has no strangers. As root, the rest is tested.
            return;
        }
        let before = State::now();
        let lease = install(&usual()).await;
        let stranger = Instance::start_as_nobody(false, &usual(), Policy::CheckOnly);
        lease.release().await.unwrap();
        assert_same(&State::now(), &before, "released beside a stranger");
        stranger.kill();

        let lease = install(&usual()).await;
        let colleague = Instance::start_as_nobody(true, &usual(), Policy::CheckOnly);
        lease.release().await.unwrap();
        assert!(works(&usual()));
        colleague.kill();
        remove(&usual(), InUse::Keep).await.unwrap();
        assert_same(&State::now(), &before, "teardown");
    });
}
