//! A service before it is served: what has to be asked the kernel is asked, nothing is bound or changed.

use std::sync::Arc;

use mmproxy_forwarder::{
    AllowList, AllowedTarget, DialOptions, TargetChoice, TargetHealth, Targets, UdpOptions,
};

use crate::channel::Assignment;
use crate::cli::{ProtocolArg, SourcePortArg};
use crate::exit::{Exit, Failure};
use crate::jail::{Confinement, ConnectPorts};
use crate::resolve::not_targets;
use crate::return_path::{self, ReturnPath, Served};
use crate::spec::{Budget, Global, Invalid, JailSpec, Marks, ServiceSpec, Spec};
use crate::target_netns::NamespaceName;
use crate::way_in::WayIn;

/// All services of a [`Spec`], ready to be set up.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    pub(crate) global: Global,
    /// In the order of the specification.
    pub(crate) all: Vec<Arc<Service>>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) spec: ServiceSpec,
    pub(crate) targets: TargetChoice,
    pub(crate) allowed: AllowList,
    pub(crate) return_path: ReturnPath,
    pub(crate) way_in: WayIn,
    /// How the self-check connects.
    pub(crate) dial: DialOptions,
    /// For datagrams.
    pub(crate) udp: Option<UdpOptions>,
}

impl Services {
    /// Asks the kernel whose the targets' addresses are, where that decides the return path, and makes sure that a
    /// worker will be able to serve every one.
    ///
    /// # Errors
    ///
    /// The first service that cannot be served as it was asked for.
    pub(crate) async fn prepare(spec: Spec, descriptors: u64) -> Result<Self, Failure> {
        let budget = Budget::within(&spec, descriptors);
        let Spec { global, services } = spec;
        let mut all = Vec::new();
        for service in services {
            all.push(Arc::new(Service::prepare(service, &global, budget).await?));
        }
        Ok(Self { global, all })
    }

    /// The services by where their targets are: one worker process for each place.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for service in &self.all {
            let netns = &service.spec.target_netns;
            match groups.iter_mut().find(|group| group.netns == *netns) {
                Some(group) => group.services.push(Arc::clone(service)),
                None => groups.push(Group { netns: netns.clone(), services: vec![Arc::clone(service)] }),
            }
        }
        groups
    }
}

/// Services whose targets are in one network namespace.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// `None`: this one.
    pub(crate) netns: Option<NamespaceName>,
    pub(crate) services: Vec<Arc<Service>>,
}

impl Group {
    /// What a worker is told of them; without sockets.
    pub(crate) fn assignment(&self, global: &Global) -> Assignment {
        Assignment {
            spec: Spec {
                global: global.clone(),
                services: self.services.iter().map(|service| service.spec.clone()).collect(),
            },
            marks: self.services.iter().map(|service| service.marks()).collect(),
            sockets: Vec::new(),
            admin: false,
            host: None,
            confinement: self.confinement(global),
        }
    }

    /// What their worker keeps.
    pub(crate) fn confinement(&self, global: &Global) -> Confinement {
        let JailSpec { user, sandbox, may_lack, keep_net_admin } = global.jail.clone();
        let specs = || self.services.iter().map(|service| &service.spec);
        Confinement {
            user,
            // To keep a client's port whatever it is; where another one does, so it does for these.
            keep_bind_low_ports: specs().any(|spec| spec.source_port == SourcePortArg::Keep),
            keep_net_admin: keep_net_admin || marks_need_net_admin(),
            sandbox,
            connect_ports: self.connect_ports(),
            datagrams: specs().any(|spec| !spec.is_tcp()),
            may_lack,
        }
    }

    fn connect_ports(&self) -> ConnectPorts {
        let mut ports = Vec::new();
        for service in self.services.iter().filter(|service| service.spec.is_tcp()) {
            let fixed = service.fixed_targets();
            ports.extend(
                fixed
                    .iter()
                    .flat_map(Targets::iter)
                    .map(|target| target.addr().port())
                    .map(|port| port..=port),
            );
            if let TargetChoice::FromHeader { allowed, .. } = &service.targets {
                ports.extend(allowed.iter().map(AllowedTarget::ports));
            }
        }
        if ports.iter().any(|range| range.clone().count() > FEW_PORTS) {
            return ConnectPorts::Any;
        }
        ConnectPorts::Only(ports)
    }
}

impl Service {
    async fn prepare(spec: ServiceSpec, global: &Global, budget: Budget) -> Result<Self, Failure> {
        let targets = spec.target_choice().map_err(|error| invalid(error.into()))?;
        let return_path = return_path(&spec, &targets).await?;
        let way_in = WayIn::new(&spec.way_in(), spec.path())?;
        let dial = spec.dial(return_path::marks(&return_path), None).map_err(invalid)?;
        // The worker makes one of its own.
        spec.gateway(global, dial.clone(), budget.sessions, TargetHealth::new()).map_err(invalid)?;
        let udp = match spec.protocol {
            ProtocolArg::Tcp => None,
            ProtocolArg::Udp => Some(spec.datagrams(budget.flows).map_err(invalid)?),
        };
        Ok(Self { allowed: spec.allow_list(), spec, targets, return_path, way_in, dial, udp })
    }

    /// The targets that are known before anything comes.
    pub(crate) const fn fixed_targets(&self) -> Option<Targets> {
        match &self.targets {
            TargetChoice::Fixed(targets) => Some(*targets),
            TargetChoice::FromHeader { others, .. } => *others,
        }
    }

    /// How its spoofed sockets are marked.
    pub(crate) fn marks(&self) -> Marks {
        return_path::marks(&self.return_path)
    }
}

/// SO_MARK takes CAP_NET_ADMIN before Linux 5.17 (socket(7)).
fn marks_need_net_admin() -> bool {
    let release = nix::sys::utsname::uname().ok();
    let release = release.as_ref().and_then(|name| name.release().to_str()).unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next(), numbers.next());
    // A kernel that does not tell is taken for a new one: a worker that lacks the right says so.
    matches!(version, (Some(major), minor) if (major, minor.unwrap_or(0)) < (5, 17))
}

/// Landlock takes each port by itself.
const FEW_PORTS: usize = 1024;

/// The return path for the targets, wherever they are named.
async fn return_path(service: &ServiceSpec, targets: &TargetChoice) -> Result<ReturnPath, Failure> {
    let served = Served::by(targets, service.target_netns.is_some());
    let chosen = ReturnPath::choose(service.path(), served).await?;
    chosen.refuse_unfit()?;
    Ok(chosen)
}

/// The failure of a service that cannot be served as it was asked for.
pub(crate) fn invalid(error: Invalid) -> Failure {
    match error {
        Invalid::Targets(error) => not_targets(error),
        Invalid::TooManySessions { .. } | Invalid::TooManyFlows { .. } => Failure::new(Exit::Config, error)
            .hint("raise the limit (ulimit -n, LimitNOFILE=), or ask for fewer"),
        Invalid::TooShort(..) | Invalid::Keepalive(_) | Invalid::HeaderSize(_) => {
            Failure::new(Exit::Usage, error)
        }
    }
}
