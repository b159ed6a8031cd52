//! The threads that serve: one for each core, each with a runtime of its own that no other thread helps or waits for.

use std::io;
use std::num::NonZeroUsize;
use std::thread::{self, JoinHandle};

use mmproxy_forwarder::yield_after_bulk;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// Threads that run what is spawned on their [`Handle`]s, and that end with this value.
///
/// Whatever serves, listeners or datagram sockets, is spawned once per worker with a socket of its own, for example
/// with [`JoinSet::spawn_on`](tokio::task::JoinSet::spawn_on); what that task spawns in turn stays on the worker. So
/// a connection, its buffers and its pipes belong to one thread from beginning to end.
///
/// The threads are in the network namespace of the one that started them.
pub(crate) struct Workers {
    handles: Vec<Handle>,
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl Workers {
    /// Starts `count` threads.
    ///
    /// # Errors
    ///
    /// No thread, or none of the descriptors that a runtime needs.
    pub(crate) fn start(count: NonZeroUsize) -> io::Result<Self> {
        let mut workers = Self { handles: Vec::new(), threads: Vec::new(), stop: watch::Sender::new(false) };
        for number in 0..count.get() {
            // Made here, so that a failure is this call's. It yields, because many streams of bulk cost a third less if
            // those who feed and drain them run in between.
            let runtime =
                Builder::new_current_thread().enable_all().on_thread_park(yield_after_bulk).build()?;
            workers.handles.push(runtime.handle().clone());
            let mut stopped = workers.stop.subscribe();
            let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                // The sender being gone means the same as its word.
                runtime.block_on(stopped.wait_for(|stop| *stop)).ok();
            })?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// One for each thread.
    pub(crate) fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

impl Drop for Workers {
    /// Waits for the threads; tasks that are left are dropped.
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            // A task's panic stays in its task, so there is none to pass on.
            thread.join().ok();
        }
    }
}

/// The processors that this process may run on: what a container or `taskset` leaves of them.
pub(crate) fn available_cores() -> NonZeroUsize {
    let cores = sched_getaffinity(Pid::from_raw(0)).ok().map(|set| {
        let in_set = |core: &usize| set.is_set(*core).unwrap_or(false);
        (0..CpuSet::count()).filter(in_set).count()
    });
    cores.and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::mpsc;
    use std::time::Duration;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[test]
    fn what_is_spawned_on_a_worker_stays_on_its_thread_and_each_has_one() {
        let workers = Workers::start(NonZeroUsize::new(3).unwrap()).unwrap();
        let (tell, told) = mpsc::channel();
        for handle in workers.handles() {
            let tell = tell.clone();
            handle.spawn(async move {
                let outer = thread::current().id();
                let inner = tokio::spawn(async { thread::current().id() }).await.unwrap();
                tell.send((outer, inner)).unwrap();
            });
        }
        let seen: Vec<_> = (0..3).map(|_| told.recv_timeout(DEADLINE).unwrap()).collect();
        assert!(seen.iter().all(|(outer, inner)| outer == inner));
        assert_eq!(seen.iter().map(|(outer, _)| *outer).collect::<HashSet<_>>().len(), 3);
    }

    #[test]
    fn a_panic_on_a_worker_ends_its_task_and_nothing_else() {
        let workers = Workers::start(NonZeroUsize::MIN).unwrap();
        let runtime = Builder::new_current_thread().build().unwrap();
        let task = workers.handles()[0].spawn(async { panic!("told to") });
        assert!(runtime.block_on(task).unwrap_err().is_panic());
        assert_eq!(runtime.block_on(workers.handles()[0].spawn(async { 7 })).unwrap(), 7);
    }

    #[test]
    fn dropping_the_workers_ends_their_threads_and_what_they_run() {
        let workers = Workers::start(NonZeroUsize::MIN).unwrap();
        let (held, dropped) = mpsc::channel::<()>();
        workers.handles()[0].spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        drop(workers);
        assert_eq!(dropped.recv_timeout(DEADLINE), Err(mpsc::RecvTimeoutError::Disconnected));
    }

    #[test]
    fn there_is_at_least_one_core() {
        assert!(available_cores().get() >= 1);
    }
}
