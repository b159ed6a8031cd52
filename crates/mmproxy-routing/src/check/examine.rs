//! Everything between a spoofed connection and its target, looked at in order.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::capabilities;
use super::fact::Fact;
use super::finding::{ExitKind, Finding, Level, Subject, Target};
use super::firewall::{Firewall, Flow, Marks, side_effects};
use super::fit::{marks_replies, suits, wants_local_target};
use super::ground::{Ground, reply, request};
use super::listener;
use super::neighbours;
use super::process::{Process, holders};
use super::reply::{Answer, Case, unmarked};
use super::rules::Packet;
use super::sockets::{Bound, waiting};
use super::sysctls::{self, Needs};
use crate::family::ipv6_off;
use crate::mode::{Family, Mode, Transport};
use crate::observe::{Observed, State, observe};
use crate::plan::Plan;
use crate::step::Step;

/// The clients to ask about, one for each family.
///
/// Default 192.0.2.1 and 2001:db8::1, from the documentation ranges (RFC 5737, RFC 3849), as in the original mmproxy:
/// no host has them, so a route that takes them takes any stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strangers {
    /// For IPv4 targets.
    pub v4: Ipv4Addr,
    /// For IPv6 targets.
    pub v6: Ipv6Addr,
}

impl Strangers {
    /// The client for a target's family.
    #[must_use]
    pub const fn toward(&self, target: Target) -> IpAddr {
        match family(target) {
            Family::V4 => IpAddr::V4(self.v4),
            Family::V6 => IpAddr::V6(self.v6),
        }
    }
}

impl Default for Strangers {
    fn default() -> Self {
        Self { v4: Ipv4Addr::new(192, 0, 2, 1), v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1) }
    }
}

/// Looks at everything between spoofed connections and their targets, in the calling thread's network namespace, and
/// changes nothing.
///
/// What concerns the whole namespace comes first, then the targets in order, then side effects. Routes, switches and
/// sockets take no privilege; what a privilege would have shown is named in a note. Rules and tables are read once,
/// however many targets there are. Needs a tokio runtime with I/O and time enabled.
///
/// A plan without a [mode](Plan::mode) has no targets, and nothing to say about any.
pub async fn examine(plan: &Plan, targets: &[Target], strangers: Strangers) -> Vec<Finding> {
    let Some(mode) = plan.mode() else { return Vec::new() };
    let mut findings = vec![capabilities::examine()];
    let ground = match Ground::read(plan).await {
        Ok(ground) => ground,
        Err(error) => {
            let why = "without an answer of the kernel, nothing can be said about replies";
            let found =
                Finding::failed(Subject::Kernel, Fact::Unknown, ExitKind::Unavailable, error.to_string());
            findings.push(found.because(why));
            return findings;
        }
    };
    if !ground.loopback_is_up {
        findings.push(
            Finding::failed(
                Subject::Kernel,
                Fact::LoopbackDown,
                ExitKind::Configuration,
                "the loopback interface is down",
            )
            .because("nothing can be delivered on this host")
            .cured_by("`ip link set lo up`"),
        );
    }
    let (firewall, notes) = Firewall::read().await;
    let mut check = Check {
        plan,
        mode,
        strangers,
        ground,
        sockets: Sockets::read(targets),
        firewall,
        devices: Vec::new(),
    };
    let mut of_targets = Vec::new();
    for &target in targets {
        of_targets.extend(check.target(target).await);
    }
    findings.extend(check.switches(targets));
    findings.extend(check.objects().await);
    findings.append(&mut of_targets);
    findings.extend(notes);
    findings.extend(check.side_effects());
    findings
}

struct Check<'a> {
    plan: &'a Plan,
    mode: Mode,
    strangers: Strangers,
    ground: Ground,
    sockets: Sockets,
    firewall: Option<Firewall>,
    /// The interfaces by which packets leave or come back.
    devices: Vec<String>,
}

