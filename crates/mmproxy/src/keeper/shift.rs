//! What was asked for at one time, with everything that workers need to serve it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use mmproxy_forwarder::{Namespace, OwnAddresses};

use super::event::{Events, Generation};
use super::ground::{Ground, Hold};
use super::process::{Process, WorkerId};
use super::service::{Group, Services};
use super::sockets::Sockets;
use crate::channel::Addresses;
use crate::console::Console;
use crate::descriptors;
use crate::exit::Failure;
use crate::spec::Spec;

/// Services with their sockets, their return paths, and their numbers.
pub(crate) struct Shift {
    pub(crate) generation: Generation,
    pub(crate) services: Services,
    pub(crate) groups: Vec<Group>,
    pub(crate) sockets: Sockets,
    pub(crate) ground: Ground,
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
        events: &Events,
        console: &mut Console,
    ) -> Result<Self, Failure> {
        let services = Services::prepare(spec, descriptors::limit()).await?;
        let groups = services.groups();
        let sockets = Sockets::bind(&services, former).await?;
        let hold = Hold { generation, drain: services.global.drain, events };
        let ground = Ground::hold(&groups, &sockets, &hold, console).await?;
        Ok(Self { generation, services, groups, sockets, ground })
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
        let group = &self.groups[group];
        let mut assignment = group.assignment(&self.services.global);
        let (copies, slots) = self.sockets.copies(group)?;
        assignment.sockets = slots;
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
