//! Many datagrams per system call, each with the addresses it was sent from and to: recvmmsg(2) and sendmmsg(2).
//!
//! Nothing here allocates once a batch is made.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::libc;

use crate::addr::unmapped;

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

/// Datagrams that wait to be sent, and the memory they are made in.
pub(crate) struct Outbox {
    bytes: Box<[u8]>,
    queued: Vec<Queued>,
    /// The first of `queued` that waits.
    next: usize,
    /// Those before this one go one by one.
    singly: usize,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    /// Whether the kernel cuts one large buffer into equal datagrams (UDP_SEGMENT), as far as is known.
    segments: bool,
    family: SocketFamily,
}

/// A datagram that waits to be sent.
#[derive(Clone, Copy, Debug)]
struct Queued {
    to: SocketAddr,
    /// The local address it has to leave from; `None` where the socket has one.
    from: Option<IpAddr>,
    start: usize,
    len: usize,
}

/// A datagram that the kernel did not take, and why.
#[derive(Debug)]
pub(crate) struct Unsent {
    pub(crate) to: SocketAddr,
    pub(crate) error: io::Error,
}

/// Which kind of address a socket takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketFamily {
    V4,
    /// IPv4 addresses have to be mapped.
    V6,
}

impl Outbox {
    /// Room for `batch` datagrams of any size, with a header in front, for a socket of `family`.
    pub(crate) fn new(batch: usize, family: SocketFamily) -> Self {
        Self {
            bytes: vec![0; batch * STRIDE].into_boxed_slice(),
            queued: Vec::with_capacity(batch),
            next: 0,
            singly: 0,
            names: vec![Name::EMPTY; batch].into_boxed_slice(),
            controls: vec![Control::EMPTY; batch].into_boxed_slice(),
            vectors: vec![NO_VECTOR; batch].into_boxed_slice(),
            headers: (0..batch).map(|_| no_header()).collect(),
            segments: true,
            family,
        }
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.queued.len() == self.headers.len()
    }

    /// Where the payload of the next datagram goes. There must be room: see [`is_full`](Self::is_full).
    pub(crate) fn next_payload(&mut self) -> &mut [u8] {
        let start = self.queued.len() * STRIDE + HEADROOM;
        &mut self.bytes[start..start + LARGEST]
    }

    /// Queues the first `len` bytes of [`next_payload`](Self::next_payload), with `header` in front of them.
    pub(crate) fn queue(&mut self, header: &[u8], len: usize, to: SocketAddr, from: Option<IpAddr>) {
        let payload = self.queued.len() * STRIDE + HEADROOM;
        let start = payload - header.len();
        self.bytes[start..payload].copy_from_slice(header);
        self.queued.push(Queued { to, from, start, len: header.len() + len });
    }

    /// Sends what waits, up to a datagram that the kernel does not take: that one is the first to wait then. Never waits.
    pub(crate) fn flush(&mut self, socket: BorrowedFd<'_>) -> Result<(), Unsent> {
        while let Some(first) = self.queued.get(self.next).copied() {
            let messages = self.prepare(usize::MAX);
            let error = match self.send(socket, messages) {
                Ok(sent) => {
                    self.next += self.headers[..sent].iter().map(datagrams).sum::<usize>();
                    continue;
                }
                Err(error) => error,
            };
            match (datagrams(&self.headers[0]), error.raw_os_error()) {
                // The device cannot cut, and never will.
                (2.., Some(libc::EIO)) => self.segments = false,
                // Too large for the path, perhaps: one by one they go, or say what is wrong.
                (run @ 2.., Some(libc::EINVAL | libc::EMSGSIZE)) => self.singly = self.next + run,
                _ => return Err(Unsent { to: first.to, error }),
            }
        }
        self.queued.clear();
        (self.next, self.singly) = (0, 0);
        Ok(())
    }

    /// Sends the first datagram that waits, alone. It waits no more, sent or not.
    pub(crate) fn send_first(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let messages = self.prepare(1);
        let sent = self.send(socket, messages).map(drop);
        self.skip_first();
        sent
    }

    /// Forgets the first datagram that waits.
    pub(crate) fn skip_first(&mut self) {
        self.next += 1;
    }

