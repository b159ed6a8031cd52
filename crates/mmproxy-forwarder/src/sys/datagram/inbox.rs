//! Receiving many datagrams per system call: recvmmsg(2).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::libc;

use super::control::Control;
use super::name::Name;
use super::{LARGEST, NO_VECTOR, STRIDE, array, no_header};

/// Datagrams as they are received, a batch at a time.
pub(crate) struct Inbox {
    bytes: Box<[u8]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    /// The sender, unmapped; `None` if the kernel did not say, which for internet sockets it always does.
    pub(crate) from: Option<SocketAddr>,
    /// The address it was sent to, unmapped; `None` unless the socket was asked to tell.
    pub(crate) to: Option<IpAddr>,
    pub(crate) bytes: &'a [u8],
    /// Several datagrams of so many bytes each, the last one possibly shorter, stand one behind the other.
    pub(crate) segment: Option<usize>,
}

impl Inbox {
    /// Room for `batch` datagrams of any size.
    pub(crate) fn new(batch: usize) -> Self {
        Self {
            bytes: vec![0; batch * STRIDE].into_boxed_slice(),
            names: vec![Name::EMPTY; batch].into_boxed_slice(),
            controls: vec![Control::EMPTY; batch].into_boxed_slice(),
            vectors: vec![NO_VECTOR; batch].into_boxed_slice(),
            headers: (0..batch).map(|_| no_header()).collect(),
        }
    }

    /// How many datagrams one call takes at most.
    pub(crate) const fn batch(&self) -> usize {
        self.headers.len()
    }

    /// Receives what is there, and forgets what was received before. Never waits: `WouldBlock` if there is nothing.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        // The kernel writes lengths into what it is given, so all of it is made anew for each call.
        let slots = self.bytes.chunks_exact_mut(STRIDE).zip(&mut self.names).zip(&mut self.controls);
        for (((slot, name), control), (vector, header)) in
            slots.zip(self.vectors.iter_mut().zip(&mut self.headers))
        {
            *vector = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: LARGEST };
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen = size_of::<Name>() as libc::socklen_t;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = (&raw mut *control).cast();
            header.msg_hdr.msg_controllen = size_of::<Control>() as _;
            header.msg_hdr.msg_flags = 0;
            header.msg_len = 0;
        }
        let (headers, batch) = (self.headers.as_mut_ptr(), self.headers.len() as libc::c_uint);
        // SAFETY: `headers` has `batch` elements. Each points to a name, a vector and a control buffer of the lengths
        // given, and each vector to its own slot of at least LARGEST bytes; all of them belong to `self`, which is
        // borrowed for the call. No time-out is given. The descriptor is open while it is borrowed.
        let received = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), headers, batch, libc::MSG_DONTWAIT as _, ptr::null_mut())
        };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    /// A datagram of the last call, by its number there.
    pub(crate) fn get(&self, index: usize) -> Received<'_> {
        let header = &self.headers[index];
        let start = index * STRIDE;
        let length = (header.msg_len as usize).min(LARGEST);
        let mut received = Received {
            from: self.names[index].address(header.msg_hdr.msg_namelen),
            to: None,
            bytes: &self.bytes[start..start + length],
            segment: None,
        };
        for (level, kind, data) in self.controls[index].messages(control_bytes(header)) {
            match (level, kind) {
                // struct in_pktinfo: interface, local address, destination of the datagram.
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    received.to = array::<4>(data, 8).map(|octets| Ipv4Addr::from(octets).into());
                }
                // struct in6_pktinfo: destination, interface.
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    received.to = array::<16>(data, 0).map(|octets| unmapped_ip(Ipv6Addr::from(octets)));
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let size = array::<4>(data, 0).map_or(0, i32::from_ne_bytes);
                    received.segment = usize::try_from(size).ok().filter(|size| *size > 0);
                }
                _ => {}
            }
        }
        received
    }
}

/// How much of its control buffer a message uses.
#[allow(clippy::unnecessary_cast, reason = "a length of 32 bits with musl")]
const fn control_bytes(message: &libc::mmsghdr) -> usize {
    message.msg_hdr.msg_controllen as usize
}

fn unmapped_ip(ip: Ipv6Addr) -> IpAddr {
    ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
}
