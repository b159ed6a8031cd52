//! Sends and receives on many sockets: in one system call where there is io_uring(7), else one by one.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, squeue, types};
use nix::libc;

/// One send or receive on a connected socket. Never waits: `EAGAIN` if the socket is full, or empty.
#[derive(Debug)]
pub(crate) enum Call<'a> {
    Send(BorrowedFd<'a>, &'a [u8]),
    Receive(BorrowedFd<'a>, &'a mut [u8]),
}

/// Makes [`Call`]s, and remembers what came of the last ones.
pub(crate) struct Calls {
    ring: Option<Ring>,
    outcomes: Vec<Outcome>,
}

/// Bytes, or an error number that is negative: what the kernel answers.
type Outcome = i32;

/// The kernel's queue for calls of one worker, good for sends and receives only.
///
/// What it does passes no seccomp filter. So it is restricted to what its owner may do anyway, for good; and it can be
/// made before a filter forbids to make one.
pub(crate) struct Ring(IoUring);

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ring")
    }
}

impl Calls {
    /// With a queue, many in one system call.
    pub(crate) const fn new(ring: Option<Ring>) -> Self {
        Self { ring, outcomes: Vec::new() }
    }

    /// Whether they share a system call.
    pub(crate) const fn share(&self) -> bool {
        self.ring.is_some()
    }

    /// Makes `calls` in their order. [`outcome`](Self::outcome) tells by the number of each what came of it.
    pub(crate) fn make<'a>(&mut self, calls: impl Iterator<Item = Call<'a>>) {
        self.outcomes.clear();
        // Alone it costs less by itself.
        let alone = calls.size_hint().1 == Some(1);
        // Out of its place until all is done: nobody uses it again if `calls` panics half way, or if it breaks.
        match self.ring.take_if(|_| !alone) {
            Some(mut ring) => self.ring = ring.make(calls, &mut self.outcomes).ok().map(|()| ring),
            None => self.outcomes.extend(calls.map(one)),
        }
    }

    /// How many bytes the call `number` of the last ones moved.
    ///
    /// # Errors
    ///
    /// What the kernel said; `ECANCELED` for what the queue did not get to because it broke.
    pub(crate) fn outcome(&self, number: usize) -> io::Result<usize> {
        let outcome = self.outcomes.get(number).copied().unwrap_or(CANCELLED);
        usize::try_from(outcome).map_err(|_| io::Error::from_raw_os_error(-outcome))
    }
}

impl Ring {
    /// # Errors
    ///
    /// There is no io_uring: the kernel is too old (Linux 5.10 is needed), `kernel.io_uring_disabled` or a seccomp filter
    /// forbids it, or there is no memory for it.
    pub(crate) fn new() -> io::Result<Self> {
        let ring = IoUring::builder().setup_r_disabled().dontfork().build(ENTRIES)?;
        let submitter = ring.submitter();
        submitter.register_restrictions(&mut [
            Restriction::sqe_op(opcode::Send::CODE),
            Restriction::sqe_op(opcode::Recv::CODE),
        ])?;
        submitter.register_enable_rings()?;
        Ok(Self(ring))
    }

    fn make<'a>(
        &mut self,
        calls: impl Iterator<Item = Call<'a>>,
        outcomes: &mut Vec<Outcome>,
    ) -> io::Result<()> {
        let mut calls = calls.peekable();
        while calls.peek().is_some() {
            let mut pending = 0;
            // Taken once: it looks at what the kernel has taken when it is made, and tells of what was added at its end.
            let mut queue = self.0.submission();
            for call in calls.by_ref().take(ENTRIES as usize) {
                let entry = entry(call).user_data(outcomes.len() as u64);
                // SAFETY: the descriptor and the bytes of `call` are borrowed for 'a, which outlives this function, and
                // `finish` below does not return before the kernel is done with them. The queue was empty and has room
                // for as many entries as are taken.
                pending += usize::from(unsafe { queue.push(&entry) }.is_ok());
                outcomes.push(CANCELLED);
            }
            drop(queue);
            self.finish(pending, outcomes)?;
        }
        Ok(())
    }

    /// Lets the kernel make the `pending` calls that were queued, and collects what came of them.
    ///
    /// # Errors
    ///
    /// The kernel does not take calls any more. None is under way then.
    fn finish(&mut self, mut pending: usize, outcomes: &mut [Outcome]) -> io::Result<()> {
        while pending > 0 {
            // Nothing waits in fact: no call may, so each is done when it has been taken.
            let entered = self.0.submit_and_wait(pending);
            for completion in self.0.completion() {
                if let Some(outcome) = outcomes.get_mut(completion.user_data() as usize) {
                    *outcome = completion.result();
                }
                pending -= 1;
            }
            match entered {
                Err(error) if !is_of_the_moment(&error) => {
                    // What was not taken stays in the queue, which nobody looks at again.
                    if self.0.submission().len() == pending {
                        return Err(error);
                    }
                    // The kernel would write into memory that is somebody else's by then.
                    std::process::abort();
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }
}

fn entry(call: Call<'_>) -> squeue::Entry {
    match call {
        Call::Send(socket, bytes) => {
            opcode::Send::new(types::Fd(socket.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32)
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
        }
        Call::Receive(socket, bytes) => {
            let (start, length) = (bytes.as_mut_ptr(), bytes.len() as u32);
            opcode::Recv::new(types::Fd(socket.as_raw_fd()), start, length).flags(libc::MSG_DONTWAIT).build()
        }
    }
}

/// Makes one call by itself.
fn one(call: Call<'_>) -> Outcome {
    use nix::sys::socket::{MsgFlags, recv, send};

    let done = match call {
        Call::Send(socket, bytes) => {
            send(socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)
        }
        Call::Receive(socket, bytes) => recv(socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT),
    };
    // A datagram is far smaller than what does not fit.
    done.map_or_else(|errno| -(errno as i32), |length| length as i32)
}

/// Whether trying again cures it: a signal, or memory that is short.
fn is_of_the_moment(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

/// Calls in one system call. A power of two.
const ENTRIES: u32 = 64;

const CANCELLED: Outcome = -libc::ECANCELED;

#[cfg(test)]
mod tests;