    /// How many wait.
    pub(crate) const fn len(&self) -> usize {
        self.queued.len() - self.next
    }

    /// Makes messages of the first `most` datagrams that wait, and says how many messages.
    fn prepare(&mut self, most: usize) -> usize {
        let bytes = self.bytes.as_mut_ptr();
        let (mut messages, mut at) = (0, self.next);
        while let Some(leader) = self.queued.get(at).filter(|_| at - self.next < most).copied() {
            let cut = self.segments && at >= self.singly && most > 1;
            let run = if cut { run(&self.queued[at..]) } else { 1 };
            for (vector, queued) in self.vectors[at..].iter_mut().zip(&self.queued[at..at + run]) {
                *vector =
                    libc::iovec { iov_base: bytes.wrapping_add(queued.start).cast(), iov_len: queued.len };
            }
            let segment = (run > 1).then_some(leader.len as u16);
            let header = &mut self.headers[messages].msg_hdr;
            header.msg_namelen = self.names[messages].set(leader.to, self.family);
            header.msg_controllen = self.controls[messages].set(leader.from, segment, self.family) as _;
            header.msg_iovlen = run as _;
            messages += 1;
            at += run;
        }
        // Pointers last, when nothing they point to is borrowed any more.
        let (names, controls) = (self.names.as_mut_ptr(), self.controls.as_mut_ptr());
        let mut vectors = self.vectors.as_mut_ptr().wrapping_add(self.next);
        for (message, header) in self.headers[..messages].iter_mut().enumerate() {
            header.msg_hdr.msg_name = names.wrapping_add(message).cast();
            header.msg_hdr.msg_control = match header.msg_hdr.msg_controllen {
                0 => ptr::null_mut(),
                _ => controls.wrapping_add(message).cast(),
            };
            header.msg_hdr.msg_iov = vectors;
            vectors = vectors.wrapping_add(datagrams(header));
        }
        messages
    }

    fn send(&mut self, socket: BorrowedFd<'_>, messages: usize) -> io::Result<usize> {
        let headers = self.headers[..messages].as_mut_ptr();
        // SAFETY: the first `messages` headers were made by `prepare` just before: each points to a name and a control
        // buffer of the lengths given, and to as many vectors as it says, each of which points to bytes of a queued
        // datagram. All of it belongs to `self`, which is borrowed for the call. The descriptor is open while it is
        // borrowed.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers,
                messages as libc::c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// How the kernel treats datagrams of `socket` that are larger than the path takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oversized {
    /// Sends them in fragments, the system's default.
    Fragment,
    /// Refuses them: EMSGSIZE.
    Refuse,
}

/// Sets [`Oversized`] for every family that `socket` sends to.
pub(crate) fn set_oversized(socket: BorrowedFd<'_>, family: SocketFamily, how: Oversized) -> io::Result<()> {
    let (v4, v6) = match how {
        Oversized::Fragment => (libc::IP_PMTUDISC_WANT, libc::IPV6_PMTUDISC_WANT),
        Oversized::Refuse => (libc::IP_PMTUDISC_DO, libc::IPV6_PMTUDISC_DO),
    };
    set_int(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, v4)?;
    match family {
        SocketFamily::V4 => Ok(()),
        SocketFamily::V6 => set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, v6),
    }
}

