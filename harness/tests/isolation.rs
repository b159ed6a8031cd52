//! However a test ends, nothing of it stays: no process, and with the last process no namespace.

use std::env::{current_exe, var};
use std::fs;
use std::process::{Child, Command, Stdio, id};

use harness::expect::eventually;
use harness::{Program, Topology, isolated};

#[test]
fn nothing_is_left_of_a_test_whose_runner_is_killed() {
    if let Ok(ending) = var(VICTIM) {
        return isolated(|| victim(&ending));
    }
    let mut runner = Victim::start("nothing_is_left_of_a_test_whose_runner_is_killed", "waits");
    runner.wait_until_under_way();
    runner.child.kill().expect("it waits");
    runner.expect_gone();
}

#[test]
fn nothing_is_left_of_a_test_that_panics() {
    if let Ok(ending) = var(VICTIM) {
        return isolated(|| victim(&ending));
    }
    let mut runner = Victim::start("nothing_is_left_of_a_test_that_panics", "panics");
    assert!(!runner.child.wait().expect("our own child").success());
    runner.expect_gone();
}

#[test]
fn nothing_is_left_of_a_test_whose_body_is_killed() {
    if let Ok(ending) = var(VICTIM) {
        return isolated(|| victim(&ending));
    }
    let mut runner = Victim::start("nothing_is_left_of_a_test_whose_body_is_killed", "waits");
    // Process 1 of the namespaces is the one that has the test's name among its arguments and is not the runner.
    let body = runner.wait_until_under_way();
    let killed =
        Command::new("kill").args(["-KILL", &body.to_string()]).status().expect("procps or coreutils");
    assert!(killed.success());
    assert!(!runner.child.wait().expect("our own child").success(), "the runner must notice");
    runner.expect_gone();
}

/// How the victim ends: `waits` for ever, or `panics`. A test that finds this set is itself the victim.
const VICTIM: &str = "MMPROXY_HARNESS_VICTIM";
/// Set for a victim and inherited by all it starts, so that they can be found from outside.
const TOKEN: &str = "MMPROXY_HARNESS_TOKEN";

/// A test with namespaces and a program in one of them.
fn victim(ending: &str) {
    let net = Topology::new();
    let _clients = net.clients();
    let program =
        Program::start(&net.gateway, Command::new("sh").args(["-c", "echo started; exec sleep 600"]));
    program.expect_line(&["started"]);
    assert_ne!(ending, "panics", "this victim ends with a panic");
    program.wait();
}

/// The runner of a victim.
struct Victim {
    child: Child,
    token: String,
}

impl Victim {
    fn start(test: &str, ending: &str) -> Self {
        let token = format!("{test}-{}", id());
        let child = Command::new(current_exe().expect("/proc names this executable"))
            .args(["--exact", test, "--nocapture"])
            .env(VICTIM, ending)
            .env(TOKEN, &token)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this executable runs");
        Self { child, token }
    }

    /// Waits until the program in the victim's namespace runs; the process number of the victim's body.
    fn wait_until_under_way(&self) -> u32 {
        eventually("the victim's program to run", || {
            self.processes().iter().any(|(_, name)| name == "sleep").then_some(())
        });
        let isolated =
            |&&(pid, _): &&(u32, String)| namespace_of(pid).is_some_and(|of| Some(of) != namespace_of(id()));
        let processes = self.processes();
        let body = processes.iter().filter(isolated).find(|(_, name)| name != "sleep");
        body.expect("the victim's body runs in a process namespace of its own").0
    }

    fn expect_gone(&mut self) {
        eventually("every process of the victim to be gone", || {
            self.child.try_wait().expect("our own child");
            self.processes().is_empty().then_some(())
        });
    }

    /// Number and name of every process that has the victim's token.
    fn processes(&self) -> Vec<(u32, String)> {
        let token = format!("{TOKEN}={}", self.token);
        let numbers = fs::read_dir("/proc").expect("/proc is mounted").flatten();
        numbers
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid: &u32| {
                // Gone meanwhile, or somebody else's: not one of ours.
                let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environment.split(|&byte| byte == 0).any(|variable| variable == token.as_bytes())
            })
            .map(|pid| {
                (pid, fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned())
            })
            .collect()
    }
}

fn namespace_of(pid: u32) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}
