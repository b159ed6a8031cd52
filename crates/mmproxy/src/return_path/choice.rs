//! Which mode brings replies back: what the operator said, or what the targets ask for.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use ipnet::IpNet;
use mmproxy_forwarder::{
    AllowedTarget, AllowedTargets, Family as TargetFamily, OwnAddresses, TargetAddr, TargetChoice, Targets,
};
use mmproxy_routing::{
    Families, Family, Mode, Plan, Question, Transport, Verdict, default_device, families_available, ipv6_off,
    lookup,
};

use crate::cli::{ReturnPathArgs, ReturnPathMode};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::return_path::failure;

/// What replies are to come back from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served<'a> {
    /// The families of clients.
    pub(crate) families: Families,
    /// The targets of the command line, if there are any.
    pub(crate) targets: Option<&'a Targets>,
    /// The targets that a header may name.
    pub(crate) allowed: Option<&'a AllowedTargets>,
    /// Whether they are in another network namespace: their addresses are that one's, and say nothing here.
    pub(crate) elsewhere: bool,
}

impl<'a> Served<'a> {
    /// What goes to these targets; a header may name one of either family.
    pub(crate) fn by(targets: &'a TargetChoice, elsewhere: bool) -> Self {
        match targets {
            TargetChoice::Fixed(targets) => Self {
                families: super::families_of(targets),
                targets: Some(targets),
                allowed: None,
                elsewhere,
            },
            TargetChoice::FromHeader { allowed, others } => Self {
                families: families_available(),
                targets: others.as_ref(),
                allowed: Some(allowed),
                elsewhere,
            },
        }
    }
}

/// The return path that was chosen: a mode for each family, before anything is looked at in detail or changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReturnPath {
    args: ReturnPathArgs,
    v4: Option<Way>,
    v6: Option<Way>,
}

/// How replies come back in one family.
#[derive(Clone, Copy, Debug)]
struct Way {
    mode: Mode,
    /// The target of the command line.
    target: Option<SocketAddr>,
    /// Why `auto` took this mode; `None` where the operator said so.
    because: Option<Because>,
}

/// Why `auto` took a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Because {
    /// Nobody named a target.
    Unnamed,
    /// Targets are in a namespace of their own, where they are addressed as one does from inside.
    Inside,
    /// This is an address of this host.
    Own(IpAddr),
    /// This is none.
    Foreign(IpAddr),
    /// All that a header may name are addresses of this host.
    OwnNamed,
    /// None of what a header may name is an address of this host.
    ForeignNamed,
}

impl ReturnPath {
    /// Decides by the command line, the protocol and, for `auto`, by whose the targets' addresses are: the kernel of
    /// the calling thread's network namespace is asked.
    ///
    /// # Errors
    ///
    /// For a mode that cannot serve such targets, and where `auto` would have to take two modes in one family.
    pub(crate) async fn choose(args: ReturnPathArgs, served: Served<'_>) -> Result<Self, Failure> {
        let mut chosen = Self { args, v4: None, v6: None };
        for family in served.families.iter() {
            let target = served.targets.and_then(|targets| targets.of(of_target(family)));
            let target = target.map(TargetAddr::addr);
            let way = match args.explicit() {
                Some(mode) => Way { mode, target, because: None },
                None => chosen.auto(family, target, served).await?,
            };
            *chosen.way_mut(family) = Some(way);
        }
        Ok(chosen)
    }

    async fn auto(
        &self,
        family: Family,
        target: Option<SocketAddr>,
        served: Served<'_>,
    ) -> Result<Way, Failure> {
        let mut own = None;
        let mut foreign = None;
        if let Some(target) = target {
            if served.elsewhere {
                own = Some(Because::Inside);
            } else if is_own(target.ip()).await? {
                own = Some(Because::Own(target.ip()));
            } else {
                foreign = Some(Because::Foreign(target.ip()));
            }
        }
        let networks = served.allowed.into_iter().flat_map(AllowedTargets::iter).map(AllowedTarget::network);
        for network in networks.filter(|network| Family::from(network.addr()) == family) {
            if served.elsewhere {
                own = Some(Because::Inside);
            } else if holds_own(network)? {
                own = own.or(Some(Because::OwnNamed));
            } else {
                foreign = foreign.or(Some(Because::ForeignNamed));
            }
        }
        let because = match (own, foreign) {
            (Some(_), Some(_)) => {
                return Err(Failure::new(
                    Exit::Usage,
                    format!(
                        "some {family} targets are addresses of this host and others are not, and no one return path \
                         serves both"
                    ),
                )
                .hint("run one mmproxy for each kind, or choose with --return-path and list that kind alone"));
            }
            (Some(because), None) | (None, Some(because)) => because,
            (None, None) if served.elsewhere => Because::Inside,
            (None, None) => Because::Unnamed,
        };
        let mode = match (because, self.transport()) {
            (Because::Foreign(_) | Because::ForeignNamed, _) => Mode::Socket,
            (_, Transport::Tcp) => Mode::Fwmark,
            (_, Transport::Udp) if target.is_some() && served.allowed.is_none() => Mode::Port,
            (_, Transport::Udp) => return Err(ports_unknown("--return-path auto is `port` for UDP, which")),
        };
        Ok(Way { mode, target, because: Some(because) })
    }

