//! Sending many datagrams per system call: sendmmsg(2), equal ones in one buffer that the kernel cuts.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::libc;

use super::control::Control;
use super::name::Name;
use super::{HEADROOM, LARGEST, NO_VECTOR, STRIDE, SocketFamily, no_header};

/// Datagrams that wait to be sent, and the memory they are made in.
pub(crate) struct Outbox {
    bytes: Box<[u8]>,
    queued: Vec<Queued>,
    /// Slots of `bytes` that were handed out since the last flush.
    taken: usize,
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

impl Outbox {
    /// Room for `batch` datagrams of any size, with a header in front, for a socket of `family`.
    pub(crate) fn new(batch: usize, family: SocketFamily) -> Self {
        Self {
            bytes: vec![0; batch * STRIDE].into_boxed_slice(),
            queued: Vec::with_capacity(batch),
            taken: 0,
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

    /// How many slots are free.
    pub(crate) const fn room(&self) -> usize {
        self.headers.len() - self.taken
    }

    /// Where the payloads of the next datagrams may go, one in each slot that is free.
    pub(crate) fn free(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let free = self.bytes.chunks_exact_mut(STRIDE).skip(self.taken);
        free.map(|slot| &mut slot[HEADROOM..HEADROOM + LARGEST])
    }

    /// Takes the first `slots` of those that are free, and says which they are. There must be [room](Self::room).
    pub(crate) const fn take(&mut self, slots: usize) -> Range<usize> {
        let first = self.taken;
        self.taken += slots;
        first..self.taken
    }

    /// Queues the first `len` bytes of the payload in `slot`, which was taken, with `header` in front of them.
    pub(crate) fn queue(
        &mut self,
        slot: usize,
        header: &[u8],
        len: usize,
        to: SocketAddr,
        from: Option<IpAddr>,
    ) {
        let payload = slot * STRIDE + HEADROOM;
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
        self.clear();
        Ok(())
    }

    /// Forgets what waits.
    pub(crate) fn clear(&mut self) {
        self.queued.clear();
        (self.taken, self.next, self.singly) = (0, 0, 0);
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

/// How many datagrams one message carries.
#[allow(clippy::unnecessary_cast, reason = "a length of 32 bits with musl")]
const fn datagrams(message: &libc::mmsghdr) -> usize {
    message.msg_hdr.msg_iovlen as usize
}

/// UDP_MAX_SEGMENTS before Linux 6.9, which doubled it.
const MOST_SEGMENTS: usize = 64;

/// What one buffer may have: the length field of an IPv4 packet.
const LARGEST_RUN: usize = 65_507;

/// What fits a segment on any path that IPv6 is meant for; larger ones gain little and fail more often.
const LARGEST_SEGMENT: usize = 1_232;
