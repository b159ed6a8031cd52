//! `mmproxy check`: would a spoofed connection work, and what is missing if not?

mod report;
mod sandbox;
mod subject;

use std::fmt;
use std::panic::resume_unwind;
use std::thread;

use mmproxy_forwarder::{DialOptions, TargetAddr, Targets};
use mmproxy_routing::check::{self, Counters, ExitKind, Fact, Level, Strangers, Target, locate};
use mmproxy_routing::{Observed, Plan, State, Transport, observe};

use crate::cli::CheckArgs;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::jail::Available;
use crate::privileges;
use crate::return_path::{self, ReturnPath, failure};
use crate::runtime;
use crate::selfcheck::{self, Finding};

use self::subject::Subject;

/// Looks and changes nothing; exit status 0 only if a spoofed connection to every target worked.
pub(crate) fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let subjects = Subject::all(args)?;
    if !args.no_connect {
        privileges::require_spoofing()?;
    }
    let sandbox = sandbox::parts(Available::here());
    let mut console = if args.json { Console::silent() } else { Console::stdout(false) };
    let mut looked = Vec::new();
    for subject in &subjects {
        if let Some(name) = &subject.name {
            console.always(format_args!("Service {name}:"));
        }
        let seen = elsewhere(|| look_at(subject, !args.no_connect, &mut console));
        let exit = match &seen {
            Ok(seen) => {
                seen.print(&mut console);
                seen.exit()
            }
            // What keeps one service of a file from being looked at is no reason not to look at the others.
            Err(failure) if subject.name.is_some() => {
                console.always(format_args!("[!] FAILED: {}.", failure.reason()));
                failure.hints().iter().for_each(|hint| console.always(format_args!("  hint: {hint}")));
                failure.exit()
            }
            Err(_) => return seen.map(|_| Exit::Ok),
        };
        looked.push((subject.name.as_deref(), seen, exit));
    }
    sandbox.iter().for_each(|part| console.always(part));
    let exit = looked.iter().map(|(.., exit)| *exit).find(|exit| *exit != Exit::Ok).unwrap_or(Exit::Ok);
    if args.json {
        println!("{}", report::of(exit, &looked, &sandbox));
    }
    Ok(exit)
}

