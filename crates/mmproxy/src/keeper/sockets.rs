//! The listening sockets, which outlive every worker.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use caps::Capability;
use mmproxy_forwarder::{BindError, ListenOptions, Listener, UdpListener};
use tokio::time::{Instant, sleep};

use super::activated::Activated;
use super::service::{Group, Service, Services};
use crate::channel::Slot;
use crate::cli::ProtocolArg;
use crate::exit::{Exit, Failure};
use crate::privileges;

/// The sockets of all services. A clone shares them.
///
/// Connections and datagrams that nobody has taken wait in them, also while no worker lives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sockets {
    bound: Vec<Arc<Bound>>,
    admin: Option<(SocketAddr, Arc<TcpListener>)>,
}

/// The sockets of one address: one for each thread that serves.
#[derive(Debug)]
struct Bound {
    asked: SocketAddr,
    address: SocketAddr,
    kind: Kind,
    sockets: Several,
}

/// What sockets are good for; those of another kind cannot take their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Connections {
        transparent: bool,
        /// `[::]`, and IPv4 has listeners of its own on that port.
        ipv6_alone: bool,
    },
    Datagrams {
        steered: SteeredBy,
        ipv6_alone: bool,
    },
}

/// By what the kernel tells whose a datagram is.
type SteeredBy =
    (mmproxy_forwarder::DatagramFormat, mmproxy_forwarder::HeaderRule, mmproxy_forwarder::ClientFrom);

#[derive(Debug)]
enum Several {
    Connections(Vec<Listener>),
    Datagrams(Vec<UdpListener>),
}

impl Sockets {
    /// Binds every address that `former` does not have, before anything of the host is changed.
    ///
    /// # Errors
    ///
    /// The first address that cannot be listened on, and why; nothing is kept then.
    pub(crate) async fn bind(
        services: &Services,
        former: &Self,
        activated: &mut Activated,
    ) -> Result<Self, Failure> {
        let mut sockets = Self::default();
        for service in &services.all {
            for &asked in &service.spec.listen {
                let bound = match former.find(service.spec.protocol, asked) {
                    Some(bound) => bound.take_over(service, services)?,
                    None => Arc::new(Bound::new(service, asked, services, activated).await?),
                };
                sockets.bound.push(bound);
            }
        }
        if let Some(asked) = services.global.admin {
            let admin = match &former.admin {
                Some((address, listener)) if *address == asked => Arc::clone(listener),
                _ => Arc::new(bind_admin(asked).await?),
            };
            sockets.admin = Some((asked, admin));
        }
        Ok(sockets)
    }

    /// Closes what nobody accepts from any more: whoever connects is refused instead of waiting for nobody.
    ///
    /// Sockets of datagrams stay, because flows that have not ended answer from them.
    pub(crate) fn retire(&mut self) {
        self.bound.retain(|bound| matches!(bound.sockets, Several::Datagrams(_)));
        self.admin = None;
    }

    /// Takes what `others` have and these have not, so that it need not be bound again while it is in use.
    pub(crate) fn adopt(&mut self, others: &Self) {
        for bound in &others.bound {
            if self.find(bound.protocol(), bound.asked).is_none() {
                self.bound.push(Arc::clone(bound));
            }
        }
    }

    /// The socket of the admin address.
    pub(crate) fn admin(&self) -> Option<&TcpListener> {
        self.admin.as_ref().map(|(_, listener)| &**listener)
    }

    /// Where a service listens, with the real ports.
    pub(crate) fn addresses_of(&self, service: &Service) -> Vec<SocketAddr> {
        self.of(service).map(|bound| bound.address).collect()
    }

