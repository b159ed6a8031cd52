//! `mmproxy status`, `sessions`, `kill`, `trace` and `reload`: what a running mmproxy is asked by its control socket.

mod status;

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::cli::{KillArgs, ReloadArgs, SessionsArgs, StatusArgs, TraceArgs};
use crate::control::{Client, Meant, NamedSession, Reply, Request, Status};
use crate::escape::escape;
use crate::exit::{Exit, Failure};
use crate::table::Table;
use crate::units::{size, time};

/// Shows how it is.
pub(crate) fn status(args: &StatusArgs) -> Result<Exit, Failure> {
    let mut client = Client::connect(&args.control.control)?;
    let before = how_it_is(&mut client)?;
    if args.json {
        print(&json(&*before)?);
        return Ok(Exit::Ok);
    }
    let asked = Instant::now();
    thread::sleep(SAMPLE);
    let after = how_it_is(&mut client)?;
    print(&status::Shown { before: &before, after: &after, between: asked.elapsed() }.to_string());
    Ok(Exit::Ok)
}

fn how_it_is(client: &mut Client) -> Result<Box<Status>, Failure> {
    match client.ask(&Request::Status)? {
        Reply::Status(status) => Ok(status),
        Reply::Sessions(_)
        | Reply::Killed(_)
        | Reply::Deny(_)
        | Reply::Step(_)
        | Reply::Reloaded
        | Reply::Refused { .. } => Err(unexpected()),
    }
}

/// Lists who is served.
pub(crate) fn sessions(args: &SessionsArgs) -> Result<Exit, Failure> {
    let request = Request::Sessions { client: args.client, at_most: args.at_most };
    let Reply::Sessions(sessions) = Client::connect(&args.control.control)?.ask(&request)? else {
        return Err(unexpected());
    };
    if args.json {
        for session in &sessions {
            print(&json(session)?);
        }
    } else {
        print(&listed(&sessions).to_string());
    }
    Ok(Exit::Ok)
}

/// Ends sessions.
pub(crate) fn kill(args: &KillArgs) -> Result<Exit, Failure> {
    let meant = match (args.session, args.client) {
        (Some(session), _) => Meant::Session(session),
        (None, Some(client)) => Meant::Client(client),
        (None, None) => return Err(Failure::new(Exit::Usage, "neither a session nor --client is given")),
    };
    let Reply::Killed(killed) = Client::connect(&args.control.control)?.ask(&Request::Kill(meant))? else {
        return Err(unexpected());
    };
    if killed.is_empty() {
        return Err(Failure::new(Exit::Unavailable, "no such session lives")
            .hint("`mmproxy sessions` lists those that do"));
    }
    for name in killed {
        print(&format!("[+] Session {name} is closed."));
    }
    Ok(Exit::Ok)
}

/// Shows each step of sessions as they happen, until interrupted.
pub(crate) fn trace(args: &TraceArgs) -> Result<Exit, Failure> {
    let mut client = Client::connect(&args.control.control)?;
    client.say(&Request::Trace { client: args.client })?;
    while let Some(reply) = client.reply()? {
        let Reply::Step(step) = reply else { return Err(unexpected()) };
        if args.json {
            print(&json(&step)?);
        } else {
            let who = step.client.as_deref().unwrap_or("-");
            let line = format!(
                "{} {} peer={} client={who} {} {}",
                step.service, step.id, step.peer, step.step, step.detail
            );
            print(&escape(line.as_bytes()));
        }
    }
    Err(Failure::new(Exit::Unavailable, "mmproxy has ended"))
}

/// Has everything read again.
pub(crate) fn reload(args: &ReloadArgs) -> Result<Exit, Failure> {
    let connected = Client::connect(&args.control.control);
    if let (Err(failure), Some(pid)) = (&connected, args.or_signal)
        && failure.exit() == Exit::Unavailable
    {
        return hang_up(pid);
    }
    let Reply::Reloaded = connected?.ask(&Request::Reload)? else {
        return Err(unexpected());
    };
    print("[+] Reloaded.");
    Ok(Exit::Ok)
}

fn hang_up(pid: i32) -> Result<Exit, Failure> {
    signal::kill(Pid::from_raw(pid), Signal::SIGHUP).map_err(|error| {
        Failure::new(Exit::Unavailable, format!("cannot send SIGHUP to process {pid}: {error}"))
    })?;
    print("[+] Asked by SIGHUP to reload; the log says what came of it.");
    Ok(Exit::Ok)
}

fn listed(sessions: &[NamedSession]) -> Table {
    let mut table = Table::new(
        &["SESSION", "SERVICE", "CLIENT", "BALANCER", "TARGET", "STATE", "AGE", "UP", "DOWN", "RTT", "RETR"],
        &[6, 7, 8, 9, 10],
    );
    for NamedSession { session, row } in sessions {
        let tcp = row.peer_tcp.as_ref();
        table.row([
            session.to_string(),
            row.service.clone(),
            row.client.clone().unwrap_or_else(nothing),
            row.peer.clone(),
            row.target.clone().unwrap_or_else(nothing),
            row.state.clone(),
            time(row.age_ms / 1000),
            size(row.bytes_up),
            size(row.bytes_down),
            tcp.map_or_else(nothing, |tcp| format!("{:.1} ms", tcp.rtt_ms)),
            tcp.map_or_else(nothing, |tcp| tcp.retransmits.to_string()),
        ]);
    }
    table
}

fn nothing() -> String {
    "-".to_owned()
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::new(Exit::Software, error))
}

/// A reader that goes away (`| head`) is no reason to complain.
pub(super) fn print(text: &str) {
    writeln!(std::io::stdout(), "{text}").ok();
}

/// An answer that does not fit what was asked.
pub(super) fn unexpected() -> Failure {
    Failure::new(Exit::Software, "the answer is to another question")
        .hint("the running mmproxy may be of another version: restart it")
}

/// Between the two looks that rates are made of.
const SAMPLE: Duration = Duration::from_secs(1);
