//! What an operator made with iptables, as the original mmproxy tells its user to: with real ones of both kinds.

use std::process::Command;

use mmproxy_routing::{
    Families, InUse, KeptReason, Lease, Observed, Outcome, Owner, Plan, Policy, Settings, State as Found,
    Step, apply, observe, remove,
};
use nix::sched::{CloneFlags, unshare};

use crate::namespace::{alone, default_routes, ip, run};
use crate::spoof::arrives;
use crate::state::{State, assert_same};

/// The two kinds of iptables, by the middle of their programs' names.
const KINDS: [&str; 2] = ["nft", "legacy"];

fn connmark() -> Plan {
    Plan::connmark(Settings::default(), Families::BOTH, Some("east".parse().unwrap()))
}

/// Types commands that have no blanks within words; `iptables` is the one of this kind.
fn typed(kind: &str, commands: &[String]) {
    for command in commands {
        let command = command.replacen("ip6tables ", &format!("ip6tables-{kind} "), 1).replacen(
            "iptables ",
            &format!("iptables-{kind} "),
            1,
        );
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success(), "{command}");
    }
}

/// All of a plan as an operator of the original would type it.
fn as_the_original_says(plan: &Plan) -> Vec<String> {
    let commands = plan.steps().iter().map(|step| match step.alternatives() {
        others if others.is_empty() => vec![step.to_string()],
        others => others,
    });
    commands.flatten().collect()
}

/// Everything in the namespace, iptables-legacy included. Only to be asked when that has its tables, or they are made.
struct Everything(State, [String; 2]);

impl Everything {
    fn now() -> Self {
        Self(State::now(), ["iptables", "ip6tables"].map(legacy))
    }

    #[track_caller]
    fn expect_same(&self, before: &Self, when: &str) {
        assert_same(&self.0, &before.0, when);
        assert_eq!(self.1, before.1, "{when}");
    }
}

/// Without the lines that tell the time.
fn legacy(program: &str) -> String {
    let saved = run(&format!("{program}-legacy-save"), "-t mangle");
    saved.lines().filter(|line| line.starts_with("-A")).collect()
}

/// A namespace that belongs to the user namespace of this test: only its root may see the tables of iptables-legacy.
fn fresh_network() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    // Where iptables-legacy has its lock.
    run("mount", "-t tmpfs tmpfs /run");
    ip("link set lo up");
    default_routes();
}

async fn table_of(plan: &Plan, family: &str) -> Observed {
    let found = observe(plan).await.unwrap();
    found.into_iter().find(|o| o.step.to_string().starts_with(&format!("nft 'table {family} "))).unwrap()
}

#[test]
fn rules_made_with_either_iptables_serve_are_verified_and_kept() {
    alone("handmade::rules_made_with_either_iptables_serve_are_verified_and_kept", || async {
        for kind in KINDS {
            fresh_network();
            let plan = connmark();
            typed(kind, &as_the_original_says(&plan));
            let before = Everything::now();
            for (target, client) in [("127.0.0.1", "192.0.2.1"), ("::1", "2001:db8::1")] {
                arrives(target, target, client, 123)
                    .unwrap_or_else(|error| panic!("{kind} {target}: {error}"));
            }
            let found = observe(&plan).await.unwrap();
            assert!(found.iter().all(|o| o.state == Found::Present(Owner::Foreign)), "{kind}: {found:#?}");

            let applied = apply(&plan).await.unwrap();
            assert!(
                applied.iter().all(|applied| applied.outcome == Outcome::Verified),
                "{kind}: {applied:?}"
            );
            Everything::now().expect_same(&before, "setup");
            let lease = Lease::acquire(plan.clone(), Policy::Install).await.unwrap();
            Everything::now().expect_same(&before, "start");
            lease.release().await.unwrap();
            Everything::now().expect_same(&before, "stop");
            let removal = remove(&plan, InUse::Remove).await.unwrap();
            assert!(removal.kept.iter().all(|kept| kept.reason == KeptReason::Foreign), "{removal:?}");
            assert_eq!((removal.removed, removal.kept.len()), (vec![], plan.steps().len()));
            Everything::now().expect_same(&before, "teardown");
        }
    });
}