    /// Copies of the sockets of a group, and what each is.
    ///
    /// # Errors
    ///
    /// Out of descriptors.
    pub(crate) fn copies(&self, group: &Group) -> io::Result<(Vec<OwnedFd>, Vec<Slot>)> {
        let (mut copies, mut slots) = (Vec::new(), Vec::new());
        for (number, service) in group.services.iter().enumerate() {
            for (address, bound) in self.of(service).enumerate() {
                for copy in bound.copies() {
                    copies.push(copy?);
                    slots.push(Slot { service: number, address, protocol: service.spec.protocol });
                }
            }
        }
        Ok((copies, slots))
    }

    fn of<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Arc<Bound>> {
        let asked = service.spec.listen.iter();
        asked.filter_map(|asked| self.find(service.spec.protocol, *asked))
    }

    fn find(&self, protocol: ProtocolArg, asked: SocketAddr) -> Option<&Arc<Bound>> {
        self.bound.iter().find(|bound| bound.asked == asked && bound.protocol() == protocol)
    }
}

/// Binds the admin address.
async fn bind_admin(asked: SocketAddr) -> Result<TcpListener, Failure> {
    let deadline = Instant::now() + LINGERING;
    loop {
        match TcpListener::bind(asked) {
            Ok(listener) => return Ok(listener),
            // The workers of a keeper that was killed are ending.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                sleep(PAUSE).await;
            }
            Err(error) => {
                let what = format!("--admin: cannot listen on {asked}: {error}");
                return Err(Failure::new(Exit::Unavailable, what)
                    .hint("`ss -ltnp` lists who listens; `ip address` lists the addresses of this host"));
            }
        }
    }
}

impl Bound {
    async fn new(
        service: &Service,
        asked: SocketAddr,
        services: &Services,
        activated: &mut Activated,
    ) -> Result<Self, Failure> {
        let (kind, workers) = (Kind::of(service, asked, services), services.global.workers);
        if service.udp.is_none()
            && let Some(socket) = activated.take(asked)
        {
            let listeners = adopted(socket, service, workers.get())
                .map_err(|error| not_bound(BindError { address: asked, error }))?;
            return Ok(Self { asked, address: asked, kind, sockets: Several::Connections(listeners) });
        }
        let deadline = Instant::now() + LINGERING;
        loop {
            let sockets = match (kind, &service.udp) {
                (Kind::Datagrams { ipv6_alone, .. }, Some(options)) => {
                    let (options, client_from) = (options.ipv6_alone(ipv6_alone), service.spec.client_from());
                    UdpListener::bind(asked, workers, &options, client_from).map(Several::Datagrams)
                }
                (Kind::Connections { ipv6_alone, .. } | Kind::Datagrams { ipv6_alone, .. }, _) => {
                    connections(asked, service, workers.get(), ipv6_alone).map(Several::Connections)
                }
            };
            match sockets {
                Ok(sockets) => {
                    return Ok(Self { asked, address: sockets.address().unwrap_or(asked), kind, sockets });
                }
                // The workers of a keeper that was killed are ending.
                Err(error) if is_taken(&error) && Instant::now() < deadline => sleep(PAUSE).await,
                Err(error) => return Err(not_bound(error)),
            }
        }
    }

    /// The same sockets for a service as it is now.
    fn take_over(self: &Arc<Self>, service: &Service, services: &Services) -> Result<Arc<Self>, Failure> {
        if self.kind == Kind::of(service, self.asked, services) {
            return Ok(Arc::clone(self));
        }
        Err(Failure::new(
            Exit::Config,
            format!(
                "service {}: what {} is listened on for cannot change while it is served",
                service.spec.name, self.asked
            ),
        )
        .hint("restart mmproxy, or listen on another address"))
    }

    fn copies(&self) -> Vec<io::Result<OwnedFd>> {
        match &self.sockets {
            Several::Connections(sockets) => {
                sockets.iter().map(|socket| socket.as_fd().try_clone_to_owned()).collect()
            }
            Several::Datagrams(sockets) => {
                sockets.iter().map(|socket| socket.as_fd().try_clone_to_owned()).collect()
            }
        }
    }

