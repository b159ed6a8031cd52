//! Each test in namespaces of its own, which die with it however it ends.

use std::any::type_name;
use std::env::{args_os, current_exe, var, var_os};
use std::fs;
use std::io::{Read, pipe, stdin};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio, id};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::unistd::geteuid;

/// Runs the calling test's body in fresh network, process and mount namespaces.
///
/// The test executable starts itself again for exactly this test under `unshare`; there the body runs as process 1.
/// Whatever it makes (namespaces, interfaces, processes, files under [`scratch`]) is the kernel's to remove when
/// process 1 is gone, and that goes when the body returns or panics, when it takes longer than [`LIMIT`], and when
/// the test runner is killed. Nothing of the caller's own namespaces is touched.
///
/// Needs root or unprivileged user namespaces. Inside, the user is 0 and has all capabilities in either case.
///
/// # Panics
///
/// When the body panicked, with its output; when neither root nor user namespaces are to be had, with the cure.
#[track_caller]
pub fn isolated<F: FnOnce()>(body: F) {
    let test = test_name(type_name::<F>());
    match var(INSIDE) {
        Err(_) => run_outside(test),
        Ok(outside) => {
            enter(&outside);
            use_small_socket_tables();
            body();
            println!("{}", held(test));
        }
    }
}

/// Runs the calling program's `main` in fresh network, process and mount namespaces: for programs that are no tests.
///
/// As [`isolated`], except that the program starts itself again with its own arguments, keeps its standard output and
/// error, and may take as long as it wants. Call it first thing in `main`, with nothing done before.
///
/// # Panics
///
/// When neither root nor user namespaces are to be had, with the cure.
pub fn isolated_program(body: impl FnOnce() -> ExitCode) -> ExitCode {
    if let Ok(outside) = var(INSIDE) {
        enter(&outside);
        return body();
    }
    let mut command = unshare();
    command
        .arg(current_exe().expect("/proc names this executable"))
        .args(args_os().skip(1))
        .env(INSIDE, own_network())
        .stdin(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    // Kept open until the child is gone; see `die_with_the_runner`.
    let _lifeline = child.stdin.take();
    let status = child.wait().expect("the child was not waited for");
    // A signal's death has no code of its own here.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// How long one test may take before it is killed and fails.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A directory that is this test's alone and vanishes with it. Inside [`isolated`] only.
///
/// Everybody may read it, because some tests run programs as an ordinary user.
pub fn scratch() -> PathBuf {
    let directory = PathBuf::from("/run/scratch");
    fs::create_dir_all(&directory).expect("/run is this test's own tmpfs");
    directory
}

/// Whether the user 0 of this test is the machine's root, rather than an ordinary user in a user namespace.
///
/// Some things only the machine's root can do: become one of several other users, for one.
pub(crate) fn is_machine_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").expect("/proc is mounted");
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Names the caller's namespaces inside; nobody else sets it.
const INSIDE: &str = "MMPROXY_HARNESS_ISOLATED_FROM";

const NAMESPACES: [&str; 5] = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
const USER_NAMESPACE: [&str; 2] = ["--user", "--map-root-user"];

/// The body held to its claim, said from inside: a run that selected no test at all succeeds without saying it.
fn held(test: &str) -> String {
    format!("harness: {test} held inside its namespaces")
}

/// `e2e::source::some_claim::{{closure}}` is the test `source::some_claim` of the executable e2e.
fn test_name(closure: &'static str) -> &'static str {
    let (_crate, path) = closure.split_once("::").expect("a closure's name begins with its crate");
    path.strip_suffix("::{{closure}}").expect("isolated takes a closure written in the test itself")
}

fn run_outside(test: &str) {
    let mut command = unshare();
    command
        .arg(current_exe().expect("/proc names this executable"))
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(INSIDE, own_network());
    let (finished, output) = run(command);
    assert!(
        finished.is_ok_and(|status| status.success()) && output.lines().any(|line| line == held(test)),
        "{test} failed inside its namespaces ({}); its output:\n{output}",
        finished.map_or_else(|limit| format!("killed after {limit:?}"), |status| status.to_string()),
    );
    // The runner captures this, and shows it when asked to.
    print!("{output}");
}

/// Runs `command` to its end, or for [`LIMIT`]; what it wrote, standard output and error in one.
fn run(mut command: Command) -> (Result<std::process::ExitStatus, Duration>, String) {
    let (mut reader, writer) = pipe().expect("a pipe");
    command.stdout(writer.try_clone().expect("a descriptor")).stderr(writer).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    // Closes our copies of the writing end: the reader below must see the end of the child's.
    drop(command);
    // Kept open until the child is gone; see `die_with_the_runner`.
    let _lifeline = child.stdin.take();

    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut output = Vec::new();
        reader.read_to_end(&mut output).expect("reading a pipe");
        sender.send(String::from_utf8_lossy(&output).into_owned()).ok(); // nobody waits after a panic
    });
    let received = receiver.recv_timeout(LIMIT);
    if received.is_err() {
        child.kill().expect("the child was not waited for");
    }
    let status = child.wait().expect("the child was not waited for");
    match received {
        Ok(output) => (Ok(status), output),
        Err(_) => (Err(LIMIT), receiver.recv().expect("the namespace is gone, so the pipe ends")),
    }
}

/// `unshare` as this user can use it; ends with the test's own thread.
fn unshare() -> Command {
    let wrapper = |flags: &[&str]| {
        // Parent-death signal for unshare itself, which has --kill-child for what it starts.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare"]).args(flags).args(NAMESPACES).arg("--");
        command
    };
    let mut ways: Vec<&[&str]> = vec![&USER_NAMESPACE];
    if geteuid().is_root() {
        ways.insert(0, &[]);
    }
    let mut reasons = Vec::new();
    for flags in ways {
        match wrapper(flags).arg("true").stdin(Stdio::null()).output() {
            Ok(tried) if tried.status.success() => return wrapper(flags),
            Ok(tried) => reasons.push(String::from_utf8_lossy(&tried.stderr).trim().to_owned()),
            Err(error) => reasons.push(format!("setpriv: {error} (Debian package util-linux)")),
        }
    }
    panic!(
        "cannot make namespaces: {}. Run the tests as root, or allow user namespaces: \
         sysctl -w kernel.unprivileged_userns_clone=1 (Debian), \
         sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), \
         sysctl -w user.max_user_namespaces=1000",
        reasons.join("; ")
    );
}

/// Makes sure that this is inside, then makes it a place to test in.
fn enter(outside: &str) {
    assert!(
        id() == 1 && own_network() != outside,
        "{INSIDE} is set outside a test's namespaces; unset it: nothing may happen in the caller's own",
    );
    die_with_the_runner();
    // Programs keep run-time state there; one test must not see another's. It also is where `scratch` lives.
    mount(
        Some("tmpfs"),
        Path::new("/run"),
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=755"),
    )
    .expect("mounting in a mount namespace of our own");
}

/// Namespaces made from here on get small socket tables of their own. Listing the one that all others share takes
/// milliseconds of walking over its empty slots. Kernels before 6.1 know no such thing, and are slow.
fn use_small_socket_tables() {
    fs::write("/proc/sys/net/ipv4/tcp_child_ehash_entries", "1024").ok();
}

/// Standard input is a pipe whose other end only the runner holds: it ends when the runner is gone.
///
/// `--kill-child` and the parent-death signal do the same a moment earlier, except in the moment before they are set.
fn die_with_the_runner() {
    thread::spawn(|| {
        let mut nothing = [0];
        while matches!(stdin().read(&mut nothing), Ok(1)) {}
        #[expect(
            clippy::disallowed_methods,
            reason = "there is nobody left to return to, and the kernel cleans up"
        )]
        std::process::exit(1)
    });
}