#[test]
fn rules_for_mode_socket_count_too() {
    alone("handmade::rules_for_mode_socket_count_too", || async {
        for kind in KINDS {
            fresh_network();
            let plan = Plan::socket(Settings::default(), Families::BOTH);
            typed(kind, &as_the_original_says(&plan));
            let applied = apply(&plan).await.unwrap();
            assert!(
                applied.iter().all(|applied| applied.outcome == Outcome::Verified),
                "{kind}: {applied:?}"
            );
        }
    });
}

#[test]
fn rules_that_do_not_do_the_job_are_told_and_ours_is_added() {
    alone("handmade::rules_that_do_not_do_the_job_are_told_and_ours_is_added", || async {
        let save = "iptables -t mangle -A PREROUTING -m mark --mark 123 -j CONNMARK --save-mark";
        let restore = "iptables -t mangle -A OUTPUT -m connmark --mark 123 -j CONNMARK --restore-mark";
        for kind in KINDS {
            fresh_network();
            let plan = connmark();
            for (rules, lack) in [
                (
                    [save.replace("PREROUTING", "INPUT"), restore.to_owned()],
                    "do not come by there (chain INPUT)",
                ),
                (
                    [save.replace("123", "124"), restore.to_owned()],
                    "for other packets (`-m mark --mark 0x7c`)",
                ),
                (
                    [save.replace("-m mark", "-i east -m mark"), restore.to_owned()],
                    "for other packets (`-i east`)",
                ),
                (
                    [save.replace("-m mark", "-s 10.0.0.0/8 -m mark"), restore.to_owned()],
                    "packets only (`-s 10.0.0.0/8`)",
                ),
                (
                    [format!("{save} --mask 0xf"), restore.to_owned()],
                    "for other packets (`-m connmark --mark 0x7b`)",
                ),
                (
                    [save.to_owned(), restore.replace("OUTPUT", "POSTROUTING")],
                    "come by there (chain POSTROUTING)",
                ),
            ] {
                typed(kind, &rules);
                let found = table_of(&plan, "ip").await;
                assert_eq!(found.state, Found::Missing, "{rules:?}");
                let near_miss = found.near_miss.unwrap();
                assert!(
                    near_miss.contains(lack) && near_miss.contains(&format!("iptables-{kind} has")),
                    "{near_miss}"
                );
                assert_eq!(table_of(&plan, "ip6").await.near_miss, None, "each family has its own");
                typed(kind, &rules.map(|rule| rule.replace(" -A ", " -D ")));
                assert_eq!(table_of(&plan, "ip").await.near_miss, None);
            }

            typed(kind, &[save.to_owned()]);
            arrives("127.0.0.1", "127.0.0.1", "192.0.2.1", 123).unwrap_err();
            let before = Everything::now();
            let applied = apply(&plan).await.unwrap();
            assert!(applied.iter().all(|applied| applied.outcome == Outcome::Added), "{applied:?}");
            arrives("127.0.0.1", "127.0.0.1", "192.0.2.1", 123).unwrap();
            assert_eq!(remove(&plan, InUse::Keep).await.unwrap().removed.len(), plan.steps().len());
            Everything::now().expect_same(&before, "teardown");
        }
    });
}

/// Looking must not make what was not there: asking iptables-legacy for a table makes it.
#[test]
fn looking_makes_no_table_of_iptables() {
    alone("handmade::looking_makes_no_table_of_iptables", || async {
        fresh_network();
        let tables = || std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap();
        assert_eq!(tables(), "");
        let found = observe(&connmark()).await.unwrap();
        assert!(found.iter().any(|o| matches!(o.step, Step::Netfilter(_)) && o.near_miss.is_none()));
        assert_eq!(tables(), "");
        assert_eq!(run("nft", "list ruleset"), "");
    });
}

#[test]
fn where_the_program_that_shows_the_rules_is_missing_that_is_said() {
    alone("handmade::where_the_program_that_shows_the_rules_is_missing_that_is_said", || async {
        fresh_network();
        typed("nft", &as_the_original_says(&connmark()));
        run("mount", "-t tmpfs tmpfs /mnt");
        run("cp", "/usr/sbin/nft /mnt/nft");
        run("mount", "--move /mnt /usr/sbin");
        let found = table_of(&connmark(), "ip").await;
        assert_eq!(found.state, Found::Missing);
        let near_miss = found.near_miss.unwrap();
        assert!(
            near_miss.contains("`iptables-nft-save -t mangle` shows nothing: it is not in PATH"),
            "{near_miss}"
        );
    });
}
