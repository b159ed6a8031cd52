//! What `mmproxy check` looks at: what flags describe, or each service of a configuration file.

use mmproxy_forwarder::{TargetChoice, Targets};
use mmproxy_routing::Plan;

use crate::cli::{AboutArgs, CheckArgs, ReturnPathArgs};
use crate::commands::routing::ways_in;
use crate::config;
use crate::exit::Failure;
use crate::resolve::{self, not_targets};
use crate::return_path::Served;
use crate::spec::ServiceSpec;
use crate::target_netns::TargetNetnsArgs;
use crate::way_in::WayIn;

/// Targets, the way back from them, and where both are.
#[derive(Debug)]
pub(super) struct Subject {
    /// The service's, in a configuration file.
    pub(super) name: Option<String>,
    targets: TargetChoice,
    pub(super) path: ReturnPathArgs,
    pub(super) netns: TargetNetnsArgs,
    /// What hands ports to the listeners, which are in this command's own namespace.
    pub(super) ways_in: Vec<Plan>,
}

impl Subject {
    /// All that is asked for; a mistake in one service of a file is one in the file.
    pub(super) fn all(args: &CheckArgs) -> Result<Vec<Self>, Failure> {
        let Some(file) = &args.config else { return Ok(vec![Self::of_flags(&args.about)?]) };
        let spec = config::load(file).map_err(config::Mistakes::report)?;
        spec.services.into_iter().map(Self::of_service).collect()
    }

    fn of_flags(about: &AboutArgs) -> Result<Self, Failure> {
        let targets = resolve::targets(about.targets)
            .map_err(|failure| failure.hint("or --config, for every service of a configuration file"))?;
        Ok(Self {
            name: None,
            targets: TargetChoice::Fixed(targets),
            path: about.path,
            netns: about.netns.clone(),
            ways_in: ways_in(&about.listener, about.path)?,
        })
    }

    fn of_service(service: ServiceSpec) -> Result<Self, Failure> {
        Ok(Self {
            targets: service.target_choice().map_err(not_targets)?,
            path: service.path(),
            ways_in: WayIn::new(&service.way_in(), service.path())?.plans(&service.listen)?,
            netns: TargetNetnsArgs { target_netns: service.target_netns },
            name: Some(service.name),
        })
    }

    /// What replies are to come back from.
    pub(super) fn served(&self) -> Served<'_> {
        Served::by(&self.targets, self.netns.is_given())
    }

    /// The targets that are known before anything comes.
    pub(super) const fn targets(&self) -> Option<Targets> {
        match &self.targets {
            TargetChoice::Fixed(targets) => Some(*targets),
            TargetChoice::FromHeader { others, .. } => *others,
        }
    }
}
