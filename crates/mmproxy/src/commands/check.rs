//! `mmproxy check`: would a spoofed connection work, and what is missing if not?

use mmproxy_forwarder::{DialOptions, Targets};
use mmproxy_routing::{Observed, Plan, State, observe};
use serde::Serialize;

use crate::cli::CheckArgs;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::privileges;
use crate::resolve;
use crate::return_path::{self, failure};
use crate::runtime;
use crate::selfcheck::{self, Finding, Step};

/// Looks and changes nothing; exit status 0 only if a spoofed connection to every target worked.
pub(crate) fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let targets = resolve::targets(args.targets)?;
    privileges::require_spoofing()?;
    let mut console = if args.json { Console::silent() } else { Console::stdout(false) };
    let plan =
        return_path::plan(args.path, Some(&targets), return_path::families_of(&targets), &mut console)?;
    let dial = DialOptions::new().mark(return_path::mark(args.path));
    let (observed, findings) = runtime::block_on(look(&plan, &targets, &dial))??;

    observed.iter().for_each(|observed| return_path::print_observed(observed, &mut console));
    findings.iter().for_each(|finding| console.always(finding));
    let exit = verdict(&findings);
    if args.json {
        let report = Report::new(exit, &observed, &findings);
        println!("{}", serde_json::to_string(&report).expect("strings, numbers and lists always serialize"));
    }
    Ok(exit)
}

async fn look(
    plan: &Plan,
    targets: &Targets,
    dial: &DialOptions,
) -> Result<(Vec<Observed>, Vec<Finding>), Failure> {
    let observed = observe(plan).await.map_err(failure)?;
    Ok((observed, selfcheck::examine(targets, dial).await))
}

/// The connection decides: where it works, an object of the plan may be missing because the operator brings
/// replies back in another way.
fn verdict(findings: &[Finding]) -> Exit {
    let connection = |finding: &&Finding| finding.step != Step::Route;
    let problem = findings.iter().filter(connection).find_map(|finding| finding.problem.as_ref());
    problem.map_or(Exit::Ok, |problem| problem.exit)
}

/// The findings for another program.
#[derive(Debug, Serialize)]
struct Report<'a> {
    ok: bool,
    exit: u8,
    return_path: Vec<Object>,
    targets: &'a [Finding],
}

/// One object of the return path.
#[derive(Debug, Serialize)]
struct Object {
    command: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<String>,
}

impl<'a> Report<'a> {
    fn new(exit: Exit, observed: &[Observed], targets: &'a [Finding]) -> Self {
        let return_path = observed.iter().map(Object::new).collect();
        Self { ok: exit == Exit::Ok, exit: exit as u8, return_path, targets }
    }
}

impl Object {
    fn new(observed: &Observed) -> Self {
        let (state, found) = match &observed.state {
            State::Present(owner) => ("present", Some(owner.to_string())),
            State::Missing => ("missing", None),
            State::Different { found, .. } => ("different", Some(found.clone())),
        };
        Self { command: observed.step.to_string(), state, found }
    }
}
