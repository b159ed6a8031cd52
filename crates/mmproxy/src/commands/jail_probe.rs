//! `mmproxy jail-probe`: confines itself exactly as a worker does, and then tries what a worker must be able to do, or
//! must not. For the tests of the jail, which cannot be told from outside to do anything wrong.

mod attempt;

use std::env;
use std::io;
use std::process::Command;

use crate::cli::{JailProbeArgs, ProbeAction};
use crate::exit::{Exit, Failure};
use crate::jail::{Available, Confined, Confinement, ConnectPorts, confine, lending, listed, refuse_capset};

/// Exit status 0 if what was tried worked, 77 if it was refused, with the error's name on standard output. A system call
/// that is on no list ends the process before that.
pub(crate) fn run(args: &JailProbeArgs) -> Result<Exit, Failure> {
    if args.refuse_capset && !args.as_keeper {
        refuse_capset().map_err(|error| Failure::new(Exit::Software, error))?;
    }
    if args.as_keeper {
        return start_anew().map_err(|error| Failure::new(Exit::Software, error));
    }
    match &args.action {
        ProbeAction::Try { what, to } => {
            // What takes a file has to be had before.
            let prepared =
                attempt::prepare(*what, *to).map_err(|error| Failure::new(Exit::Software, error))?;
            enter(args)?;
            Ok(tell(prepared()))
        }
        ProbeAction::List => {
            println!("{}", Available::here());
            let (allowed, failing) = listed();
            for (call, by_arguments) in allowed {
                println!("{}: {call}", if by_arguments { "some arguments" } else { "allowed" });
            }
            failing.iter().for_each(|call| println!("fails: {call}"));
            Ok(Exit::Ok)
        }
    }
}

/// The same command line in a process of its own, which gets what a worker gets.
fn start_anew() -> io::Result<Exit> {
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1).filter(|argument| argument != "--as-keeper"));
    let status = lending(false, false, || command.status())?;
    Ok(if status.success() { Exit::Ok } else { Exit::NoPermission })
}

fn enter(args: &JailProbeArgs) -> Result<(), Failure> {
    let user = args.sandbox.user().map_err(|error| Failure::new(Exit::Config, error))?;
    let confinement = Confinement {
        user,
        keep_bind_low_ports: false,
        keep_net_admin: false,
        sandbox: args.sandbox.sandbox(),
        connect_ports: match args.connect_port.as_slice() {
            [] => ConnectPorts::Any,
            ports => ConnectPorts::Only(ports.to_vec()),
        },
        datagrams: args.datagrams,
        may_lack: args.sandbox.may_lack(),
    };
    let confined: Confined = confine(&confinement)?;
    println!("confined: {confined}");
    confined.gaps().iter().for_each(|gap| println!("gap: {gap}"));
    Ok(())
}

fn tell(outcome: io::Result<()>) -> Exit {
    match outcome {
        Ok(()) => {
            println!("worked");
            Exit::Ok
        }
        Err(error) => {
            let errno = error.raw_os_error().map(nix::errno::Errno::from_raw);
            println!("refused: {}", errno.map_or_else(|| error.to_string(), |errno| format!("{errno:?}")));
            Exit::NoPermission
        }
    }
}