impl Check<'_> {
    fn mark(&self) -> u32 {
        self.plan.settings().mark.get()
    }

    async fn target(&mut self, target: Target) -> Vec<Finding> {
        let client = self.strangers.toward(target);
        let there = self.ground.ask(&request(target, client), false).await;
        let (local, device) = match &there {
            Answer::Here { .. } => (Some(true), None),
            Answer::Away { device, .. } => (Some(false), device.as_deref()),
            Answer::Nowhere | Answer::Filtered | Answer::Refused(_) => (None, None),
        };
        let mut findings = vec![self.route(target, &there)];

        let mut uid = None;
        if local != Some(false) {
            let (listeners, owner) = self.sockets.judge(target, self.mode);
            findings.extend(listeners);
            uid = owner;
        }
        let fit = suits(self.mode, target, local);
        let fits = fit.level == Level::Ok;
        findings.push(fit);
        // What cannot be reached does not reply.
        if fits && local.is_some() {
            if family(target) == Family::V6 {
                findings.extend(device.and_then(neighbours::judge).map(|finding| finding.at(target)));
            }
            self.devices.extend(device.map(str::to_owned));
            self.devices.extend(self.first_way_out(target, client).await);
            findings.extend(self.reply(target, client, device, uid).await);
            if let Some(firewall) = &self.firewall {
                let flow = self.flow(target, client, device);
                findings.extend(firewall.examine(&flow).await);
            }
        }
        findings
    }

    /// Where packets to the target go.
    fn route(&self, target: Target, there: &Answer) -> Finding {
        let ip = target.address.ip();
        let way = format!("a packet to {ip} {there}");
        let finding = match (there, wants_local_target(self.mode)) {
            (Answer::Here { .. }, true) | (Answer::Away { .. }, false) => {
                Finding::ok(Subject::Route, Fact::TargetReachable, way)
            }
            // Whether the mode serves such a target is said elsewhere.
            (Answer::Here { .. }, false) => Finding::note(Subject::Route, Fact::TargetReachable, way),
            (Answer::Away { .. }, true) => {
                Finding::failed(Subject::Route, Fact::TargetElsewhere, ExitKind::Configuration, way)
                    .because("this mode brings back replies of this host alone")
                    .cured_by("name an address of this host as the target, or use `--return-path socket`")
            }
            (Answer::Nowhere | Answer::Filtered, _) => {
                Finding::failed(Subject::Route, Fact::TargetUnroutable, ExitKind::Configuration, way)
                    .because("nothing gets to the target")
                    .cured_by(format!("`ip route get {ip}` asks the same question"))
            }
            (Answer::Refused(_), _) => Finding::warning(Subject::Route, Fact::Unknown, way)
                .because("the kernel did not answer the question where packets to the target go"),
        };
        finding.at(target)
    }

    /// Where the target's replies go.
    async fn reply(
        &self,
        target: Target,
        client: IpAddr,
        device: Option<&str>,
        uid: Option<u32>,
    ) -> Vec<Finding> {
        let family = family(target);
        let mark = if marks_replies(self.mode) { self.mark() } else { 0 };
        let packet = Packet { input: device.unwrap_or("lo"), ..reply(target, client, mark, uid) };
        let Some(wanted) = self.ground.wanted(family, &packet) else {
            return vec![
                Finding::failed(
                    Subject::Reply,
                    Fact::FamilyMissing,
                    ExitKind::Configuration,
                    format!("the return path has nothing for {family} replies from this target"),
                )
                .because("they follow the ordinary routes, and do not come back")
                .cured_by(
                    "name the target when the return path is installed, with the same options as the gateway",
                )
                .at(target),
            ];
        };
        let rules = self.ground.rules(family);
        let answer = self.ground.ask(&packet, true).await;
        let marked = Case { target, packet, rules, wanted, answer: &answer }.judge();

        let bare = Packet { mark: 0, ..packet };
        let accepts = || sysctls::read("ipv4/tcp_fwmark_accept") != Some(0);
        if self.mode == Mode::Fwmark && target.transport == Transport::Tcp && !accepts() {
            let answer = self.ground.ask(&bare, true).await;
            let unmarked = unmarked(&Case { target, packet: bare, rules, wanted, answer: &answer });
            return [unmarked].into_iter().chain((marked.level != Level::Ok).then_some(marked)).collect();
        }
        if self.mode == Mode::Connmark
            && let Some(lost) = self.lost_before_the_mark(&bare).await
        {
            return vec![lost.at(target), marked];
        }
        vec![marked]
    }

    /// The interface by which mode connmark first routes a reply.
    async fn first_way_out(&self, target: Target, client: IpAddr) -> Option<String> {
        if self.mode != Mode::Connmark {
            return None;
        }
        match self.ground.ask_once(&reply(target, client, 0, None), false).await {
            Answer::Away { device, .. } => device,
            Answer::Here { .. } | Answer::Nowhere | Answer::Filtered | Answer::Refused(_) => None,
        }
    }

    /// Why a reply does not get as far as to the place where mode connmark marks it.
    async fn lost_before_the_mark(&self, bare: &Packet<'_>) -> Option<Finding> {
        let lost = |found: String| {
            Finding::failed(Subject::Reply, Fact::ReplyAstray, ExitKind::Configuration, found)
                .because("mode connmark marks replies after they were routed once")
        };
        let client = bare.to;
        if matches!(self.ground.ask_once(bare, true).await, Answer::Away { .. } | Answer::Here { .. }) {
            return None;
        }
        match self.ground.ask_once(bare, false).await {
            Answer::Away { device: Some(device), .. } if bare.from.is_loopback() => {
                Some(lost(format!("a reply from {} may not be routed out by {device}", bare.from)).cured_by(
                    format!(
                        "`mmproxy setup`, or `sysctl -w net.ipv4.conf.{}.route_localnet=1`",
                        device.replace('.', "/")
                    ),
                ))
            }
            Answer::Nowhere => Some(
                lost(format!("a reply to {client} has no route before the firewall can mark it"))
                    .cured_by("add a default route, or use `--return-path fwmark`"),
            ),
            Answer::Here { .. } | Answer::Away { .. } | Answer::Filtered | Answer::Refused(_) => None,
        }
    }

    fn flow<'d>(&self, target: Target, client: IpAddr, device: Option<&'d str>) -> Flow<'d> {
        let ours = Some(self.mark());
        let (mark, reply_mark) = match self.mode {
            Mode::Fwmark => (ours, ours),
            Mode::Connmark => (ours, None),
            // Replies come in without one.
            Mode::Socket => (None, Some(0)),
            Mode::Source | Mode::Port => (None, None),
        };
        Flow { target, client, mark, reply_mark, rerouted: self.mode == Mode::Connmark, device }
    }

    fn switches(&mut self, targets: &[Target]) -> Vec<Finding> {
        self.devices.sort();
        self.devices.dedup();
        Needs { mode: self.mode, targets, devices: &self.devices, ipv6_off: ipv6_off() }.judge(sysctls::read)
    }

    /// Objects of the plan that are neither switches nor routes, and that no question about a packet shows.
    async fn objects(&self) -> Vec<Finding> {
        let asked_about = |step: &Step| matches!(step, Step::Sysctl(_) | Step::Rule(_) | Step::LocalRoute(_));
        if self.plan.steps().iter().all(asked_about) {
            return Vec::new();
        }
        let observed = match observe(self.plan).await {
            Ok(observed) => observed,
            Err(error) => {
                return vec![
                    Finding::warning(Subject::ReturnPath, Fact::Unknown, error.to_string())
                        .because("what is missing of the return path cannot be told"),
                ];
            }
        };
        let others = observed.into_iter().filter(|found| !asked_about(&found.step));
        others
            .filter_map(|found| {
                let failed = |text: String| {
                    Finding::failed(Subject::ReturnPath, Fact::ObjectMissing, ExitKind::Configuration, text)
                        .because("replies do not come back without it")
                };
                match found.state {
                    State::Present(_) => None,
                    State::Missing => Some(
                        failed(not_done(&found)).cured_by(format!("`mmproxy setup`, or `{}`", found.step)),
                    ),
                    State::Different { found, cure } => Some(failed(found).cured_by(cure)),
                }
            })
            .collect()
    }

    fn side_effects(&self) -> Vec<Finding> {
        let foreign: Vec<_> = self.ground.foreign_mark_rules().collect();
        let marks = Marks { mode: self.mode, mark: self.mark(), foreign_rules: &foreign };
        side_effects(self.firewall.as_ref(), &marks)
    }
}

