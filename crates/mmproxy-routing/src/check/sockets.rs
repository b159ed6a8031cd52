//! The sockets of this network namespace that wait for clients, from the kernel's socket diagnostics.
//!
//! Rather than `/proc/net/tcp`, because the kernel then leaves out what is no listener (a busy host has a hundred
//! thousand connections), and because only here it says whether a socket on `::` takes IPv4 clients too, and to which
//! interface it is bound. Needs no privilege.

use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use nix::net::if_::if_indextoname;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};

use crate::mode::Transport;

/// A socket that waits for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) address: SocketAddr,
    /// An IPv6 socket that takes no IPv4 clients (`IPV6_V6ONLY`).
    pub(super) v6_only: bool,
    /// The one interface it takes clients from (`SO_BINDTODEVICE`).
    pub(super) device: Option<String>,
    /// Its owner.
    pub(super) uid: u32,
    /// Its number among the open files, as in `/proc/PID/fd`.
    pub(super) inode: u32,
}

/// How a socket would come to serve an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Serves {
    /// It is bound to that address: the kernel prefers it.
    Exactly,
    /// It is bound to every address.
    Everywhere,
}

impl Bound {
    /// Whether a packet of this host to `address` gets to this socket; its port is the right one.
    pub(super) fn serves(&self, address: IpAddr) -> Option<Serves> {
        if self.device.as_deref().is_some_and(|device| device != "lo") {
            return None;
        }
        let own = self.address.ip();
        if own.to_canonical() == address.to_canonical() {
            return Some(Serves::Exactly);
        }
        let takes_family = match (own, address.to_canonical()) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => true,
            (IpAddr::V6(_), IpAddr::V4(_)) => !self.v6_only,
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
        };
        (own.is_unspecified() && takes_family).then_some(Serves::Everywhere)
    }
}

/// All sockets of a transport that wait for clients: TCP listeners, UDP sockets that are not connected.
pub(super) fn waiting(transport: Transport) -> io::Result<Vec<Bound>> {
    let mut sockets = Vec::new();
    for (family, socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        let (protocol, states) = match transport {
            Transport::Tcp => (IPPROTO_TCP, StateFlags::LISTEN),
            Transport::Udp => (IPPROTO_UDP, StateFlags::CLOSE),
        };
        let request =
            InetRequest { family, protocol, extensions: ExtensionFlags::empty(), states, socket_id };
        dump(request, |response| sockets.push(Bound::read(&response)))?;
    }
    Ok(sockets)
}

impl Bound {
    fn read(response: &InetResponse) -> Self {
        let id = &response.header.socket_id;
        let device = (id.interface_id != 0).then(|| {
            if_indextoname(id.interface_id)
                .map_or_else(|_| format!("if{}", id.interface_id), |name| name.to_string_lossy().into_owned())
        });
        Self {
            address: SocketAddr::new(id.source_address, id.source_port),
            v6_only: response.nlas.iter().any(|nla| matches!(nla, Nla::SkV6Only(true))),
            device,
            uid: response.header.uid,
            inode: response.header.inode,
        }
    }
}

/// The kernel answers such a request while it takes it, so nothing here waits.
fn dump(request: InetRequest, mut each: impl FnMut(InetResponse)) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            // Messages begin at multiples of four bytes.
            let length = (message.header.length as usize).next_multiple_of(4).max(NETLINK_HEADER);
            if let NetlinkPayload::Error(error) = &message.payload {
                return error.code.map_or(Ok(()), |_| Err(error.to_io()));
            }
            if let NetlinkPayload::Done(done) = &message.payload {
                return if done.code < 0 { Err(io::Error::from_raw_os_error(-done.code)) } else { Ok(()) };
            }
            if let NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) = message.payload {
                each(*response);
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

/// The shortest message there is, in bytes.
const NETLINK_HEADER: usize = 16;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn bound(address: &str, v6_only: bool, device: Option<&str>) -> Bound {
        let address = address.parse().unwrap();
        Bound { address, v6_only, device: device.map(str::to_owned), uid: 0, inode: 1 }
    }

    #[test]
    fn sockets_serve_their_address_or_every_address() {
        use Serves::{Everywhere, Exactly};
        for (socket, address, serves) in [
            (bound("127.0.0.1:1", false, None), "127.0.0.1", Some(Exactly)),
            (bound("127.0.0.1:1", false, None), "127.0.0.2", None),
            (bound("0.0.0.0:1", false, None), "127.0.0.1", Some(Everywhere)),
            (bound("0.0.0.0:1", false, None), "::1", None),
            (bound("[::]:1", false, None), "127.0.0.1", Some(Everywhere)),
            (bound("[::]:1", true, None), "127.0.0.1", None),
            (bound("[::]:1", true, None), "::1", Some(Everywhere)),
            (bound("[::ffff:127.0.0.1]:1", false, None), "127.0.0.1", Some(Exactly)),
            (bound("[::1]:1", false, None), "::1", Some(Exactly)),
            (bound("0.0.0.0:1", false, Some("eth0")), "127.0.0.1", None),
            (bound("0.0.0.0:1", false, Some("lo")), "127.0.0.1", Some(Everywhere)),
        ] {
            assert_eq!(socket.serves(address.parse().unwrap()), serves, "{socket:?} {address}");
        }
        assert!(Exactly < Everywhere, "the kernel's preference");
    }

    #[test]
    fn the_kernel_lists_listeners_with_what_they_take() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = waiting(Transport::Tcp).unwrap();
        let address = listener.local_addr().unwrap();
        let socket = found.iter().find(|socket| socket.address == address).unwrap();
        assert!(socket.inode != 0);
        drop(listener);
        assert!(!waiting(Transport::Tcp).unwrap().iter().any(|socket| socket.address == address));
    }

    #[test]
    fn connected_udp_sockets_are_no_servers() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        let found = waiting(Transport::Udp).unwrap();
        let lists = |socket: &UdpSocket| {
            let address = socket.local_addr().unwrap();
            found.iter().any(|found| found.address == address)
        };
        assert!(lists(&server));
        assert!(!lists(&client));
    }
}
