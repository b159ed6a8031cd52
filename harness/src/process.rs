//! Programs that tests run: what they print, and how they end.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::expect::{DEADLINE, within};
use crate::netns::Namespace;
use crate::sockets::is_listening;

/// A running program, whose output is read line by line. Killed when dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    output: Arc<Output>,
}

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Program {
    /// Starts `command` in `namespace`, with nothing on its standard input.
    ///
    /// # Panics
    ///
    /// If there is no such program.
    #[track_caller]
    pub fn start(namespace: &Namespace, command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = namespace.spawn(command).unwrap_or_else(|error| panic!("cannot run {name}: {error}"));
        let output = Arc::new(Output::default());
        read_lines(child.stdout.take().expect("piped"), Stream::Out, Arc::clone(&output));
        read_lines(child.stderr.take().expect("piped"), Stream::Err, Arc::clone(&output));
        Self { name, child, output }
    }

    /// The first line, of standard output or error, that contains all of `parts`; waits for it.
    ///
    /// # Panics
    ///
    /// If it does not come, with everything that did.
    #[track_caller]
    pub fn expect_line(&self, parts: &[&str]) -> String {
        let found = self.output.wait_for(|line| parts.iter().all(|part| line.contains(part)));
        found.unwrap_or_else(|| {
            panic!("{} never printed a line with {parts:?}; it printed:\n{}", self.name, self.output())
        })
    }

    /// Waits until somebody in `namespace` listens on `port`, without connecting to it.
    ///
    /// # Panics
    ///
    /// If nobody does, or this program ends, with what it printed.
    #[track_caller]
    pub fn expect_listener(&self, namespace: &Namespace, port: u16) {
        let listening = within(DEADLINE, || match is_listening(namespace, port) {
            true => Some(true),
            false if self.output.is_complete() => Some(false),
            false => None,
        });
        assert!(
            listening == Some(true),
            "{} does not listen on port {port} of the {}; it printed:\n{}",
            self.name,
            namespace.name(),
            self.output(),
        );
    }

    /// How many lines so far contain all of `parts`.
    pub fn count_lines(&self, parts: &[&str]) -> usize {
        self.output().lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }

    /// Everything printed so far.
    pub fn output(&self) -> String {
        self.output.lock().lines.iter().map(|(_, line)| format!("{line}\n")).collect()
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().expect("process numbers are positive"));
        kill(pid, signal).unwrap_or_else(|error| panic!("{signal} to {}: {error}", self.name));
    }

    /// Sends SIGTERM and waits for the end.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().expect("not waited for");
        self.wait();
    }

    /// Waits for the end.
    ///
    /// # Panics
    ///
    /// If it does not come, with what the program printed.
    #[track_caller]
    pub fn wait(mut self) -> Finished {
        let ended = within(DEADLINE, || self.child.try_wait().expect("our own child"));
        let Some(status) = ended else {
            panic!("{} has not ended within {DEADLINE:?}; it printed:\n{}", self.name, self.output());
        };
        if within(DEADLINE, || self.output.is_complete().then_some(())).is_none() {
            panic!(
                "{} has ended, but something it started holds on to its output:\n{}",
                self.name,
                self.output()
            );
        }
        let output = self.output.lock();
        let of = |wanted| {
            output
                .lines
                .iter()
                .filter(|(from, _)| *from == wanted)
                .map(|(_, line)| format!("{line}\n"))
                .collect()
        };
        Finished { status, stdout: of(Stream::Out), stderr: of(Stream::Err) }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Finished {
    /// Expects an exit status.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "exit status ({}); {self}", self.status);
        self
    }

    /// Expects that the output, standard or error, contains each of `parts` somewhere.
    #[track_caller]
    pub fn expect_text(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(
                self.stdout.contains(part) || self.stderr.contains(part),
                "the output has no {part:?}; {self}"
            );
        }
        self
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "standard output:\n{}standard error:\n{}", self.stdout, self.stderr)
    }
}