    /// Refuses what could never work, before anything is made. A teardown has no need to ask.
    pub(crate) fn refuse_unfit(&self) -> Result<(), Failure> {
        for way in self.ways().map(|(_, way)| way) {
            let unfit = |what: String, cure: &str| Err(Failure::new(Exit::Usage, what).hint(cure));
            match (way.mode, way.target) {
                (Mode::Fwmark, _) if self.transport() == Transport::Udp => {
                    return unfit(
                        "--return-path fwmark cannot bring UDP replies back: a UDP server has one socket for all \
                         clients, which inherits no mark"
                            .to_owned(),
                        "use --return-path port, or leave the choice to `auto`",
                    );
                }
                (Mode::Source, Some(target)) if !target.ip().is_loopback() => {
                    let cure = match self.transport() {
                        Transport::Tcp => "use --return-path fwmark, which serves any address of this host",
                        Transport::Udp => "use --return-path port, which serves any address of this host",
                    };
                    return unfit(
                        format!("--return-path source serves loopback targets only, and {target} is none"),
                        cure,
                    );
                }
                (Mode::Socket, Some(target)) if target.ip().is_loopback() => {
                    return unfit(
                        format!(
                            "--return-path socket serves targets behind this host, and {target} is on it"
                        ),
                        "leave --return-path out: `auto` knows what serves which target",
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What the targets speak.
    pub(crate) const fn transport(&self) -> Transport {
        self.args.transport()
    }

    /// The mark of spoofed sockets toward targets of this family, where the mode knows its packets by one.
    pub(crate) fn mark(&self, family: Family) -> Option<NonZeroU32> {
        // `Plan::socket_mark` decides, and it needs no more of a plan than its mode.
        let mode = self.way(family)?.mode;
        mode.marks_sockets().then(|| NonZeroU32::new(self.args.settings().mark.get())).flatten()
    }

    /// The mode for a family; `None` for one that is not served.
    pub(crate) fn mode(&self, family: Family) -> Option<Mode> {
        self.way(family).map(|way| way.mode)
    }

    /// The same for the families alone that the calling thread's network namespace has; says which it lacks.
    pub(crate) fn here(mut self, console: &mut Console) -> Self {
        if self.v6.is_some()
            && let Some(off) = ipv6_off()
        {
            console.always(format_args!("[!] No return path for IPv6 clients: {off}."));
            self.v6 = None;
        }
        self
    }

    /// The plans that together are this return path, for the calling thread's network namespace: one, or two where
    /// the families have different modes.
    pub(crate) async fn plans(&self) -> Result<Vec<Plan>, Failure> {
        let mut plans = Vec::new();
        let both = |mode: Mode| Families {
            v4: self.mode(Family::V4) == Some(mode),
            v6: self.mode(Family::V6) == Some(mode),
        };
        for (family, way) in self.ways() {
            let families = both(way.mode);
            // The second family of one mode is in the plan of the first.
            if family == Family::V6 && families.v4 {
                continue;
            }
            plans.push(self.plan(way.mode, families).await?);
        }
        Ok(plans)
    }

    async fn plan(&self, mode: Mode, families: Families) -> Result<Plan, Failure> {
        let settings = self.args.settings();
        match mode {
            Mode::Source => Ok(Plan::source(settings, families)),
            Mode::Socket => Ok(Plan::socket(settings, families)),
            Mode::Connmark => {
                let device = default_device().await.map_err(failure)?;
                Ok(Plan::connmark(settings, families, device))
            }
            Mode::Port => {
                let (mut v4, mut v6) = (None, None);
                for target in families.iter().filter_map(|family| self.way(family)?.target) {
                    match target {
                        SocketAddr::V4(target) => v4 = Some(target),
                        SocketAddr::V6(target) => v6 = Some(target),
                    }
                }
                if v4.is_none() && v6.is_none() {
                    return Err(ports_unknown("--return-path port"));
                }
                Plan::port(settings, self.transport(), v4, v6)
                    .map_err(|error| Failure::new(Exit::Usage, error))
            }
            // A mode that this program does not offer is never chosen.
            Mode::Fwmark | _ => Ok(Plan::fwmark(settings, families)),
        }
    }

    /// What keeps this return path from working although it could be installed.
    pub(crate) async fn obstacle(&self) -> Result<Option<String>, Failure> {
        for (family, _) in self.ways().filter(|(_, way)| way.mode == Mode::Connmark) {
            let route = lookup(&Question::to(anybody(family))).await.map_err(failure)?;
            if !route.is_some_and(|route| route.verdict == Verdict::Forward) {
                return Ok(Some(format!(
                    "mode connmark needs a default route for {family}, and there is none: replies are marked after \
                     they were routed once"
                )));
            }
        }
        Ok(None)
    }

    /// What `auto` took, one line for each kind of reason; nothing where the operator chose.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let said: Vec<(Family, Mode, Because)> =
            self.ways().filter_map(|(family, way)| Some((family, way.mode, way.because?))).collect();
        match said.as_slice() {
            [(_, mode, because), (_, other, too)] if mode == other => {
                vec![format!("{mode}, because {}", Reason(self.transport(), &[*because, *too]))]
            }
            _ => said
                .iter()
                .map(|(family, mode, because)| {
                    format!("{mode} for {family}, because {}", Reason(self.transport(), &[*because]))
                })
                .collect(),
        }
    }

    fn ways(&self) -> impl Iterator<Item = (Family, &Way)> {
        [Family::V4, Family::V6].into_iter().filter_map(|family| Some((family, self.way(family)?)))
    }

    const fn way(&self, family: Family) -> Option<&Way> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }

    const fn way_mut(&mut self, family: Family) -> &mut Option<Way> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

impl ReturnPathArgs {
    /// The mode that was named; `None` for `auto`.
    const fn explicit(self) -> Option<Mode> {
        match self.return_path {
            ReturnPathMode::Auto => None,
            ReturnPathMode::Fwmark => Some(Mode::Fwmark),
            ReturnPathMode::Source => Some(Mode::Source),
            ReturnPathMode::Port => Some(Mode::Port),
            ReturnPathMode::Connmark => Some(Mode::Connmark),
            ReturnPathMode::Socket => Some(Mode::Socket),
        }
    }
}

/// Why, in one sentence for one family or two.
struct Reason<'a>(Transport, &'a [Because]);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(transport, reasons) = self;
        let transport = transport.to_string().to_uppercase();
        match reasons {
            [Because::Own(one), Because::Own(other)] => {
                write!(f, "{one} and {other} are addresses of this host")
            }
            [Because::Foreign(one), Because::Foreign(other)] => {
                write!(f, "{one} and {other} are no addresses of this host")
            }
            [first, ..] => match first {
                Because::Unnamed => write!(f, "it serves {transport} targets on any address of this host"),
                Because::Inside => {
                    write!(f, "it serves {transport} targets on any address of their network namespace")
                }
                Because::Own(ip) => write!(f, "{ip} is an address of this host"),
                Because::Foreign(ip) => write!(f, "{ip} is no address of this host"),
                Because::OwnNamed => f.write_str("the allowed targets are addresses of this host"),
                Because::ForeignNamed => f.write_str("no allowed target is an address of this host"),
            },
            [] => Ok(()),
        }
    }
}

/// Whether packets to `ip` stay on this host.
async fn is_own(ip: IpAddr) -> Result<bool, Failure> {
    // Of an address that is always this host's, a kernel without that family does not know.
    if ip.is_loopback() {
        return Ok(true);
    }
    let route = lookup(&Question::to(ip)).await.map_err(failure)?;
    Ok(route.is_some_and(|route| route.is_local()))
}

/// Whether a header that names an address in `network` can mean this host.
fn holds_own(network: IpNet) -> Result<bool, Failure> {
    let own = OwnAddresses::of_this_host().map_err(|error| Failure::new(Exit::Unavailable, error))?;
    Ok(network.addr().is_loopback() || own.is_in(network))
}

fn ports_unknown(who: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{who} needs the targets' ports")).hint("give -4 or -6")
}

/// Any client: an address that no host has (RFC 5737, RFC 3849).
const fn anybody(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
        Family::V6 => IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    }
}

const fn of_target(family: Family) -> TargetFamily {
    match family {
        Family::V4 => TargetFamily::V4,
        Family::V6 => TargetFamily::V6,
    }
}