/// Runs `look` on a thread of its own, because it moves to the targets' network namespace and stays there.
fn elsewhere<T: Send>(look: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(look).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

/// Looks at one of them. Where only headers name targets, the way back is all that can be looked at.
fn look_at(subject: &Subject, connect: bool, console: &mut Console) -> Result<Seen, Failure> {
    let way_in = runtime::block_on(observe_all(&subject.ways_in))??;
    subject.netns.enter()?;
    let mut seen = runtime::block_on(async {
        let path = ReturnPath::choose(subject.path, subject.served()).await?.here(console);
        path.reasons().iter().for_each(|reason| console.fine(format_args!("[+] Return path: {reason}.")));
        let dial = return_path::mark(DialOptions::new(), &path);
        look(&path, subject.targets().as_ref(), connect.then_some(&dial)).await
    })??;
    seen.way_in = way_in;
    Ok(seen)
}

/// All that was looked at.
#[derive(Default)]
struct Seen {
    /// The objects of the way in, where ports are handed to a listener.
    way_in: Vec<Observed>,
    /// The objects of the plan.
    objects: Vec<Observed>,
    /// What lies between a spoofed connection and its target.
    findings: Vec<check::Finding>,
    /// The seed's three questions for each target.
    targets: Vec<Finding>,
    /// Where each spoofed connection died, or that it did not. Empty without connections.
    verdicts: Vec<check::Finding>,
}

async fn observe_all(plans: &[Plan]) -> Result<Vec<Observed>, Failure> {
    let mut objects: Vec<Observed> = Vec::new();
    for plan in plans {
        for object in observe(plan).await.map_err(failure)? {
            // Two ranges of ports share rule and route.
            if !objects.contains(&object) {
                objects.push(object);
            }
        }
    }
    Ok(objects)
}

/// Without `dial` nothing is connected to.
async fn look(
    path: &ReturnPath,
    targets: Option<&Targets>,
    dial: Option<&DialOptions>,
) -> Result<Seen, Failure> {
    let targets: Vec<TargetAddr> = targets.into_iter().flat_map(Targets::iter).collect();
    let mut seen = Seen::default();
    for plan in path.plans().await? {
        seen.objects.extend(observe_all(std::slice::from_ref(&plan)).await?);
        let checked: Vec<Target> = targets
            .iter()
            .map(|target| Target { address: target.addr(), transport: path.transport() })
            .filter(|target| plan.families().contains(target.address.ip().into()))
            .collect();
        for finding in check::examine(&plan, &checked, Strangers::default()).await {
            // What two plans find of the namespace as a whole is said once.
            if !seen.findings.contains(&finding) {
                seen.findings.push(finding);
            }
        }
    }
    // Of a datagram nobody can tell whether it arrived.
    let dial = dial.filter(|_| path.transport() == Transport::Tcp);
    for target in targets {
        seen.targets.push(selfcheck::route(target, path).await);
        if let Some(dial) = dial {
            seen.connect(target, dial).await?;
        }
    }
    Ok(seen)
}

impl Seen {
    /// Connects as anybody would and from a stranger's address, and finds where the latter died.
    async fn connect(&mut self, target: TargetAddr, dial: &DialOptions) -> Result<(), Failure> {
        let conventional = selfcheck::conventional(target, dial).await;
        let up = conventional.passed();
        self.targets.push(conventional);

        let counters = || Counters::read().map_err(|error| Failure::new(Exit::Unavailable, error));
        let before = counters()?;
        let (spoofed, attempt) = selfcheck::spoofed(target, dial).await;
        let moved = counters()?.since(&before);
        if let Some(attempt) = attempt {
            self.verdicts.push(locate(Target::tcp(target.addr()), attempt, &moved, &self.findings));
        }
        // Of a target that is down the conventional connection has told already.
        if up {
            self.targets.push(spoofed);
        }
        Ok(())
    }

    fn print(&self, console: &mut Console) {
        let objects = self.way_in.iter().chain(&self.objects);
        objects.for_each(|observed| return_path::print_observed(observed, console));
        self.findings.iter().for_each(|finding| console.always(Line(finding)));
        self.targets.iter().for_each(|finding| console.always(finding));
        let died = self.verdicts.iter().filter(|verdict| verdict.level == Level::Failed);
        died.for_each(|verdict| console.always(Line(verdict)));
    }

    /// Connections decide where they were made: an object of the plan may be missing because the operator brings
    /// replies back in another way. Without connections the first thing that cannot work decides.
    fn exit(&self) -> Exit {
        let connected = self.targets.iter().any(|finding| finding.step.connects());
        let found = if connected { &self.verdicts } else { &self.findings };
        // A forwarder in front connects fine, and hides the client.
        let hidden = self.findings.iter().filter(|finding| finding.fact == Fact::PortForwarder);
        match found.iter().chain(hidden).find_map(|finding| finding.exit) {
            Some(ExitKind::Unavailable) => Exit::Unavailable,
            Some(ExitKind::Permission) => Exit::NoPermission,
            Some(ExitKind::Configuration) => Exit::Config,
            None if self.way_in.iter().any(|found| !matches!(found.state, State::Present(_))) => Exit::Config,
            // An attempt that died before it was one has no verdict.
            None => {
                let connections = self.targets.iter().filter(|finding| finding.step.connects());
                let problem = connections.filter_map(|finding| finding.problem.as_ref()).next();
                problem.map_or(Exit::Ok, |problem| problem.exit)
            }
        }
    }
}

/// A finding in the seed's voice.
struct Line<'a>(&'a check::Finding);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let finding = self.0;
        match finding.level {
            Level::Ok => write!(f, "[+] OK. {finding}.")?,
            Level::Note => write!(f, "[+] NOTE: {finding}.")?,
            Level::Warning => write!(f, "[!] WARNING: {finding}.")?,
            Level::Failed => write!(f, "[!] FAILED: {finding}.")?,
        }
        if !finding.why.is_empty() {
            write!(f, " Why it matters: {}.", finding.why)?;
        }
        match &finding.cure {
            Some(cure) => write!(f, " Cure: {cure}."),
            None => Ok(()),
        }
    }
}
