//! A program in a terminal of its own: keys go in, and what a person would see comes out.

mod picture;

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

use crate::expect::{DEADLINE, within};
use crate::netns::Namespace;
use crate::process::installed;

/// A running program, and the terminal that it has for itself. Killed when dropped.
pub struct Screen {
    name: String,
    child: Child,
    terminal: File,
    shown: Arc<Mutex<vt100::Parser>>,
}

impl Screen {
    /// Starts `command` in `namespace`, on a terminal of so many rows and columns.
    ///
    /// # Panics
    ///
    /// If there is no such program.
    #[track_caller]
    pub fn start(namespace: &Namespace, command: &Command, (rows, columns): (u16, u16)) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).expect("a pseudo-terminal to spare");
        let slave = || Stdio::from(pty.slave.try_clone().expect("a descriptor to spare"));
        // It makes the terminal the program's own, as a login does, so that resizing and hanging up reach it; the terminal
        // that runs the tests stays out of it.
        let mut alone = Command::new(installed("setsid", "util-linux"));
        alone.arg("--ctty").arg(command.get_program()).args(command.get_args());
        alone.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        alone.stdin(slave()).stdout(slave()).stderr(slave());
        let child = namespace.spawn(&mut alone).unwrap_or_else(|error| panic!("cannot run {name}: {error}"));
        drop((alone, pty.slave));
        let terminal = File::from(pty.master);
        let shown = Arc::new(Mutex::new(vt100::Parser::new(at_least_one(rows), at_least_one(columns), 0)));
        let mut output = terminal.try_clone().expect("a descriptor to spare");
        let there = Arc::clone(&shown);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error is the end: nobody has the other side any more.
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                lock(&there).process(&buffer[..length]);
            }
        });
        Self { name, child, terminal, shown }
    }

    /// Presses keys; `\x1b[C` is the arrow to the right.
    pub fn press(&self, keys: &str) {
        (&self.terminal).write_all(keys.as_bytes()).expect("the terminal is there");
    }

    /// The first line that has all of `parts`, with one blank where there are several; waits for it.
    ///
    /// # Panics
    ///
    /// If it does not come, with what is shown instead.
    #[track_caller]
    pub fn expect_line(&self, parts: &[&str]) -> String {
        let found = within(DEADLINE, || {
            let lines = self.lines();
            lines.into_iter().find(|line| parts.iter().all(|part| line.contains(part)))
        });
        found.unwrap_or_else(|| {
            panic!("{} never showed a line with {parts:?}; it shows:\n{}", self.name, self.text())
        })
    }

    /// What is shown now, each line with one blank where there are several.
    pub fn lines(&self) -> Vec<String> {
        let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        self.text().lines().map(squeezed).collect()
    }

    /// What is shown now.
    pub fn text(&self) -> String {
        lock(&self.shown).screen().contents()
    }

    /// Whether the program has the terminal for itself: keys come unechoed, and what was there before is kept aside.
    pub fn is_taken(&self) -> bool {
        let settings = tcgetattr(&self.terminal).expect("the terminal is there");
        let raw = !settings.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO);
        let shown = lock(&self.shown);
        raw || shown.screen().alternate_screen() || shown.screen().hide_cursor()
    }

    /// Gives the terminal another size; the program is told by SIGWINCH.
    pub fn resize(&self, (rows, columns): (u16, u16)) {
        lock(&self.shown).screen_mut().set_size(at_least_one(rows), at_least_one(columns));
        let mut stty = Command::new(installed("stty", "coreutils"));
        stty.args(["rows", &rows.to_string(), "columns", &columns.to_string()]);
        stty.stdin(self.terminal.try_clone().expect("a descriptor to spare"));
        assert!(stty.status().expect("it is installed").success(), "stty cannot resize the terminal");
    }

    /// What is shown now as a picture: SVG, as dark terminals have it.
    pub fn picture(&self) -> String {
        picture::svg(lock(&self.shown).screen())
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("process numbers are positive"));
        kill(pid, signal).unwrap_or_else(|error| panic!("{signal} to {}: {error}", self.name));
    }

    /// Waits for the program's end.
    ///
    /// # Panics
    ///
    /// If it does not come, with what is shown.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let ended = within(DEADLINE, || self.child.try_wait().expect("our own child"));
        ended.unwrap_or_else(|| {
            panic!("{} has not ended within {DEADLINE:?}; it shows:\n{}", self.name, self.text())
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("name", &self.name).field("text", &self.text()).finish_non_exhaustive()
    }
}

fn lock(shown: &Mutex<vt100::Parser>) -> MutexGuard<'_, vt100::Parser> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

fn at_least_one(size: u16) -> NonZeroU16 {
    NonZeroU16::new(size).unwrap_or(NonZeroU16::MIN)
}
