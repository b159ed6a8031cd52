//! Pipes that bulk is spliced through, lent to directions while they carry something.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::config::{RelayOptions, SpliceUse};

/// The pipes of one worker.
///
/// A pipe is made when a direction begins to move bulk, comes back when it is empty, and is closed when it was not
/// needed for a while: descriptors are back where they were soon after the bulk has ended.
pub(crate) struct Pipes {
    pub(crate) options: RelayOptions,
    scarce: Box<dyn Fn(Scarcity<'_>) + Send + Sync>,
    state: Mutex<State>,
}

/// A pipe is smaller than it should be, or there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scarcity<'a> {
    pub(crate) error: &'a io::Error,
    pub(crate) wanted: usize,
    pub(crate) got: Option<usize>,
}

#[derive(Default)]
struct State {
    #[expect(clippy::vec_box, reason = "the box is lent with the pipe: made once, not for each lending")]
    spare: Vec<Box<Pipe>>,
    lent: usize,
    /// Fewest spare ones since the last look: so many were not needed.
    unneeded: usize,
    /// A task looks after the spare ones.
    tended: bool,
    /// None were to be had just before.
    again_at: Option<Instant>,
}

impl Pipes {
    /// `scarce` hears of each pipe that is not as the options want it; it must not ask for one.
    pub(crate) fn new(
        options: RelayOptions,
        scarce: impl Fn(Scarcity<'_>) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { options, scarce: Box::new(scarce), state: Mutex::default() })
    }

    /// An empty pipe, unless all are lent or the machine has none to give.
    pub(crate) fn lend(self: &Arc<Self>) -> Option<Lent> {
        let mut state = self.lock();
        if state.lent >= self.options.pipes {
            return None;
        }
        let pipe = match state.spare.pop() {
            Some(pipe) => pipe,
            None => {
                let now = Instant::now();
                if state.again_at.is_some_and(|at| now < at) {
                    return None;
                }
                // Asked for again soon enough to notice when there are some, too rarely to matter.
                state.again_at = Some(now + PAUSE);
                let pipe = Pipe::new(&self.options, &*self.scarce)?;
                state.again_at = None;
                Box::new(pipe)
            }
        };
        state.lent += 1;
        state.unneeded = state.unneeded.min(state.spare.len());
        Some(Lent { pipe: Some(pipe), pipes: Arc::clone(self) })
    }

    fn take_back(self: &Arc<Self>, pipe: Box<Pipe>) {
        let mut state = self.lock();
        state.lent -= 1;
        // A pipe that holds bytes is of a session that broke: nobody else may get them.
        if pipe.held > 0 {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        state.spare.push(pipe);
        if !state.tended {
            state.tended = true;
            state.unneeded = 0;
            drop(runtime.spawn(tend(Arc::downgrade(self))));
        }
    }

    /// Closes what was not needed since the last look; `false` when nothing is left to look after.
    fn close_unneeded(&self) -> bool {
        let mut state = self.lock();
        let keep = state.spare.len() - state.unneeded.min(state.spare.len());
        let closed = state.spare.split_off(keep);
        state.unneeded = keep;
        state.tended = keep > 0 || state.lent > 0;
        let tended = state.tended;
        drop(state);
        drop(closed);
        tended
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pipes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipes").field("options", &self.options).finish_non_exhaustive()
    }
}

async fn tend(pipes: Weak<Pipes>) {
    loop {
        sleep(PAUSE).await;
        if !pipes.upgrade().is_some_and(|pipes| pipes.close_unneeded()) {
            return;
        }
    }
}

/// A pipe and the bytes in it. Dropped, it goes back to where it was lent from.
pub(crate) struct Lent {
    /// `Some` until it is dropped. In a box that goes with it from one to the next.
    pipe: Option<Box<Pipe>>,
    pipes: Arc<Pipes>,
}

impl Lent {
    /// Bytes that went in and did not come out.
    pub(crate) fn held(&self) -> usize {
        self.pipe.as_ref().map_or(0, |pipe| pipe.held)
    }

    /// Moves what is there from `socket` into the pipe, which must be empty; 0 is the end of what the socket receives.
    pub(crate) fn fill(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let Some(pipe) = &mut self.pipe else { return Err(io::ErrorKind::NotConnected.into()) };
        let filled = splice(socket, None, &pipe.write, None, pipe.size, FLAGS)?;
        pipe.held += filled;
        Ok(filled)
    }

    /// Moves what the pipe holds into `socket`, as far as it takes it now.
    pub(crate) fn drain(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let Some(pipe) = &mut self.pipe else { return Err(io::ErrorKind::NotConnected.into()) };
        let drained = splice(&pipe.read, None, socket, None, pipe.held, FLAGS)?;
        if drained == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        pipe.held -= drained;
        Ok(drained)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            self.pipes.take_back(pipe);
        }
    }
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    size: usize,
    held: usize,
}

impl Pipe {
    /// As large as `options` ask for, or smaller, or `None` if that is too small to be better than a buffer.
    fn new(options: &RelayOptions, scarce: &dyn Fn(Scarcity<'_>)) -> Option<Self> {
        let wanted = options.pipe_size.get();
        let made = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
        let none = |error| scarce(Scarcity { error: &error, wanted, got: None });
        let (read, write) = made.map_err(io::Error::from).map_err(none).ok()?;
        let (mut asked, mut refused) = (wanted, None);
        // EPERM above fs.pipe-max-size or fs.pipe-user-pages-soft, ENOMEM; both want less.
        let size = loop {
            match fcntl_setpipe_size(&write, asked) {
                Ok(size) => break size,
                Err(error) => {
                    refused.get_or_insert(error);
                    if asked / 2 < LEAST {
                        break fcntl_getpipe_size(&write).ok()?;
                    }
                    asked /= 2;
                }
            }
        };
        let useful = size >= wanted.min(LEAST) || options.splice == SpliceUse::Always;
        if let Some(errno) = refused {
            scarce(Scarcity { error: &errno.into(), wanted, got: useful.then_some(size) });
        }
        useful.then_some(Self { read, write, size, held: 0 })
    }
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// Smaller pipes move less at a time than the buffer does. It is also what the kernel gives unasked.
const LEAST: usize = 64 * 1024;

/// How soon a pipe that nobody needs is closed, and how soon one is asked for again where there was none.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;
    use std::sync::mpsc;

    fn quiet(options: RelayOptions) -> Arc<Pipes> {
        Pipes::new(options, |scarcity| panic!("{scarcity:?}"))
    }

    fn size(lent: &Lent) -> usize {
        lent.pipe.as_ref().unwrap().size
    }

    #[test]
    fn no_more_are_lent_than_the_options_say() {
        let pipes = quiet(RelayOptions::new().pipes(2));
        let (one, two) = (pipes.lend().expect("a pipe"), pipes.lend().expect("a pipe"));
        assert!(pipes.lend().is_none());
        drop(one);
        assert!(pipes.lend().is_some());
        drop(two);
        assert_eq!(pipes.lock().lent, 0);
    }

    #[test]
    fn a_pipe_has_the_size_that_was_asked_for() {
        for bytes in [4096, 1 << 16, 1 << 17] {
            let pipes = quiet(RelayOptions::new().pipe_size(NonZeroUsize::new(bytes).unwrap()));
            assert_eq!(size(&pipes.lend().expect("a pipe")), bytes);
        }
    }

    #[test]
    fn a_size_that_the_kernel_does_not_give_becomes_a_smaller_one() {
        // More than 2 GiB: refused to everybody.
        let (tell, told) = mpsc::channel();
        let options = RelayOptions::new().pipe_size(NonZeroUsize::new(1 << 33).unwrap());
        let pipes = Pipes::new(options, move |scarcity| tell.send((scarcity.wanted, scarcity.got)).unwrap());
        let lent = pipes.lend().expect("a pipe all the same");
        assert!((LEAST..=1 << 31).contains(&size(&lent)), "{}", size(&lent));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [(1 << 33, Some(size(&lent)))]);
    }

