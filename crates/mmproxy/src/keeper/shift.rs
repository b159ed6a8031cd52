//! What was asked for at one time, with everything that workers need to serve it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use mmproxy_forwarder::{Namespace, OwnAddresses};
use tokio::task::JoinSet;

use super::activated::Activated;
use super::event::{Events, Generation};
use super::ground::{Ground, Hold};
use super::process::{Process, WorkerId};
use super::service::{Group, Services};
use super::sockets::Sockets;
use crate::channel::Addresses;
use crate::console::Console;
use crate::descriptors;
use crate::exit::Failure;
use crate::eyes::ReturnPathState;
use crate::spec::Spec;

/// Services with their sockets, their return paths, and their numbers.
pub(crate) struct Shift {
    pub(crate) generation: Generation,
    pub(crate) services: Services,
    pub(crate) groups: Vec<Group>,
    pub(crate) sockets: Sockets,
    pub(crate) ground: Ground,
    /// What somebody wants to know of return paths, by where they are, and who looks.
    pub(crate) return_paths: BTreeMap<String, Arc<ReturnPathState>>,
    _looking: JoinSet<()>,
}

impl Shift {
    /// Binds what `former` has not, and sets up what is missing, in this order: nothing of the host is changed before
    /// every address is bound.
    ///
    /// # Errors
    ///
    /// What is wrong with it; nothing is left behind.
    pub(crate) async fn prepare(
        spec: Spec,
        generation: Generation,
        former: &Sockets,
        activated: &mut Activated,
        events: &Events,
        console: &mut Console,
    ) -> Result<Self, Failure> {
        let services = Services::prepare(spec, descriptors::limit()).await?;
        let groups = services.groups();
        let sockets = Sockets::bind(&services, former, activated).await?;
        let global = &services.global;
        let watched = global.admin.is_some() || global.control.is_some();
        let hold = Hold { generation, drain: global.drain, events, watched };
        let ground = Ground::hold(&groups, &sockets, &hold, console).await?;
        let (mut looking, mut return_paths) = (JoinSet::new(), BTreeMap::new());
        if hold.watched {
            return_paths.extend(ground.elsewhere());
            let plans = ground.plans();
            if !plans.is_empty() {
                let state = Arc::new(ReturnPathState::default());
                looking.spawn(Arc::clone(&state).watch(plans));
                return_paths.insert("host".to_owned(), state);
            }
        }
        Ok(Self { generation, services, groups, sockets, ground, return_paths, _looking: looking })
    }

    /// Starts a worker for a group, in `place`.
    pub(crate) async fn start(
        &self,
        id: WorkerId,
        group: usize,
        place: Option<Namespace>,
        executable: PathBuf,
        events: &Events,
    ) -> io::Result<Process> {
        // The first group's worker answers to whoever asks by the admin address.
        let admin = self.sockets.admin().filter(|_| group == 0);
        let group = &self.groups[group];
        let mut assignment = group.assignment(&self.services.global);
        let (mut copies, slots) = self.sockets.copies(group)?;
        assignment.sockets = slots;
        if let Some(listener) = admin {
            copies.push(listener.try_clone()?.into());
            assignment.admin = true;
        }
        if place.is_some() {
            assignment.host = Some(Addresses::from(&OwnAddresses::of_this_host()?));
        }
        Process::start(id, executable, copies, assignment, place, events).await
    }

    /// Where it listens, with the real ports.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.services.all.iter().flat_map(|service| self.sockets.addresses_of(service)).collect()
    }
}
