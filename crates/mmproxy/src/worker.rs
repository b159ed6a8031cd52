//! A worker: the process that serves. It is started by the keeper, which speaks to it over standard input.

mod answer;
mod ask;
mod serve;
mod sockets;
mod threads;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mmproxy_forwarder::{Namespace, TargetNamespace};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal};
use tokio::sync::mpsc;
use tokio::time::interval;

use self::answer::Answers;
use self::ask::curiosity;
use self::serve::Serving;
use self::sockets::Sockets;
use crate::channel::{Addresses, Assignment, Ear, Mouth, Order, Question, Report, halves};
use crate::descriptors;
use crate::exit::{Exit, Failure};
use crate::jail::confine;
use crate::log;
use crate::metrics::Process;
use crate::runtime;
use crate::spec::Budget;

pub(crate) use self::ask::Curious;
pub(crate) use self::threads::available_cores;

/// `mmproxy worker`: serves until its keeper tells it to stop, or is gone.
pub(crate) fn main() -> Result<Exit, Failure> {
    let channel = channel().map_err(|error| {
        Failure::new(Exit::Usage, error).hint("a worker is started by mmproxy itself, not by hand")
    })?;
    leave_signals_to_the_keeper().map_err(|error| Failure::new(Exit::Software, error))?;
    runtime::block_on(async {
        let (mouth, ear) = halves::<Report, Order>(channel, LONGEST_ORDER)
            .map_err(|error| Failure::new(Exit::Software, error))?;
        work(mouth, ear).await
    })?
}

/// A terminal sends signals to every process of a group, and a service manager to every one of a service: a worker that
/// ended by them would take its sessions along before the keeper could let them finish.
fn leave_signals_to_the_keeper() -> nix::Result<()> {
    // Threads that are started later inherit it.
    SigSet::from_iter([Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM]).thread_block()
}

/// The socket to the keeper.
fn channel() -> io::Result<UnixStream> {
    let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Fails for whatever else standard input may be.
    channel.peer_addr()?;
    Ok(channel)
}

async fn work(mut mouth: Mouth<Report>, mut ear: Ear<Order>) -> Result<Exit, Failure> {
    let Ok(Some(Order::Prepare(assignment))) = ear.hear().await else {
        return Err(Failure::new(Exit::Software, "the keeper gave no assignment"));
    };
    let global = &assignment.spec.global;
    log::start(global.verbosity, global.log_format)?;
    // Opens what it reads later: this comes before a worker locks itself in.
    let process = Process::new();
    let surroundings = Surroundings::of(&assignment);
    let (curious, mut curiosity) = curiosity();
    let budget = Budget::within(&assignment.spec, descriptors::limit());
    let prepared = Sockets::inherited(&assignment, budget).and_then(|sockets| {
        // Before threads are started, so that it is all of them.
        let confined = confine(&assignment.confinement)?;
        end_with_keeper()?;
        Ok((confined, Serving::prepare(&assignment, sockets, budget, &surroundings, (process, curious))?))
    });
    let (confined, mut serving) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            let report = Report::Failed {
                exit: failure.exit() as u8,
                reason: failure.reason(),
                hints: failure.hints().to_vec(),
            };
            // A keeper that is gone has nobody to tell.
            mouth.say(&report).await.ok();
            return Ok(failure.exit());
        }
    };
    mouth.say(&Report::Ready(Box::new(confined))).await.ok();
    let mut orders = listen(ear);
    let eyes = serving.eyes();
    let mut answers = Answers::new(Arc::clone(&eyes));
    let mut looks = interval(LOOK);
    let counts = assignment.spec.global.admin.is_some();
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            ended = serving.ended() => {
                mouth.say(&Report::Counted(Box::new(serving.counted()))).await.ok();
                return ended;
            }
            (number, answer) = answers.next() => {
                mouth.say(&Report::Answer(number, answer)).await.ok();
                continue;
            }
            (number, at_most) = curiosity.next() => {
                mouth.say(&Report::WhoIsServed(number, at_most)).await.ok();
                continue;
            }
            _ = looks.tick(), if counts => {
                mouth.say(&Report::Counted(Box::new(serving.counted()))).await.ok();
                continue;
            }
        };
        match order {
            Some(Order::Serve) => serving.serve(),
            Some(Order::HandOver) => {
                serving.hand_over().await;
                // Before another one answers to whoever asks by the admin address: no counter falls.
                mouth.say(&Report::Counted(Box::new(serving.counted()))).await.ok();
                mouth.say(&Report::HandedOver).await.ok();
            }
            Some(Order::Drain) => serving.drain(),
            Some(Order::Cut) => serving.cut(),
            Some(Order::NamespaceGone) => surroundings.leave(),
            Some(Order::Host(addresses)) => surroundings.tell(addresses),
            Some(Order::Others(others)) => serving.note_others(*others),
            Some(Order::Served(number, sessions)) => curiosity.answered(number, sessions),
            // Whoever wants to know which sessions end asks.
            Some(Order::Deny(changes)) => drop(eyes.deny(&changes)),
            Some(Order::Ping) => {
                serving.answer().await;
                mouth.say(&Report::Pong).await.ok();
            }
            Some(Order::Ask(number, question)) => {
                if question == Question::Count {
                    mouth.say(&Report::Counted(Box::new(serving.counted()))).await.ok();
                }
                answers.begin(number, question);
            }
            Some(Order::Prepare(_)) => {
                return Err(Failure::new(Exit::Software, "the keeper gave a second assignment"));
            }
            // Without keeper there is nobody who cleans up, and nobody who would start anew while this has the sockets.
            None => return Ok(Exit::Unavailable),
        }
    }
}

