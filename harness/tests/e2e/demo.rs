//! The demonstration: everything at once on a machine with nothing installed.

use std::fs;
use std::process::Command;

use harness::{Namespace, State, executable, isolated, ordinary_user, run, scratch};

/// The four clients that the demonstration announces.
const CLIENTS: [&str; 4] =
    ["192.0.2.7:4711", "[2001:db8::7]:4712", "198.51.100.42:4713", "[2001:db8::42]:4714"];

/// Runs the demonstration in a namespace of its caller, as whatever user `as_user` makes it.
fn expect_demo_works(as_user: impl FnOnce(&Command) -> Command) {
    let caller = Namespace::new("caller");
    let before = State::of(&caller);
    // Where any user may run it: cargo's folder may be in somebody's home.
    let copy = scratch().join("mmproxy");
    fs::copy(executable(), &copy).expect("the test's own directory");
    let mut demo = Command::new(&copy);
    demo.arg("demo");
    let finished = run(&caller, &mut as_user(&demo), b"").expect_code(0);
    for client in CLIENTS {
        // Announced, and then seen.
        let times = finished
            .stdout
            .lines()
            .filter(|line| line.contains("the target saw") && line.contains(client))
            .count();
        assert_eq!(times, 1, "{client} was not seen by the target; {finished}");
    }
    assert!(!finished.stdout.contains("[!]"), "{finished}");
    State::of(&caller).expect_unchanged_since(&before);
}

#[test]
fn the_demo_shows_four_clients_to_root_and_leaves_the_callers_namespace_alone() {
    isolated(|| {
        expect_demo_works(|demo| {
            let mut as_root = Command::new(demo.get_program());
            as_root.args(demo.get_args());
            as_root
        });
    });
}

#[test]
fn the_demo_shows_four_clients_to_an_ordinary_user_and_leaves_the_callers_namespace_alone() {
    isolated(|| expect_demo_works(ordinary_user));
}

#[test]
fn where_user_namespaces_are_off_the_demo_says_so_and_how_to_run_it() {
    isolated(|| {
        // Off in one more user namespace only, whose root then has no capability left, like any other user.
        let script =
            "echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all -- \"$0\" demo";
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", script]).arg(executable());
        let finished = run(&Namespace::new("caller"), &mut command, b"").expect_code(77);
        finished.expect_text(&[
            "user and network namespace",
            "sudo mmproxy demo",
            "user.max_user_namespaces",
        ]);
    });
}
