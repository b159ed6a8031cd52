//! What is held while services are served: the return path where the targets are, the way in where the listeners are.

use std::sync::Arc;
use std::time::Duration;

use mmproxy_forwarder::Namespace;
use mmproxy_routing::{Lease, Plan, Policy};

use super::elsewhere::Elsewhere;
use super::event::{Events, Generation};
use super::service::{Group, Service};
use super::sockets::Sockets;
use crate::cli::Routing;
use crate::console::Console;
use crate::exit::Failure;
use crate::eyes::ReturnPathState;
use crate::return_path;
use crate::selfcheck::{self, Finding};

/// A hold on return paths and ways in.
pub(crate) struct Ground {
    groups: Vec<Part>,
    way_in: Vec<Lease>,
}

/// What a hold is made for.
pub(crate) struct Hold<'a> {
    pub(crate) generation: Generation,
    /// How long sessions may go on in a namespace that is gone.
    pub(crate) drain: Duration,
    /// Hears when that happens.
    pub(crate) events: &'a Events,
    /// Whether anybody can ask how the return paths are.
    pub(crate) watched: bool,
}

/// The return paths of one group.
enum Part {
    Here(Vec<Lease>),
    Elsewhere(Elsewhere),
}

impl Ground {
    /// Installs, or looks at, all that `groups` need. Nothing is left behind where that fails.
    pub(crate) async fn hold(
        groups: &[Group],
        sockets: &Sockets,
        hold: &Hold<'_>,
        console: &mut Console,
    ) -> Result<Self, Failure> {
        let mut ground = Self { groups: Vec::new(), way_in: Vec::new() };
        match ground.take(groups, sockets, hold, console).await {
            Ok(()) => Ok(ground),
            Err(failure) => {
                ground.release().await;
                Err(failure)
            }
        }
    }

    async fn take(
        &mut self,
        groups: &[Group],
        sockets: &Sockets,
        hold: &Hold<'_>,
        console: &mut Console,
    ) -> Result<(), Failure> {
        for group in groups {
            self.groups.push(match &group.netns {
                None => Part::Here(return_paths(&group.services, console).await?),
                Some(_) => Part::Elsewhere(Elsewhere::enter(group, hold, console).await?),
            });
        }
        for service in groups.iter().flat_map(|group| &group.services) {
            if let Some(policy) = policy(service) {
                let listening = sockets.addresses_of(service);
                self.way_in.extend(service.way_in.acquire(&listening, policy, console).await?);
            }
        }
        Ok(())
    }

    /// The namespace that a group's targets are in: `Some(None)` is this one, `None` is one that is gone for now.
    pub(crate) fn place(&self, group: usize) -> Option<Option<Namespace>> {
        match &self.groups[group] {
            Part::Here(_) => Some(None),
            Part::Elsewhere(elsewhere) => elsewhere.present().map(Some),
        }
    }

    /// What is to be there in this network namespace as long as it is held.
    pub(crate) fn plans(&self) -> Vec<Plan> {
        let here = self.groups.iter().filter_map(|part| match part {
            Part::Here(leases) => Some(leases),
            Part::Elsewhere(_) => None,
        });
        here.flatten().map(|lease| lease.plan().clone()).collect()
    }

    /// How the return paths in other namespaces are, by the namespace's name.
    pub(crate) fn elsewhere(&self) -> impl Iterator<Item = (String, Arc<ReturnPathState>)> {
        self.groups.iter().filter_map(|part| match part {
            Part::Here(_) => None,
            Part::Elsewhere(elsewhere) => elsewhere.return_path(),
        })
    }

    /// The self-check's findings about a service's targets.
    pub(crate) async fn examine(&self, group: usize, service: &Arc<Service>) -> Vec<Finding> {
        let Some(targets) = service.fixed_targets() else { return Vec::new() };
        match &self.groups[group] {
            Part::Here(_) => selfcheck::examine(&targets, &service.return_path, &service.dial).await,
            Part::Elsewhere(elsewhere) => elsewhere.examine(targets, service).await,
        }
    }

    /// Removes what this installed and nobody else needs.
    pub(crate) async fn release(self) {
        return_path::release(self.way_in).await;
        for part in self.groups.into_iter().rev() {
            match part {
                Part::Here(leases) => return_path::release(leases).await,
                Part::Elsewhere(elsewhere) => elsewhere.leave().await,
            }
        }
    }
}

/// Installs, or looks at, the return paths of services, in the calling thread's network namespace; all or none.
pub(super) async fn return_paths(
    services: &[Arc<Service>],
    console: &mut Console,
) -> Result<Vec<Lease>, Failure> {
    let mut leases = Vec::new();
    for service in services {
        let Some(policy) = policy(service) else { continue };
        match return_path::acquire(service.return_path, policy, &leases, console).await {
            Ok(more) => leases.extend(more),
            Err(failure) => {
                return_path::release(leases).await;
                return Err(failure);
            }
        }
    }
    Ok(leases)
}

/// What may be done about missing objects; `None` where they are nobody's business.
const fn policy(service: &Service) -> Option<Policy> {
    match service.spec.return_path.routing {
        Routing::Off => None,
        Routing::Check => Some(Policy::CheckOnly),
        Routing::Auto => Some(Policy::Install),
    }
}