/// The kernel ends this process when the thread that started it ends, whatever ends that (prctl(2)): nobody is left who
/// would start another one while this one has the sockets.
///
/// A change of the user undoes it, so it comes after that.
fn end_with_keeper() -> Result<(), Failure> {
    set_pdeathsig(Signal::SIGKILL).map_err(|errno| Failure::new(Exit::Software, io::Error::from(errno)))
}

/// Orders, heard by a task of its own: half of one must not be dropped.
fn listen(mut ear: Ear<Order>) -> mpsc::UnboundedReceiver<Order> {
    let (heard, orders) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok(Some(order)) = ear.hear().await {
            if heard.send(order).is_err() {
                return;
            }
        }
    });
    orders
}

/// Where a worker is, if its targets are in a network namespace of their own.
#[derive(Clone, Debug)]
struct Surroundings {
    place: Option<TargetNamespace>,
    host: Option<Arc<Mutex<Addresses>>>,
}

impl Surroundings {
    fn of(assignment: &Assignment) -> Self {
        let host = assignment.host.clone().map(|host| Arc::new(Mutex::new(host)));
        let place = host.is_some().then(|| {
            let place = TargetNamespace::new();
            place.enter(Namespace::here());
            place
        });
        Self { place, host }
    }

    /// Name of this process in the metrics.
    fn name(&self, assignment: &Assignment) -> String {
        let netns = assignment.spec.services.first().and_then(|service| service.target_netns.as_ref());
        netns.map_or_else(|| "worker".to_owned(), |netns| format!("worker in {netns}"))
    }

    /// The namespace is not the wanted one any more.
    fn leave(&self) {
        if let Some(place) = &self.place {
            place.leave();
        }
    }

    /// The host's addresses are these now.
    fn tell(&self, addresses: Addresses) {
        if let Some(host) = &self.host {
            *host.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
        }
    }
}

/// How often it is told what was counted: the page and Prometheus look less often.
const LOOK: Duration = Duration::from_secs(1);

/// More than every allowed network of every service takes.
const LONGEST_ORDER: u64 = 1 << 30;
