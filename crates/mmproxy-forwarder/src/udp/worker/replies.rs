//! From targets to balancers.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Instant;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Worker, clock};
use crate::addr::PeerAddr;
use crate::sys::calls::Call;
use crate::sys::datagram::{Oversized, Unsent, set_oversized};
use crate::udp::drops::DropReason;
use crate::udp::listen::UdpListener;
use crate::udp::table::FlowId;

impl Worker<'_> {
    /// Datagrams from the targets of the flows that are ready.
    pub(super) fn replies(&mut self, now: Instant) {
        // One of each while many have something: asking a socket that is empty costs as much as one that is not. A few
        // that have much are emptied, up to a bound so that they do not keep the others waiting; what is left is told
        // again, and so is what comes although nothing was to be expected.
        let rounds = if self.ready.len() > FEW { 1 } else { REPLIES };
        // Some may have ended by an event before this one.
        self.ready.retain(|id| self.core.upstream(*id).is_some());
        for _ in 0..rounds {
            if self.ready.is_empty() {
                break;
            }
            self.one_reply_each(now);
            self.ready.retain(|id| self.core.expects_replies(*id));
        }
        self.ready.clear();
        self.flush();
    }

    /// Keeps of the flows that are ready those that had something.
    fn one_reply_each(&mut self, now: Instant) {
        let (mut next, mut kept) = (0, 0);
        while next < self.ready.len() {
            if self.outbox.room() == 0 {
                self.flush();
            }
            let ready = &self.ready[next..];
            let ready = &ready[..ready.len().min(self.outbox.room())];
            let many = ready.len();
            self.calls.make(ready.iter().zip(self.outbox.free()).filter_map(|(id, payload)| {
                Some(Call::Receive(self.core.upstream(*id)?.socket.socket().as_fd(), payload))
            }));
            for (number, slot) in self.outbox.take(many).enumerate() {
                let id = self.ready[next + number];
                match self.calls.outcome(number) {
                    Ok(len) => {
                        self.reply(id, slot, len, now);
                        self.ready[kept] = id;
                        kept += 1;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // ICMP: the target is down, and may come up again. The socket is as good as before.
                    Err(error) => {
                        let peer = self.core.table().get(id).map(|flow| flow.peer);
                        self.net.tell_dropped(DropReason::of_unsent(&error), peer, &error, now);
                    }
                }
            }
            next += many;
        }
        self.ready.truncate(kept);
    }

    /// A reply of `len` bytes for the flow `id`, which arrived in `slot`.
    fn reply(&mut self, id: FlowId, slot: usize, len: usize, now: Instant) {
        let Some(answer) = self.core.reply(id, len, now) else { return };
        self.net.returned(len);
        let from = self.listener.own_ip().is_none().then_some(answer.from);
        let header = answer.header.as_ref().map_or(&[][..], |header| header);
        self.outbox.queue(slot, header, len, answer.to.addr(), from);
    }

    /// Sends the replies that wait.
    fn flush(&mut self) {
        let before = self.outbox.len() as u64;
        let (mut lost, mut waited) = (0, false);
        while let Err(Unsent { to, error }) = self.outbox.flush(self.listener.fd()) {
            match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                // The queue of the device is full. Waiting passes the pressure on to the targets' sockets.
                Some(libc::EAGAIN) if !waited => {
                    waited = true;
                    writable(self.listener);
                    continue;
                }
                Some(libc::EMSGSIZE) if self.send_in_fragments() => {
                    self.shared.counters.fragmented.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Some(libc::EMSGSIZE) => {
                    self.net.tell_dropped(
                        DropReason::ReplyTooLarge,
                        Some(PeerAddr::new(to)),
                        &error,
                        clock(),
                    );
                }
                _ => {
                    self.net.tell_dropped(DropReason::ReplyFailed, Some(PeerAddr::new(to)), &error, clock());
                    self.outbox.skip_first();
                }
            }
            waited = false;
            lost += 1;
        }
        self.shared.counters.down.fetch_add(before - lost, Ordering::Relaxed);
    }

    /// Sends the first reply that waits in fragments: with its header in front it does not fit the path. It waits no
    /// more, sent or not.
    #[cold]
    fn send_in_fragments(&mut self) -> bool {
        let (socket, family) = (self.listener.fd(), self.listener.family());
        // The socket refuses to make fragments, so that they are noticed. A kernel that took the option when the
        // socket was made takes it again.
        set_oversized(socket, family, Oversized::Fragment).ok();
        let sent = self.outbox.send_first(socket);
        if self.listener.notices_oversized() {
            set_oversized(socket, family, Oversized::Refuse).ok();
        }
        sent.is_ok()
    }
}

/// Waits a moment for room in the socket's queue.
fn writable(listener: &UdpListener) {
    // Either way the next attempt says what is the matter.
    poll(&mut [PollFd::new(listener.fd(), PollFlags::POLLOUT)], PollTimeout::from(100u8)).ok();
}

/// Replies of one flow in a row.
const REPLIES: usize = 16;

/// Sockets with something to read that are no crowd.
const FEW: usize = 4;
