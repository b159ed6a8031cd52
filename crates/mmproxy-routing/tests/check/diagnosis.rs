//! What the tests of a check have in common: a diagnosis and the attempt that proves it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};

use mmproxy_routing::check::{Attempt, Counters, Fact, Finding, Level, Strangers, Target, examine, locate};
use mmproxy_routing::{Families, Mode, Plan, Settings, apply};

use crate::namespace::default_routes;
use crate::spoof::{PATIENCE, connect, udp_to};

pub(crate) fn fwmark() -> Plan {
    Plan::fwmark(Settings::default(), Families::BOTH)
}

/// What a check finds and, of a spoofed connection that is then really tried, the verdict.
pub(crate) async fn diagnose(plan: &Plan, target: Target) -> (Vec<Finding>, Finding) {
    let findings = examine(plan, &[target], Strangers::default()).await;
    // In mode socket the firewall marks the replies; a marked connection would not leave this host.
    let mark = if plan.mode() == Some(Mode::Socket) { 0 } else { 123 };
    let before = Counters::read().unwrap();
    let outcome = connect(Strangers::default().toward(target), target.address, mark, PATIENCE);
    let moved = Counters::read().unwrap().since(&before);
    let attempt = match outcome.map_err(|error| error.kind()) {
        Ok(()) => Attempt::Connected,
        Err(io::ErrorKind::ConnectionRefused) => Attempt::Refused,
        Err(io::ErrorKind::TimedOut) => Attempt::TimedOut,
        Err(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => Attempt::Unreachable,
        Err(io::ErrorKind::PermissionDenied) => Attempt::NotPermitted,
        Err(kind) => panic!("{kind}"),
    };
    let verdict = locate(target, attempt, &moved, &findings);
    (findings, verdict)
}

/// The same for UDP, where `server`, if there is one, answers what it gets.
pub(crate) async fn diagnose_udp(
    plan: &Plan,
    target: Target,
    server: Option<&UdpSocket>,
) -> (Vec<Finding>, Finding) {
    let findings = examine(plan, &[target], Strangers::default()).await;
    let mark = if plan.mode() == Some(Mode::Connmark) { 123 } else { 0 };
    let before = Counters::read().unwrap();
    let client = Strangers::default().toward(target);
    let outcome = udp_to(server, target.address, client, mark);
    let moved = Counters::read().unwrap().since(&before);
    let attempt = match outcome.map_err(|error| error.kind()) {
        Ok(()) => Attempt::Connected,
        Err(io::ErrorKind::ConnectionRefused) => Attempt::Refused,
        Err(io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => Attempt::TimedOut,
        Err(kind) => panic!("{kind}"),
    };
    let verdict = locate(target, attempt, &moved, &findings);
    (findings, verdict)
}

pub(crate) fn facts(findings: &[Finding], level: Level) -> Vec<Fact> {
    findings.iter().filter(|finding| finding.level == level).map(|finding| finding.fact).collect()
}

#[track_caller]
pub(crate) fn one(findings: &[Finding], fact: Fact) -> &Finding {
    findings
        .iter()
        .find(|finding| finding.fact == fact)
        .unwrap_or_else(|| panic!("no {fact} in {findings:#?}"))
}

/// Loads a ruleset of nftables.
pub(crate) fn nft(ruleset: &str) {
    let mut process =
        Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft is needed");
    process.stdin.take().unwrap().write_all(ruleset.as_bytes()).unwrap();
    assert!(process.wait().unwrap().success(), "{ruleset}");
}

/// A namespace with default routes, where replies come back to 127.0.0.1 and ::1 in mode fwmark.
pub(crate) async fn working() -> (TcpListener, Target) {
    default_routes();
    apply(&fwmark()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::tcp(listener.local_addr().unwrap());
    (listener, target)
}

/// Another program that listens: this one, started again under another name or in another place.
pub(crate) struct StandIn {
    process: Child,
}

impl StandIn {
    /// Starts it and waits until it listens on `address`; `more` are arguments for others to look at.
    pub(crate) fn start(program: &mut Command, address: &str, more: &[&str]) -> Self {
        let mut process = program
            .args(["--exact", "diagnosis::stand_in", "--nocapture", "--"])
            .args(more)
            .env(LISTEN, address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "listening"), "it did not start");
        Self { process }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

/// Listens where its parent says, and nowhere if it has none.
#[test]
fn stand_in() {
    let Some(address) = std::env::var_os(LISTEN) else { return };
    let _listener = TcpListener::bind(address.to_str().unwrap()).unwrap();
    println!("listening");
    // Until the parent lets go of it.
    io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
}

const LISTEN: &str = "MMPROXY_CHECK_LISTEN";