    #[tokio::test]
    async fn bytes_that_are_left_in_a_pipe_are_nobody_elses() {
        let pipes = quiet(RelayOptions::new());
        let mut lent = pipes.lend().expect("a pipe");
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert!(lent.fill(&file).unwrap() > 0);
        drop(lent);
        assert!(pipes.lock().spare.is_empty());
        drop(pipes.lend().expect("a fresh one"));
        assert_eq!(pipes.lock().spare.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn spare_pipes_are_closed_when_they_are_not_needed() {
        let pipes = quiet(RelayOptions::new());
        let crowd: Vec<_> = (0..8).map(|_| pipes.lend().expect("a pipe")).collect();
        drop(crowd);
        assert_eq!(pipes.lock().spare.len(), 8);
        // One of them is used now and then: it stays, and only it.
        for _ in 0..10 {
            drop(pipes.lend());
            sleep(PAUSE / 2).await;
        }
        assert_eq!(pipes.lock().spare.len(), 1);
        sleep(3 * PAUSE).await;
        assert!(pipes.lock().spare.is_empty());
        assert!(!pipes.lock().tended);
        // And begins anew with the next.
        drop(pipes.lend());
        sleep(3 * PAUSE).await;
        assert!(pipes.lock().spare.is_empty());
    }
}
