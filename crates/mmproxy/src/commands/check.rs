//! `mmproxy check`: would a spoofed connection work, and what is missing if not?

mod sandbox;

use std::fmt;

use mmproxy_forwarder::{DialOptions, TargetAddr, Targets};
use mmproxy_routing::check::{self, Counters, ExitKind, Fact, Level, Strangers, Target, locate};
use mmproxy_routing::{Observed, Plan, State, Transport, observe};
use serde::Serialize;

use crate::cli::CheckArgs;
use crate::commands::routing::ways_in;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::jail::Available;
use crate::privileges;
use crate::resolve;
use crate::return_path::{self, ReturnPath, Served, failure};
use crate::runtime;
use crate::selfcheck::{self, Finding};

/// Looks and changes nothing; exit status 0 only if a spoofed connection to every target worked.
pub(crate) fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let targets = resolve::targets(args.about.targets)?;
    if !args.no_connect {
        privileges::require_spoofing()?;
    }
    let sandbox = sandbox::parts(Available::here());
    let ways_in = ways_in(&args.about.listener, args.about.path)?;
    let way_in = runtime::block_on(observe_all(&ways_in))??;
    args.about.netns.enter()?;
    let mut console = if args.json { Console::silent() } else { Console::stdout(false) };
    let mut seen = runtime::block_on(async {
        let served = Served {
            families: return_path::families_of(&targets),
            targets: Some(&targets),
            allowed: None,
            elsewhere: args.about.netns.is_given(),
        };
        let path = ReturnPath::choose(args.about.path, served).await?.here(&mut console);
        path.reasons().iter().for_each(|reason| console.fine(format_args!("[+] Return path: {reason}.")));
        let dial = return_path::mark(DialOptions::new(), &path);
        look(&path, &targets, (!args.no_connect).then_some(&dial)).await
    })??;
    seen.way_in = way_in;
    seen.sandbox = sandbox.to_vec();

    seen.print(&mut console);
    let exit = seen.exit();
    if args.json {
        let report = Report::new(exit, &seen);
        println!("{}", serde_json::to_string(&report).expect("strings, numbers and lists always serialize"));
    }
    Ok(exit)
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
    /// What workers could be confined with here.
    sandbox: Vec<sandbox::Part>,
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
async fn look(path: &ReturnPath, targets: &Targets, dial: Option<&DialOptions>) -> Result<Seen, Failure> {
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
    for target in targets.iter() {
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
        self.sandbox.iter().for_each(|part| console.always(part));
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

/// The same for another program.
#[derive(Debug, Serialize)]
struct Report<'a> {
    ok: bool,
    exit: u8,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    way_in: Vec<Object>,
    return_path: Vec<Object>,
    targets: &'a [Finding],
    findings: Vec<Described<'a>>,
    sandbox: Vec<sandbox::Described>,
}

/// One object of the return path.
#[derive(Debug, Serialize)]
struct Object {
    command: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<String>,
}

/// One finding; `subject`, `level` and `fact` are words from closed sets.
#[derive(Debug, Serialize)]
struct Described<'a> {
    subject: &'static str,
    target: Option<String>,
    level: &'static str,
    fact: &'static str,
    found: &'a str,
    why: &'a str,
    cure: Option<&'a str>,
}

impl<'a> Report<'a> {
    fn new(exit: Exit, seen: &'a Seen) -> Self {
        Self {
            ok: exit == Exit::Ok,
            exit: exit as u8,
            way_in: seen.way_in.iter().map(Object::new).collect(),
            return_path: seen.objects.iter().map(Object::new).collect(),
            targets: &seen.targets,
            findings: seen.findings.iter().chain(&seen.verdicts).map(Described::new).collect(),
            sandbox: seen.sandbox.iter().map(|part| part.described()).collect(),
        }
    }
}

impl Object {
    fn new(observed: &Observed) -> Self {
        let (state, found) = match &observed.state {
            State::Present(owner) => ("present", Some(owner.to_string())),
            State::Missing => ("missing", observed.near_miss.clone()),
            State::Different { found, .. } => ("different", Some(found.clone())),
        };
        Self { command: observed.step.to_string(), state, found }
    }
}

impl<'a> Described<'a> {
    fn new(finding: &'a check::Finding) -> Self {
        Self {
            subject: finding.subject.label(),
            target: finding.target.map(|target| target.to_string()),
            level: finding.level.label(),
            fact: finding.fact.label(),
            found: &finding.found,
            why: &finding.why,
            cure: finding.cure.as_deref(),
        }
    }
}
