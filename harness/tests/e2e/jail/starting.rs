//! Whoever starts a worker, it ends up with no more than it needs; or it says what is in the way.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use harness::{Finished, Namespace, isolated, run};

use super::{SIGSYS, machine_root, probe};

/// `command` started by `program`, which takes it as its last arguments.
#[track_caller]
fn under(namespace: &Namespace, program: &str, arguments: &[&str], command: &Command) -> Finished {
    let mut wrapped = Command::new(program);
    wrapped.args(arguments).arg(command.get_program()).args(command.get_args()).env_remove("RUST_LOG");
    run(namespace, &mut wrapped, b"")
}

/// Makes a thread and says what it was confined to.
fn threads() -> Command {
    probe(&[], &["try", "threads"])
}

#[test]
fn root_becomes_nobody_or_whom_it_is_told_or_stays_without_its_rights() {
    isolated(|| {
        let here = Namespace::new("here");
        if !machine_root() {
            println!("NOT SHOWN: there is one user in this namespace; run this test as root");
            return;
        }
        for (user, expected) in [
            (&[][..], "65534 group 65534"),
            (&["--user", "4711:4712"], "4711 group 4712"),
            (&["--user", "keep"], "0 group 0"),
        ] {
            let finished = run(&here, &mut probe(user, &["try", "threads"]), b"").expect_code(0);
            finished.expect_text(&[
                &format!("confined: user {expected}, CAP_NET_RAW with an empty bounding set, no_new_privs, seccomp kill"),
                "worked",
            ]);
        }
        // User 0 is nobody special any more.
        let finished =
            run(&here, &mut probe(&["--user", "keep", "--sandbox", "off"], &["try", "mount"]), b"");
        finished.expect_code(77).expect_text(&["refused: EPERM"]);
    });
}

#[test]
fn supplementary_groups_are_dropped_by_who_may() {
    isolated(|| {
        let here = Namespace::new("here");
        if !machine_root() {
            println!("NOT SHOWN: groups cannot be set in this namespace; run this test as root");
            return;
        }
        let finished = under(&here, "setpriv", &["--groups", "4,20", "--"], &threads()).expect_code(0);
        assert!(!finished.stdout.contains("supplementary"), "{finished}");
        let ambient =
            ["--reuid", "65534", "--regid", "65534", "--groups", "4,20", "--inh-caps=-all,+net_raw"];
        let ambient = [ambient.as_slice(), &["--ambient-caps=-all,+net_raw", "--"]].concat();
        let finished = under(&here, "setpriv", &ambient, &threads()).expect_code(0);
        finished
            .expect_text(&["user 65534 group 65534 supplementary groups [4, 20], CAP_NET_RAW, no_new_privs"]);
    });
}

#[test]
fn an_ordinary_user_with_ambient_capabilities_keeps_itself_and_one_of_them() {
    isolated(|| {
        let here = Namespace::new("here");
        if !machine_root() {
            println!("NOT SHOWN: there is one user in this namespace; run this test as root");
            return;
        }
        let both = ["--inh-caps=-all,+net_raw,+net_admin", "--ambient-caps=-all,+net_raw,+net_admin"];
        let arguments =
            [&["--reuid", "4711", "--regid", "4711", "--clear-groups"], both.as_slice(), &["--"]].concat();
        let finished = under(&here, "setpriv", &arguments, &threads()).expect_code(0);
        finished.expect_text(&[
            "confined: user 4711 group 4711, CAP_NET_RAW, no_new_privs, seccomp kill",
            "worked",
        ]);
        // Whom it may not become it does not become, and does not start.
        let other = probe(&["--user", "4712:4712"], &["try", "threads"]);
        let finished = under(&here, "setpriv", &arguments, &other).expect_code(77);
        finished.expect_text(&["to become 4712:4712", "hint: --user keep"]);
        // The filter is the same.
        let finished = under(&here, "setpriv", &arguments, &probe(&[], &["try", "packet-socket"]));
        assert_eq!(finished.status.signal(), Some(SIGSYS));
    });
}

#[test]
fn where_nobody_may_change_capabilities_a_worker_starts_with_the_one_it_keeps() {
    isolated(|| {
        let here = Namespace::new("here");
        if !machine_root() {
            println!("NOT SHOWN: there is one user in this namespace; run this test as root");
            return;
        }
        // As systemd starts a service with DynamicUser=, AmbientCapabilities= and a filter without @privileged.
        let service = ["--reuid", "4711", "--regid", "4711", "--clear-groups"];
        let ambient =
            ["--inh-caps=-all,+net_raw,+net_admin", "--ambient-caps=-all,+net_raw,+net_admin", "--"];
        let service = [service.as_slice(), &ambient].concat();
        let started = probe(&["--as-keeper", "--refuse-capset"], &["try", "threads"]);
        let finished = under(&here, "setpriv", &service, &started).expect_code(0);
        finished.expect_text(&["confined: user 4711 group 4711, CAP_NET_RAW, no_new_privs", "worked"]);
        // Without the keeper's care it would have one too many, and says so.
        let alone = probe(&["--refuse-capset"], &["try", "threads"]);
        under(&here, "setpriv", &service, &alone).expect_code(77).expect_text(&["cannot drop capabilities"]);
    });
}

#[test]
fn in_a_user_namespace_without_nobody_the_user_is_kept_and_that_is_said() {
    isolated(|| {
        let here = Namespace::new("here");
        let inside = ["--user", "--map-root-user", "--net", "--"];
        let finished = under(&here, "unshare", &inside, &threads()).expect_code(0);
        finished.expect_text(&[
            "confined: user 0",
            "CAP_NET_RAW with an empty bounding set",
            "gap: the worker keeps user 0",
        ]);
        // Asked for, it is no default that can be done without.
        let asked = probe(&["--user", "nobody"], &["try", "threads"]);
        under(&here, "unshare", &inside, &asked)
            .expect_code(77)
            .expect_text(&["to become nobody", "hint: --user keep"]);
    });
}

#[test]
fn without_net_raw_it_is_77_and_the_line_that_grants_it() {
    isolated(|| {
        let here = Namespace::new("here");
        let finished = under(
            &here,
            "setpriv",
            &["--bounding-set=-net_raw,-net_admin", "--inh-caps=-net_raw,-net_admin", "--"],
            &threads(),
        );
        finished
            .expect_code(77)
            .expect_text(&["CAP_NET_RAW is missing", "setcap cap_net_admin,cap_net_raw+ep"]);
    });
}

#[test]
fn a_user_that_is_not_there_is_a_mistake_in_the_configuration() {
    isolated(|| {
        let here = Namespace::new("here");
        let finished = run(&here, &mut probe(&["--user", "no-such-user"], &["try", "threads"]), b"");
        finished.expect_code(78).expect_text(&["there is no user \"no-such-user\""]);
    });
}
