//! The sockets that a worker was started with.

use std::io;

use listenfd::ListenFd;
use mmproxy_forwarder::{Listener, UdpListener};
use std::net::{TcpListener, UdpSocket};
use tracing::info;

use crate::channel::{Assignment, Slot};
use crate::cli::{IoUringArg, ProtocolArg};
use crate::exit::{Exit, Failure};
use crate::spec::Budget;

/// Sockets by service, each service's in the order of its threads.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) services: Vec<Inherited>,
    /// Of the admin address.
    pub(super) admin: Option<TcpListener>,
}

/// The sockets of a service, one list for each address.
#[derive(Debug)]
pub(super) enum Inherited {
    Connections(Vec<Vec<Listener>>),
    Datagrams(Vec<Vec<UdpListener>>),
}

impl Sockets {
    /// Takes over what the keeper has handed over (`LISTEN_FDS`), which is what the assignment lists.
    pub(super) fn inherited(assignment: &Assignment, budget: Budget) -> Result<Self, Failure> {
        let mut handed = ListenFd::from_env();
        let expected = assignment.sockets.len() + usize::from(assignment.admin);
        if handed.len() != expected {
            let what = format!("{} sockets were handed over, not {expected}", handed.len());
            return Err(Failure::new(Exit::Software, what));
        }
        let mut services = Vec::new();
        for (number, service) in assignment.spec.services.iter().enumerate() {
            let slots = |address| Slot { service: number, address, protocol: service.protocol };
            let addresses = 0..service.listen.len();
            let places = |address| {
                let wanted = slots(address);
                let all = assignment.sockets.iter().enumerate();
                all.filter(move |(_, slot)| **slot == wanted).map(|(place, _)| place)
            };
            services.push(match service.protocol {
                ProtocolArg::Tcp => {
                    let listeners = addresses.map(|address| {
                        places(address)
                            .map(|place| connections(&mut handed, place))
                            .collect::<io::Result<_>>()
                    });
                    listeners.collect::<io::Result<_>>().map(Inherited::Connections).map_err(broken)?
                }
                ProtocolArg::Udp => {
                    let options =
                        service.datagrams(budget.flows).map_err(|error| Failure::new(Exit::Config, error))?;
                    let listeners = addresses.map(|address| {
                        let sockets: io::Result<Vec<UdpSocket>> =
                            places(address).map(|place| datagrams(&mut handed, place)).collect();
                        let mut listeners = UdpListener::from_std(sockets?, &options, service.client_from())?;
                        if service.udp.io_uring == IoUringArg::Auto {
                            share_calls(&mut listeners);
                        }
                        Ok(listeners)
                    });
                    listeners.collect::<io::Result<_>>().map(Inherited::Datagrams).map_err(broken)?
                }
            });
        }
        let admin = match assignment.admin {
            true => handed.take_tcp_listener(assignment.sockets.len()).map_err(broken)?,
            false => None,
        };
        Ok(Self { services, admin })
    }
}

fn connections(handed: &mut ListenFd, place: usize) -> io::Result<Listener> {
    let socket = handed.take_tcp_listener(place)?.ok_or(io::ErrorKind::NotFound)?;
    Listener::from_std(socket)
}

fn datagrams(handed: &mut ListenFd, place: usize) -> io::Result<UdpSocket> {
    Ok(handed.take_udp_socket(place)?.ok_or(io::ErrorKind::NotFound)?)
}

fn broken(error: io::Error) -> Failure {
    Failure::new(Exit::Software, Broken(error))
}

#[derive(Debug, thiserror::Error)]
#[error("a socket that was handed over cannot be used")]
struct Broken(#[source] io::Error);

/// Lets datagrams of many flows share a system call, if that is to be had here; the jail forbids it later.
fn share_calls(listeners: &mut [UdpListener]) {
    for listener in listeners {
        if let Err(error) = listener.use_io_uring() {
            info!(%error, "no io_uring: each datagram costs a system call");
            return;
        }
    }
}
