//! Sockets that datagrams arrive at: one for each worker, all of one address.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::choice::ClientFrom;
use crate::sys::calls::Ring;
use crate::sys::datagram::{Oversized, SocketFamily, set_oversized};
use crate::tcp::listen::BindError;
use crate::udp::key::FlowKey;
use crate::udp::mailbox::{Group, Mailbox};
use crate::udp::options::{DatagramFormat, HeaderRule, UdpOptions};
use crate::udp::steer::{owner, program};

/// One worker's share of an address that datagrams arrive at, not served yet.
#[derive(Debug)]
pub struct UdpListener {
    socket: UdpSocket,
    address: SocketAddr,
    family: SocketFamily,
    /// Its number in the group.
    worker: usize,
    group: Arc<Group>,
    /// Whether a client's datagrams belong to one worker wherever they come from: [`owner`].
    steered: bool,
    notices_oversized: bool,
    ring: Option<Ring>,
}

impl UdpListener {
    /// Sockets on `address` for `workers`, each to be served by a call of its own; `[::]` takes IPv4 as well, port 0
    /// any free port.
    ///
    /// The kernel gives each client's datagrams to one of them, whichever port its balancer sends from. Where only a
    /// flow's first datagram has a header there is nothing in the others to tell by, so there is one socket then. Where
    /// `client_from` is the peer its port tells clients apart.
    ///
    /// The address must be nobody else's, another gateway's included.
    ///
    /// # Errors
    ///
    /// [`BindError`] with the address and what the kernel said.
    pub fn bind(
        address: SocketAddr,
        workers: NonZeroUsize,
        options: &UdpOptions,
        client_from: ClientFrom,
    ) -> Result<Vec<Self>, BindError> {
        let workers = Self::sockets(workers, options, client_from).get();
        let bind = || {
            let (sockets, bound) = Self::group(address, workers, options)?;
            if is_steered(options, client_from) && workers > 1 {
                steer(&sockets[0], options.format, workers)?;
            }
            Self::members(sockets, bound, options, client_from)
        };
        bind().map_err(|error| BindError { address, error })
    }

    /// How many sockets [`bind`](Self::bind) makes.
    pub fn sockets(workers: NonZeroUsize, options: &UdpOptions, client_from: ClientFrom) -> NonZeroUsize {
        match (client_from, options.header) {
            (ClientFrom::Header, HeaderRule::FirstDatagram) => NonZeroUsize::MIN,
            (ClientFrom::Header, HeaderRule::EveryDatagram)
            | (ClientFrom::Peer, HeaderRule::EveryDatagram | HeaderRule::FirstDatagram) => workers,
        }
    }

