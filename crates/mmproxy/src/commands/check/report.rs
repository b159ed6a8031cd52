//! What `mmproxy check` found, as JSON for another program.

use mmproxy_routing::check;
use mmproxy_routing::{Observed, State};
use serde::Serialize;

use super::{Seen, sandbox};
use crate::exit::{Exit, Failure};
use crate::selfcheck::Finding;

/// What was looked at: the service's name, if it is one of a file, what was seen, and what that comes to.
pub(super) type Looked<'a> = (Option<&'a str>, Result<Seen, Failure>, Exit);

/// One object: of what flags describe, or with one in it for each service of a file.
pub(super) fn of(exit: Exit, looked: &[Looked<'_>], sandbox: &[sandbox::Part]) -> String {
    let sandbox = sandbox.iter().map(|part| part.described()).collect();
    let text = match looked {
        [only @ (None, ..)] => serde_json::to_string(&Report::new(only, sandbox)),
        services => serde_json::to_string(&Reports {
            ok: exit == Exit::Ok,
            exit: exit as u8,
            services: services.iter().map(|service| Report::new(service, Vec::new())).collect(),
            sandbox,
        }),
    };
    text.expect("strings, numbers and lists always serialize")
}

/// All services of a configuration file.
#[derive(Debug, Serialize)]
struct Reports<'a> {
    ok: bool,
    exit: u8,
    services: Vec<Report<'a>>,
    sandbox: Vec<sandbox::Described>,
}

/// One of them, or the only one.
#[derive(Debug, Serialize)]
struct Report<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    ok: bool,
    exit: u8,
    /// Why nothing was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    way_in: Vec<Object>,
    return_path: Vec<Object>,
    targets: &'a [Finding],
    findings: Vec<Described<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
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
    fn new((service, seen, exit): &'a Looked<'a>, sandbox: Vec<sandbox::Described>) -> Self {
        let (seen, error) = match seen {
            Ok(seen) => (Some(seen), None),
            Err(failure) => (None, Some(failure.reason())),
        };
        let objects = |of: fn(&Seen) -> &[Observed]| {
            seen.map(of).unwrap_or_default().iter().map(Object::new).collect::<Vec<_>>()
        };
        let found = seen.into_iter().flat_map(|seen| seen.findings.iter().chain(&seen.verdicts));
        Self {
            service: *service,
            ok: *exit == Exit::Ok,
            exit: *exit as u8,
            error,
            way_in: objects(|seen| &seen.way_in),
            return_path: objects(|seen| &seen.objects),
            targets: seen.map(|seen| seen.targets.as_slice()).unwrap_or_default(),
            findings: found.map(Described::new).collect(),
            sandbox,
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