fn set_int(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` outlives the call and `length` is its exact size; the kernel only reads it. The descriptor is
    // open while it is borrowed.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes of a `sockaddr_in` or `sockaddr_in6`, read and written field by field.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Name([u8; size_of::<libc::sockaddr_in6>()]);

impl Name {
    const EMPTY: Self = Self([0; size_of::<libc::sockaddr_in6>()]);

    fn address(&self, length: libc::socklen_t) -> Option<SocketAddr> {
        let bytes = self.0.get(..length as usize)?;
        let family = i32::from(u16::from_ne_bytes(array(bytes, name::FAMILY.start)?));
        let port = u16::from_be_bytes(array(bytes, name::PORT.start)?);
        match family {
            libc::AF_INET => {
                let ip = Ipv4Addr::from(array::<4>(bytes, name::V4.start)?);
                Some(SocketAddrV4::new(ip, port).into())
            }
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from(array::<16>(bytes, name::V6.start)?);
                let scope = u32::from_ne_bytes(array(bytes, name::SCOPE.start)?);
                Some(unmapped(SocketAddrV6::new(ip, port, 0, scope).into()))
            }
            _ => None,
        }
    }

    /// Writes `address` as a socket of `family` takes it; its length.
    fn set(&mut self, address: SocketAddr, family: SocketFamily) -> libc::socklen_t {
        self.0 = [0; size_of::<libc::sockaddr_in6>()];
        self.0[name::PORT].copy_from_slice(&address.port().to_be_bytes());
        match (family, address) {
            (SocketFamily::V4, SocketAddr::V4(v4)) => {
                self.0[name::FAMILY].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                self.0[name::V4].copy_from_slice(&v4.ip().octets());
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            (SocketFamily::V4 | SocketFamily::V6, address) => {
                let (ip, scope) = match address {
                    SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), 0),
                    SocketAddr::V6(v6) => (*v6.ip(), v6.scope_id()),
                };
                self.0[name::FAMILY].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                self.0[name::V6].copy_from_slice(&ip.octets());
                self.0[name::SCOPE].copy_from_slice(&scope.to_ne_bytes());
                size_of::<libc::sockaddr_in6>() as libc::socklen_t
            }
        }
    }
}

/// Byte positions in `sockaddr_in` and `sockaddr_in6`, the same on every Linux.
mod name {
    use super::Range;

    pub(super) const FAMILY: Range<usize> = 0..2;
    pub(super) const PORT: Range<usize> = 2..4;
    pub(super) const V4: Range<usize> = 4..8;
    pub(super) const V6: Range<usize> = 8..24;
    pub(super) const SCOPE: Range<usize> = 24..28;
}

/// Room for control messages: addresses of both families and a segment size.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 128]);

impl Control {
    const EMPTY: Self = Self([0; 128]);

    /// Level, type and data of each message in the first `length` bytes.
    fn messages(&self, length: usize) -> impl Iterator<Item = (libc::c_int, libc::c_int, &[u8])> {
        let mut rest = self.0.get(..length).unwrap_or_default();
        std::iter::from_fn(move || {
            let size = control_len(rest)?;
            let message = rest.get(..size).filter(|_| size >= CONTROL_HEADER)?;
            let level = libc::c_int::from_ne_bytes(array(message, control::LEVEL)?);
            let kind = libc::c_int::from_ne_bytes(array(message, control::KIND)?);
            rest = rest.get(aligned(size)..).unwrap_or_default();
            Some((level, kind, &message[CONTROL_HEADER..]))
        })
    }

    /// Writes the messages that a datagram from `from`, in segments of `segment` bytes, needs; their length.
    fn set(&mut self, from: Option<IpAddr>, segment: Option<u16>, family: SocketFamily) -> usize {
        let mut length = 0;
        match (from, family) {
            (Some(IpAddr::V4(ip)), SocketFamily::V4) => {
                // Interface: any. The second field is the source address.
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&ip.octets());
                length = self.push(length, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            (Some(ip), _) => {
                let ip = match ip {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                let mut info = [0; 20];
                info[..16].copy_from_slice(&ip.octets());
                length = self.push(length, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            (None, _) => {}
        }
        if let Some(segment) = segment {
            length = self.push(length, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        length
    }

    fn push(&mut self, at: usize, level: libc::c_int, kind: libc::c_int, data: &[u8]) -> usize {
        let size = CONTROL_HEADER + data.len();
        let message = &mut self.0[at..at + aligned(size)];
        message.fill(0);
        set_control_len(message, size);
        message[control::LEVEL..][..size_of::<libc::c_int>()].copy_from_slice(&level.to_ne_bytes());
        message[control::KIND..][..size_of::<libc::c_int>()].copy_from_slice(&kind.to_ne_bytes());
        message[CONTROL_HEADER..size].copy_from_slice(data);
        at + aligned(size)
    }
}

/// Byte positions in `cmsghdr`.
mod control {
    use super::{libc, mem};

    pub(super) const LEVEL: usize = mem::offset_of!(libc::cmsghdr, cmsg_level);
    pub(super) const KIND: usize = mem::offset_of!(libc::cmsghdr, cmsg_type);
}

/// The kernel's `cmsg_len` is a `size_t`, whatever a C library makes of its upper half.
fn control_len(messages: &[u8]) -> Option<usize> {
    array(messages, 0).map(usize::from_ne_bytes)
}

fn set_control_len(message: &mut [u8], length: usize) {
    message[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
}

/// CMSG_ALIGN
const fn aligned(length: usize) -> usize {
    length.next_multiple_of(size_of::<usize>())
}

/// CMSG_LEN(0)
const CONTROL_HEADER: usize = aligned(size_of::<libc::cmsghdr>());

/// How many of `queued` can go as one buffer that the kernel cuts: to the same balancer, all of the same size.
fn run(queued: &[Queued]) -> usize {
    let first = queued[0];
    if first.len == 0 || first.len > LARGEST_SEGMENT {
        return 1;
    }
    let most = (LARGEST_RUN / first.len).min(MOST_SEGMENTS);
    let same = |next: &&Queued| next.to == first.to && next.from == first.from && next.len == first.len;
    queued.iter().take(most).take_while(same).count()
}

/// How much of its control buffer a message uses.
#[allow(clippy::unnecessary_cast, reason = "a length of 32 bits with musl")]
const fn control_bytes(message: &libc::mmsghdr) -> usize {
    message.msg_hdr.msg_controllen as usize
}

/// How many datagrams one message carries.
#[allow(clippy::unnecessary_cast, reason = "a length of 32 bits with musl")]
const fn datagrams(message: &libc::mmsghdr) -> usize {
    message.msg_hdr.msg_iovlen as usize
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn unmapped_ip(ip: Ipv6Addr) -> IpAddr {
    ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
}

fn no_header() -> libc::mmsghdr {
    // SAFETY: a structure of integers and pointers, for which all zeros is the valid empty value; some C libraries pad
    // it with private fields that a literal could not name.
    unsafe { mem::zeroed() }
}

const NO_VECTOR: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

/// Largest payload of a datagram that any kernel delivers (IPv6; 65,507 with IPv4).
const LARGEST: usize = 65_527;

/// Room in front of a payload for the header of a reply.
const HEADROOM: usize = 64;

/// Distance of two datagrams in a batch. Not a power of two: they would share the same few lines of the cache.
const STRIDE: usize = 65_536 + 64 * 5;

const _: () = assert!(HEADROOM + LARGEST <= STRIDE);

/// UDP_MAX_SEGMENTS before Linux 6.9, which doubled it.
const MOST_SEGMENTS: usize = 64;

/// What one buffer may have: the length field of an IPv4 packet.
const LARGEST_RUN: usize = 65_507;

/// What fits a segment on any path that IPv6 is meant for; larger ones gain little and fail more often.
const LARGEST_SEGMENT: usize = 1_232;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use nix::sys::socket::{setsockopt, sockopt};

    use super::*;

    fn arrived(inbox: &mut Inbox, socket: &UdpSocket) -> usize {
        socket.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        socket.peek_from(&mut [0; 1]).expect("a datagram");
        inbox.receive(socket.as_fd()).expect("a datagram is there")
    }

    fn pair(address: &str) -> (UdpSocket, UdpSocket) {
        let bind = || UdpSocket::bind(address).expect("loopback");
        (bind(), bind())
    }

    #[test]
    fn datagrams_of_every_size_arrive_with_the_address_of_their_sender() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (sender, receiver) = pair(address);
            let (to, from) = (receiver.local_addr().unwrap(), sender.local_addr().unwrap());
            let family = if to.is_ipv4() { SocketFamily::V4 } else { SocketFamily::V6 };
            let (mut inbox, mut outbox) = (Inbox::new(4), Outbox::new(4, family));
            for size in [0, 1, 1200, 9000, 65_507] {
                outbox.next_payload()[..size].fill(7);
                outbox.queue(b"", size, to, None);
                outbox.flush(sender.as_fd()).expect("sent");
                assert_eq!(arrived(&mut inbox, &receiver), 1);
                let received = inbox.get(0);
                assert_eq!((received.from, received.to, received.segment), (Some(from), None, None));
                assert_eq!(received.bytes, vec![7; size]);
            }
        }
    }

    #[test]
    fn a_batch_keeps_order_headers_and_sizes_whether_they_can_be_cut_from_one_buffer_or_not() {
        let (sender, receiver) = pair("127.0.0.1:0");
        let to = receiver.local_addr().unwrap();
        let (mut inbox, mut outbox) = (Inbox::new(16), Outbox::new(16, SocketFamily::V4));
        let sizes = [5, 5, 5, 0, 0, 7, 5, 2000, 2000, 1, 1, 1];
        for (number, size) in sizes.into_iter().enumerate() {
            outbox.next_payload()[..size].fill(number as u8);
            outbox.queue(b"head", size, to, None);
        }
        outbox.flush(sender.as_fd()).expect("sent");
        assert_eq!(outbox.len(), 0);
        let mut seen = Vec::new();
        while seen.len() < sizes.len() {
            for index in 0..arrived(&mut inbox, &receiver) {
                seen.push(inbox.get(index).bytes.to_vec());
            }
        }
        for (number, (size, bytes)) in sizes.into_iter().zip(seen).enumerate() {
            assert_eq!(bytes, [&b"head"[..], &vec![number as u8; size]].concat(), "datagram {number}");
        }
    }

    #[test]
    fn a_socket_on_all_addresses_is_told_which_one_was_meant_and_answers_from_it() {
        for (bound, to) in [("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "127.0.0.9"), ("[::]:0", "::1")] {
            let receiver = UdpSocket::bind(bound).unwrap();
            let family = if bound.starts_with('[') { SocketFamily::V6 } else { SocketFamily::V4 };
            match family {
                SocketFamily::V4 => setsockopt(&receiver, sockopt::Ipv4PacketInfo, &true).unwrap(),
                SocketFamily::V6 => setsockopt(&receiver, sockopt::Ipv6RecvPacketInfo, &true).unwrap(),
            }
            let to: IpAddr = to.parse().unwrap();
            let sender = UdpSocket::bind((if to.is_ipv4() { "127.0.0.1" } else { "::1" }, 0)).unwrap();
            sender.connect((to, receiver.local_addr().unwrap().port())).unwrap();
            sender.send(b"question").unwrap();
            let (mut inbox, mut outbox) = (Inbox::new(2), Outbox::new(2, family));
            assert_eq!(arrived(&mut inbox, &receiver), 1);
            let received = inbox.get(0);
            assert_eq!(
                (received.from, received.to),
                (Some(sender.local_addr().unwrap()), Some(to)),
                "{bound}"
            );
            // Two of a size: with their source address given, and cut from one buffer.
            for _ in 0..2 {
                outbox.next_payload()[..6].copy_from_slice(b"answer");
                outbox.queue(b"", 6, sender.local_addr().unwrap(), Some(to));
            }
            outbox.flush(receiver.as_fd()).expect("sent");
            for _ in 0..2 {
                // It is connected: an answer from any other address would not be seen.
                sender.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
                let mut answer = [0; 16];
                assert_eq!(sender.recv(&mut answer).expect("an answer"), 6);
            }
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_told_and_the_others_are_sent() {
        let (sender, receiver) = pair("127.0.0.1:0");
        let to = receiver.local_addr().unwrap();
        let mut outbox = Outbox::new(4, SocketFamily::V4);
        for size in [1, 65_507, 2] {
            outbox.queue(if size > 2 { b"no room" } else { b"" }, size, to, None);
        }
        let refused = outbox.flush(sender.as_fd()).expect_err("the second one is too large");
        assert_eq!((refused.to, refused.error.raw_os_error()), (to, Some(libc::EMSGSIZE)));
        assert_eq!(outbox.len(), 2);
        outbox.skip_first();
        outbox.flush(sender.as_fd()).expect("the third one");
        let mut inbox = Inbox::new(4);
        let mut sizes = Vec::new();
        while sizes.len() < 2 {
            sizes.extend(
                (0..arrived(&mut inbox, &receiver))
                    .map(|index| inbox.get(index).bytes.len())
                    .collect::<Vec<_>>(),
            );
        }
        assert_eq!(sizes, [1, 2]);
    }
}
