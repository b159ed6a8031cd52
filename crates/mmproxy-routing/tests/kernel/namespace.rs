//! A network namespace for each test: the test runs itself again inside of one.

use std::future::Future;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::runtime;

/// Runs `body` in a network namespace of its own, as the process number 1 of a pid namespace, so that nothing it
/// starts outlives it. `name` is the path of the calling test.
///
/// As root this takes nothing more; otherwise a user namespace, in which the test is root.
pub(crate) fn alone<F: Future<Output = ()>>(name: &str, body: impl FnOnce() -> F) {
    if std::env::var_os(INSIDE).is_some() {
        if !ip("link show lo").contains("UP") {
            ip("link set lo up");
        }
        runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body());
        return;
    }
    let root = nix::unistd::geteuid().is_root();
    let mut command = Command::new("unshare");
    if !root {
        command.args(["--user", "--map-root-user"]);
    }
    let output = command
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("`unshare` of util-linux is needed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "in its own network namespace ({}; without root this needs user namespaces, sysctl \
         kernel.unprivileged_userns_clone=1 or kernel.apparmor_restrict_unprivileged_userns=0):\n{stdout}\n{stderr}",
        output.status,
    );
}

/// An interface `east` with default routes, in a network that changes nothing by itself.
pub(crate) fn default_routes() {
    ip("link add east type veth peer name west");
    ip("link set west addrgenmode none");
    ip("link set east addrgenmode none");
    ip("link set west up");
    ip("link set east up");
    ip("addr add 10.8.0.1/24 dev east");
    ip("addr add fd08::1/64 dev east nodad");
    ip("route add default via 10.8.0.2");
    ip("-6 route add default via fd08::2");
    // The kernel notices a little later that both ends are up, and adds these routes.
    wait_until("both ends are up", || {
        ip("-6 route show table all type multicast").lines().count() == 2
            && ip("-6 route show table local").contains("local fd08::1 ")
    });
}

/// Waits for something that is about to happen.
pub(crate) fn wait_until(what: &str, happened: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !happened() {
        assert!(Instant::now() < deadline, "it does not come to pass that {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Addresses of this host, none of them loopback: 10.9.0.1 and fd09::1.
pub(crate) fn own_addresses() {
    ip("addr add 10.9.0.1/32 dev lo");
    ip("addr add fd09::1/128 dev lo nodad");
}

/// Runs `ip ARGUMENTS`, which must succeed, and returns what it prints.
pub(crate) fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

/// Runs `ip FAMILY` on many lines of arguments at once, all of which must succeed.
pub(crate) fn ip_batch(family: &str, lines: &str) {
    let mut process = Command::new("ip").args([family, "-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(process.wait().unwrap().success(), "ip {family} -batch");
}

/// Sets a kernel switch.
pub(crate) fn sysctl(name: &str, value: u32) {
    std::fs::write(sysctl_path(name), value.to_string()).unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Reads a kernel switch.
pub(crate) fn sysctl_value(name: &str) -> u32 {
    std::fs::read_to_string(sysctl_path(name)).unwrap().trim().parse().unwrap()
}

/// Runs a program with arguments that contain no blanks; it must succeed.
pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn sysctl_path(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

const INSIDE: &str = "MMPROXY_ROUTING_TEST_INSIDE";