    const fn protocol(&self) -> ProtocolArg {
        match self.kind {
            Kind::Connections { .. } => ProtocolArg::Tcp,
            Kind::Datagrams { .. } => ProtocolArg::Udp,
        }
    }
}

impl Kind {
    fn of(service: &Service, asked: SocketAddr, services: &Services) -> Self {
        let ipv6_alone = shares_its_port_with_ipv4(asked, service.spec.protocol, services);
        match &service.udp {
            None => Self::Connections { transparent: service.spec.is_transparent(), ipv6_alone },
            Some(options) => Self::Datagrams {
                steered: (options.datagram_format(), options.header_rule(), service.spec.client_from()),
                ipv6_alone,
            },
        }
    }
}

/// Whether `[::]` is asked for, which takes IPv4 as well, and any IPv4 address with the same port too: whoever writes both
/// means one for each family.
fn shares_its_port_with_ipv4(asked: SocketAddr, protocol: ProtocolArg, services: &Services) -> bool {
    let all = services.all.iter().filter(|service| service.spec.protocol == protocol);
    let mut addresses = all.flat_map(|service| &service.spec.listen);
    // Port 0 is another one each time.
    asked.ip() == Ipv6Addr::UNSPECIFIED
        && asked.port() != 0
        && addresses.any(|other| other.is_ipv4() && other.port() == asked.port())
}

impl Several {
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Connections(sockets) => sockets.first().map(Listener::local_addr),
            Self::Datagrams(sockets) => sockets.first().map(UdpListener::local_addr),
        }
    }
}

fn connections(
    asked: SocketAddr,
    service: &Service,
    workers: usize,
    ipv6_alone: bool,
) -> Result<Vec<Listener>, BindError> {
    let options = ListenOptions::new()
        .backlog(service.spec.backlog)
        .transparent(service.spec.is_transparent())
        .ipv6_alone(ipv6_alone);
    // Alone at first: who has the address already is noticed.
    let mut listeners = vec![Listener::bind_with(asked, options)?];
    for _ in 1..workers {
        listeners.push(listeners[0].share(service.spec.backlog)?);
    }
    Ok(listeners)
}

/// A socket that somebody else has bound, for each thread.
///
/// If that was another user, nobody of this one may share its address (`SO_REUSEPORT`): then all threads accept from the one
/// socket.
fn adopted(socket: TcpListener, service: &Service, workers: usize) -> io::Result<Vec<Listener>> {
    let first = Listener::from_std(socket)?;
    let mut listeners = Vec::new();
    for _ in 1..workers {
        let another = first.share(service.spec.backlog);
        listeners.push(another.or_else(|_| Listener::from_std(first.as_fd().try_clone_to_owned()?.into()))?);
    }
    listeners.insert(0, first);
    Ok(listeners)
}

fn is_taken(error: &BindError) -> bool {
    error.error.kind() == io::ErrorKind::AddrInUse
}

fn not_bound(error: BindError) -> Failure {
    let refused = error.error.kind() == io::ErrorKind::PermissionDenied;
    let (taken, both) =
        (is_taken(&error), error.address == SocketAddr::from((Ipv6Addr::UNSPECIFIED, error.address.port())));
    let failure = Failure::new(if refused { Exit::NoPermission } else { Exit::Unavailable }, error);
    if refused && !privileges::has(Capability::CAP_NET_BIND_SERVICE) {
        return failure.hint("ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE");
    }
    if taken && both {
        return failure
            .hint("[::] takes IPv4 as well, unless an IPv4 address is listened on with the same port, too")
            .hint("`ss -ltnp` lists who else listens there");
    }
    failure.hint("`ss -ltnp` lists who listens; `ip address` lists the addresses of this host")
}

/// How long an address may still be taken after a keeper was killed: its workers hear of it at once.
const LINGERING: Duration = Duration::from_millis(500);

const PAUSE: Duration = Duration::from_millis(10);
