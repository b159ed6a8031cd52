//! Tests in a network namespace of their own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What spoofed sockets carry.
pub(crate) const MARK: u32 = 123;

/// Runs `body` in a copy of this program that has a network namespace of its own, without root in a user
/// namespace; `test` is the name of the test with its module, `wrapper` a command that runs the copy.
pub(crate) fn in_namespace(test: &str, wrapper: &[&str], body: fn()) {
    const CHILD: &str = "MMPROXY_TEST_NAMESPACE";
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--"]).args(wrapper).arg(this_program());
    run_alone(command, test, CHILD, "in its namespace (needs root, or user namespaces)");
}

/// Runs `body` in another copy of this program; `marker` in the environment tells that copy from the first.
pub(crate) fn in_child(test: &str, marker: &str, body: fn()) {
    if std::env::var_os(marker).is_some() {
        return body();
    }
    run_alone(Command::new(this_program()), test, marker, "in a process of its own");
}

/// Runs `body` in another copy of this program, in the same namespace but without `capability`.
///
/// Within [`in_namespace`], whose own set-up needs what is then missing; what it made so far the copy finds by itself.
pub(crate) fn without(test: &str, capability: &str, body: fn()) {
    if is_without() {
        return body();
    }
    run_alone(unprivileged(&format!("-{capability}")), test, WITHOUT, &format!("without {capability}"));
}

/// This program, to be run without the capabilities `dropped`: `-name`, separated by commas.
pub(crate) fn unprivileged(dropped: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", dropped, "--inh-caps", dropped]).arg(this_program());
    command
}

/// Has `command`, a way to run this program, run `test` alone, with `marker` set; `how` is for the message.
pub(crate) fn run_alone(mut command: Command, test: &str, marker: &str, how: &str) {
    let output = command
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg(test)
        .env(marker, "1")
        .stdin(Stdio::null())
        .output()
        .expect("unshare(1) and setpriv(1) are part of util-linux");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{how}:\n{text}\n{errors}");
    assert!(text.contains("1 passed"), "the child ran nothing:\n{text}");
}

pub(crate) fn this_program() -> PathBuf {
    std::env::current_exe().expect("/proc is mounted")
}

/// Whether this is the copy that [`without`] runs.
pub(crate) fn is_without() -> bool {
    std::env::var_os(WITHOUT).is_some()
}

const WITHOUT: &str = "MMPROXY_TEST_WITHOUT";

/// What answers need to come back: marked packets, and what answers them, are delivered locally.
pub(crate) fn return_path() {
    ip("link set lo up");
    for name in ["ipv4/tcp_fwmark_accept", "ipv4/fwmark_reflect", "ipv6/fwmark_reflect"] {
        sysctl(name, "1");
    }
    for family in ["-4", "-6"] {
        ip(&format!("{family} rule add fwmark {MARK} lookup 100"));
        ip(&format!("{family} route add local default dev lo table 100"));
    }
}

pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip(8) is part of iproute2");
    assert!(status.success(), "ip {arguments}");
}

pub(crate) fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
}
