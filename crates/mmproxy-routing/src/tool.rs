//! Other programs: where they are, and what they list.

use std::io;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Runs a program that reads nothing, in the network namespace of the calling thread, and waits for its end.
///
/// # Errors
///
/// Those of [`converse`].
pub(crate) async fn listed(program: &str, arguments: &[&str]) -> io::Result<Output> {
    converse(program, arguments, None).await
}

/// The same with a program that reads `input`.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] where there is no such program, [`io::ErrorKind::TimedOut`] after [`DEADLINE`].
pub(crate) async fn converse(program: &str, arguments: &[&str], input: Option<&str>) -> io::Result<Output> {
    let mut process = Command::new(find(program)?)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let conversation = async {
        if let (Some(text), Some(mut stdin)) = (input, process.stdin.take()) {
            stdin.write_all(text.as_bytes()).await?;
        }
        process.wait_with_output().await
    };
    tokio::time::timeout(DEADLINE, conversation).await.unwrap_or_else(|_| {
        let late = format!("no answer within {} s", DEADLINE.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, late))
    })
}

/// Where a program is. Looked for here, because a user's `PATH` often lacks the system's programs, and because a
/// directory in it that may not be read would hide that the program is missing.
fn find(program: &str) -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "it is not in PATH, /usr/sbin, /sbin and /usr/local/sbin")
        })
}

/// How long a conversation may take. A firewall of a hundred thousand rules takes seconds.
const DEADLINE: Duration = Duration::from_secs(20);