/// The sockets that wait for clients, and who holds those with a target's port.
struct Sockets {
    tcp: Result<Vec<Bound>, String>,
    udp: Result<Vec<Bound>, String>,
    holders: HashMap<u32, Process>,
}

impl Sockets {
    fn read(targets: &[Target]) -> Self {
        let list = |transport| {
            if targets.iter().any(|target| target.transport == transport) {
                waiting(transport).map_err(|error| error.to_string())
            } else {
                Ok(Vec::new())
            }
        };
        let (tcp, udp) = (list(Transport::Tcp), list(Transport::Udp));
        let mut sockets = Self { tcp, udp, holders: HashMap::new() };
        let inodes: Vec<_> = targets
            .iter()
            .flat_map(|target| listener::with_port(*target, sockets.of(target.transport).unwrap_or_default()))
            .map(|socket| socket.inode)
            .collect();
        sockets.holders = holders(&inodes);
        sockets
    }

    fn of(&self, transport: Transport) -> Result<&[Bound], &str> {
        let list = match transport {
            Transport::Tcp => &self.tcp,
            Transport::Udp => &self.udp,
        };
        list.as_deref().map_err(String::as_str)
    }

    /// What is found of the target's socket, and whose it is.
    fn judge(&self, target: Target, mode: Mode) -> (Vec<Finding>, Option<u32>) {
        let waiting = match self.of(target.transport) {
            Ok(waiting) => waiting,
            Err(error) => {
                let unknown = Finding::note(
                    Subject::Listener,
                    Fact::Unknown,
                    format!("the kernel does not list its sockets: {error}"),
                );
                return (vec![unknown.because("whether anybody listens is not known").at(target)], None);
            }
        };
        let bound = listener::with_port(target, waiting);
        let findings = listener::judge(target, mode, &bound, |socket| self.holders.get(&socket.inode));
        let served = bound.first().filter(|socket| socket.serves(target.address.ip()).is_some());
        (findings, served.map(|socket| socket.uid))
    }
}

/// That an object is missing, and what there is in its stead.
fn not_done(missing: &Observed) -> String {
    let near_miss = missing.near_miss.as_ref().map_or_else(String::new, |lack| format!("; {lack}"));
    format!("`{}` has not been done{near_miss}", missing.step)
}

const fn family(target: Target) -> Family {
    if target.address.is_ipv4() { Family::V4 } else { Family::V6 }
}