fn own_network() -> String {
    let link =
        fs::read_link("/proc/self/ns/net").expect("/proc is mounted and network namespaces are compiled in");
    link.to_string_lossy().into_owned()
}

/// Whether this code runs inside [`isolated`].
pub(crate) fn is_inside() -> bool {
    var_os(INSIDE).is_some() && id() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closure_names_the_test_it_is_written_in() {
        assert_eq!(test_name("e2e::source::some_claim::{{closure}}"), "source::some_claim");
        assert_eq!(test_name("harness::isolation::tests::other::{{closure}}"), "isolation::tests::other");
    }

    #[test]
    fn the_body_runs_as_root_and_process_1_of_a_network_without_interfaces_but_lo() {
        isolated(|| {
            assert_eq!(id(), 1);
            assert!(geteuid().is_root());
            let devices = fs::read_to_string("/proc/net/dev").expect("/proc is mounted");
            let names: Vec<_> = devices
                .lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(name, _)| name.trim())
                .collect();
            assert_eq!(names, ["lo"]);
        });
    }

    #[test]
    #[should_panic(expected = "the reason given inside")]
    fn a_failure_inside_is_a_failure_outside_with_its_reason() {
        isolated(|| panic!("the reason given inside"));
    }

    #[test]
    #[should_panic(expected = "failed inside its namespaces")]
    fn a_run_that_selects_no_test_is_a_failure() {
        run_outside("isolation::tests::there_is_no_such_test");
    }

    #[test]
    fn scratch_is_empty_and_writable() {
        isolated(|| {
            let directory = scratch();
            assert_eq!(fs::read_dir(&directory).expect("readable").count(), 0);
            fs::write(directory.join("file"), "text").expect("writable");
        });
    }
}