    /// Takes over sockets that another process has bound with the same `options` and handed over, in the order that
    /// [`bind`](Self::bind) has them.
    ///
    /// # Errors
    ///
    /// What the kernel said when it was asked for their address, or that they have more than one.
    pub fn from_std(
        sockets: Vec<UdpSocket>,
        options: &UdpOptions,
        client_from: ClientFrom,
    ) -> io::Result<Vec<Self>> {
        let mut bound = None;
        for socket in &sockets {
            let address = socket.local_addr()?;
            if *bound.get_or_insert(address) != address {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the sockets have different addresses",
                ));
            }
            socket.set_nonblocking(true)?;
        }
        let bound = bound.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "there is no socket"))?;
        Self::members(sockets.into_iter().map(Socket::from).collect(), bound, options, client_from)
    }

    /// Where it listens, with the real port where 0 was asked for.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Makes what lets datagrams of many flows share a system call: an io_uring that is good for nothing but sending and
    /// receiving.
    ///
    /// Without, each costs one, which is some 15 % more processor time. To be called before a seccomp filter forbids
    /// `io_uring_setup` and `io_uring_register`; `io_uring_enter` is needed from then on.
    ///
    /// # Errors
    ///
    /// Why there is none: the kernel is older than Linux 5.10, or it is forbidden. It works without.
    pub fn use_io_uring(&mut self) -> io::Result<()> {
        self.ring = Some(Ring::new()?);
        Ok(())
    }

    /// Bound sockets, and the address they have.
    fn group(
        address: SocketAddr,
        workers: usize,
        options: &UdpOptions,
    ) -> io::Result<(Vec<Socket>, SocketAddr)> {
        let first = Self::socket(address, options)?;
        // Alone at first: sharing the address with whoever shares theirs is not wanted, only among ourselves.
        first.bind(&address.into())?;
        let bound = first.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
        first.set_reuse_port(true)?;
        let mut sockets = vec![first];
        while sockets.len() < workers {
            let socket = Self::socket(address, options)?;
            socket.set_reuse_port(true)?;
            socket.bind(&bound.into())?;
            sockets.push(socket);
        }
        Ok((sockets, bound))
    }

    fn members(
        sockets: Vec<Socket>,
        address: SocketAddr,
        options: &UdpOptions,
        client_from: ClientFrom,
    ) -> io::Result<Vec<Self>> {
        let group = Group::new(sockets.len())?;
        let family = if address.is_ipv4() { SocketFamily::V4 } else { SocketFamily::V6 };
        let steered = is_steered(options, client_from) && sockets.len() > 1;
        let listener = |(worker, socket): (usize, Socket)| Self {
            socket: socket.into(),
            address,
            family,
            worker,
            group: Arc::clone(&group),
            steered,
            notices_oversized: options.format == DatagramFormat::Spp,
            ring: None,
        };
        Ok(sockets.into_iter().enumerate().map(listener).collect())
    }

    fn socket(address: SocketAddr, options: &UdpOptions) -> io::Result<Socket> {
        let kind = Type::DGRAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
        let family = if address.is_ipv4() { SocketFamily::V4 } else { SocketFamily::V6 };
        if address.is_ipv6() {
            socket.set_only_v6(options.ipv6_alone)?;
        }
        if address.ip().is_unspecified() {
            // Answers have to leave from the address that was asked.
            match family {
                SocketFamily::V4 => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
                SocketFamily::V6 => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            }
        }
        enlarge(&socket);
        if options.format == DatagramFormat::Spp {
            // So that a reply which does not fit with its header is noticed; it is sent in fragments then.
            set_oversized(socket.as_fd(), family, Oversized::Refuse)?;
        }
        Ok(socket)
    }

    pub(crate) const fn take_ring(&mut self) -> Option<Ring> {
        self.ring.take()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) const fn family(&self) -> SocketFamily {
        self.family
    }

    /// Where letters for this worker come in.
    pub(crate) fn mailbox(&self) -> &Mailbox {
        self.group.of(self.worker)
    }

    /// The worker that the flow `key` belongs to, if that is another one.
    pub(crate) fn other_owner(&self, key: &FlowKey) -> Option<&Mailbox> {
        let owner = self.steered.then(|| owner(key, self.group.len()))?;
        (owner != self.worker).then(|| self.group.of(owner))
    }

    /// Wakes the worker that serves this, from wherever this clone is.
    pub(crate) fn bell(&self) -> Bell {
        Bell { group: Arc::clone(&self.group), worker: self.worker }
    }

    /// Whether it refuses to send what needs fragments.
    pub(crate) const fn notices_oversized(&self) -> bool {
        self.notices_oversized
    }

    pub(crate) fn workers(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.group.len()).unwrap_or(NonZeroUsize::MIN)
    }

    /// The address it has, where it is one.
    pub(crate) fn own_ip(&self) -> Option<IpAddr> {
        let ip = crate::addr::unmapped(self.address).ip();
        (!ip.is_unspecified()).then_some(ip)
    }
}

/// For whoever hands the socket to another process.
impl AsFd for UdpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

/// Whether the kernel decides by the client's address whose a datagram is.
fn is_steered(options: &UdpOptions, client_from: ClientFrom) -> bool {
    client_from == ClientFrom::Header && options.header == HeaderRule::EveryDatagram
}

/// Wakes one worker.
#[derive(Clone, Debug)]
pub(crate) struct Bell {
    group: Arc<Group>,
    worker: usize,
}

impl Bell {
    pub(crate) fn ring(&self) {
        self.group.of(self.worker).ring();
    }
}

/// A burst arrives faster than anybody reads. The kernel cuts this to net.core.rmem_max without CAP_NET_ADMIN.
fn enlarge(socket: &Socket) {
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        // Less is worse, but works.
        socket.set_recv_buffer_size(RECEIVE_BUFFER).ok();
    }
    SockRef::from(socket).set_send_buffer_size(RECEIVE_BUFFER).ok();
}

fn steer(socket: &Socket, format: DatagramFormat, workers: usize) -> io::Result<()> {
    let mut program = program(format, u32::try_from(workers).unwrap_or(u32::MAX));
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    Ok(setsockopt(socket, sockopt::AttachReusePortCbpf, &program)?)
}

const RECEIVE_BUFFER: usize = 4 << 20;

#[cfg(test)]
mod tests;
