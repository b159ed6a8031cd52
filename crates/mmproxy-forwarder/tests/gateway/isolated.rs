//! Tests in a network namespace of their own.

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
    let output = command
        .args(["--net", "--"])
        .args(wrapper)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg(test)
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .expect("unshare(1) is part of util-linux");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "in its namespace (needs root, or user namespaces):\n{text}\n{errors}");
    assert!(text.contains("1 passed"), "the child ran nothing:\n{text}");
}

/// Runs `body` in another copy of this program, in the same namespace but without `capability`.
///
/// Within [`in_namespace`], whose own set-up needs what is then missing; what it made so far the copy finds by itself.
pub(crate) fn without(test: &str, capability: &str, body: fn()) {
    if is_without() {
        return body();
    }
    let dropped = format!("-{capability}");
    let output = Command::new("setpriv")
        .args(["--bounding-set", &dropped, "--inh-caps", &dropped])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg(test)
        .env(WITHOUT, "1")
        .stdin(Stdio::null())
        .output()
        .expect("setpriv(1) is part of util-linux");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "without {capability}:\n{text}\n{errors}");
    assert!(text.contains("1 passed"), "the child ran nothing:\n{text}");
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