/// Runs `command` in `namespace` to its end, with `input` on its standard input.
///
/// # Panics
///
/// If there is no such program, or it does not end.
#[track_caller]
pub fn run(namespace: &Namespace, command: &mut Command, input: &[u8]) -> Finished {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = namespace.spawn(command).unwrap_or_else(|error| panic!("cannot run {name}: {error}"));
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let stdout = scope.spawn(|| read_all(stdout.expect("piped")));
        let stderr = scope.spawn(|| read_all(stderr.expect("piped")));
        // A program that ends without reading its input is judged by how it ends.
        stdin.take().expect("piped").write_all(input).ok();
        let status = within(DEADLINE, || child.try_wait().expect("our own child"));
        if status.is_none() {
            child.kill().expect("not waited for");
        }
        let status = status.ok_or_else(|| child.wait());
        let (stdout, stderr) =
            (stdout.join().expect("readers do not panic"), stderr.join().expect("readers do not panic"));
        match status {
            Ok(status) => Finished { status, stdout, stderr },
            Err(_) => panic!("{name} has not ended within {DEADLINE:?}; it printed:\n{stdout}{stderr}"),
        }
    })
}

/// Runs a shell script in `namespace`, which ends at the first command that fails, and expects success.
///
/// # Panics
///
/// If a command fails, with what it said.
#[track_caller]
pub fn shell(namespace: &Namespace, script: &str) -> Finished {
    let path = folders().collect::<Vec<_>>().join(":");
    run(namespace, Command::new("sh").args(["-e", "-c", script]).env("PATH", path), b"").expect_code(0)
}

/// The path of `name`, a program of the Debian package `package`.
///
/// # Panics
///
/// If it is not installed, with the command that installs it.
pub fn installed(name: &str, package: &str) -> PathBuf {
    find_program(name).unwrap_or_else(|| {
        panic!("{name} is missing: run `apt-get install {package}` as root, or ci/deps.sh")
    })
}

/// The path of `name`, if it is installed.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    folders().map(|folder| Path::new(&folder).join(name)).find(|program| program.is_file())
}

/// Where programs are: an ordinary user's PATH lacks the folders of ip, nft and daemons.
fn folders() -> impl Iterator<Item = String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders: Vec<String> =
        path.split(':').chain(["/usr/local/sbin", "/usr/sbin", "/sbin"]).map(str::to_owned).collect();
    folders.into_iter()
}

/// The lines a program has printed, in the order they were read.
#[derive(Debug, Default)]
struct Output {
    state: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<(Stream, String)>,
    /// How many of the two streams have ended.
    ended: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        // A panic elsewhere leaves whole lines behind, and its reader wants to see them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no line can come any more.
    fn is_complete(&self) -> bool {
        self.lock().ended == 2
    }

    fn change(&self, change: impl FnOnce(&mut Lines)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// The first line for which `wanted` holds; `None` when the deadline passed or no line can come any more.
    fn wait_for(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let start = Instant::now();
        let mut state = self.lock();
        let mut seen = 0;
        loop {
            if let Some((_, line)) = state.lines[seen..].iter().find(|(_, line)| wanted(line)) {
                return Some(line.clone());
            }
            seen = state.lines.len();
            let left = DEADLINE.checked_sub(start.elapsed())?;
            if state.ended == 2 {
                return None;
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn read_lines(from: impl Read + Send + 'static, stream: Stream, output: Arc<Output>) {
    thread::spawn(move || {
        // Lossy: a line with anything but UTF-8 in it is still a line somebody wants to read.
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            output.change(|state| state.lines.push((stream, String::from_utf8_lossy(&line).into_owned())));
        }
        output.change(|state| state.ended += 1);
    });
}

fn read_all(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("reading a pipe");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolated;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_are_found_while_the_program_runs_and_its_end_is_seen() {
        isolated(|| {
            let here = Namespace::new("here");
            let program = Program::start(&here, &mut shell("echo one; echo two >&2; exec sleep 600"));
            assert_eq!(program.expect_line(&["t", "w"]), "two");
            assert_eq!(program.expect_line(&["one"]), "one");
            let finished = program.stop();
            assert_eq!(finished.status.code(), None);
            assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("one\n", "two\n"));
        });
    }

    #[test]
    #[should_panic(expected = "it printed:\nsomething else")]
    fn a_line_that_cannot_come_any_more_is_not_waited_for() {
        isolated(|| {
            let here = Namespace::new("here");
            Program::start(&here, &mut shell("echo something else")).expect_line(&["nothing"]);
        });
    }

    #[test]
    fn a_program_gets_its_input_and_is_judged_by_its_status() {
        isolated(|| {
            let here = Namespace::new("here");
            let finished = run(&here, &mut shell("cat; exit 3"), b"input\n");
            finished.expect_code(3).expect_text(&["input"]);
        });
    }
}
