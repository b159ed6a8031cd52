//! Every interleaving, with up to three preemptions, of what the threads of a gateway do to the memory they have in common, by loom.
//!
//! It is the crate's own file that is checked, not a copy.

#[cfg(not(loom))]
compile_error!("ci/loom.sh builds this with --cfg loom");

#[path = "../../../src/places.rs"]
mod places;

/// What `places` needs of the crate.
mod report {
    /// As the crate's.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SessionId(pub u64);
}

use std::num::NonZeroUsize;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use places::Places;

type Model = fn();

const MODELS: [(&str, Model); 4] = [
    ("more sessions than places never live", never_more_than_the_limit),
    ("of two that want the last place one gets it", the_last_place_goes_to_one),
    ("a place that was given back is there again", no_place_is_lost),
    ("no two sessions have a number in common", numbers_differ),
];

fn main() {
    let mut checker = loom::model::Builder::new();
    // The checker's own advice: more of them find nothing that so many do not, and take hours.
    checker.preemption_bound = Some(3);
    for (promise, model) in MODELS {
        checker.check(model);
        println!("holds in every interleaving: {promise}");
    }
}

fn places(limit: usize) -> Arc<Places> {
    Arc::new(Places::new(NonZeroUsize::new(limit).expect("a limit above zero")))
}

fn never_more_than_the_limit() {
    let (places, live) = (places(1), Arc::new(AtomicUsize::new(0)));
    let session = |places: Arc<Places>, live: Arc<AtomicUsize>| {
        if places.take() {
            assert!(live.fetch_add(1, Ordering::SeqCst) < places.limit());
            live.fetch_sub(1, Ordering::SeqCst);
            places.leave();
        }
    };
    let (theirs, counted) = (Arc::clone(&places), Arc::clone(&live));
    let thread = thread::spawn(move || session(theirs, counted));
    session(places, live);
    thread.join().expect("no panic");
}

fn the_last_place_goes_to_one() {
    let places = places(1);
    let other = Arc::clone(&places);
    let thread = thread::spawn(move || other.take());
    let here = places.take();
    assert!(here != thread.join().expect("no panic"), "one has it, and only one");
}

fn no_place_is_lost() {
    let places = places(1);
    let other = Arc::clone(&places);
    let thread = thread::spawn(move || {
        if other.take() {
            other.leave();
        }
    });
    if places.take() {
        places.leave();
    }
    thread.join().expect("no panic");
    assert!(places.take(), "all have left");
}

fn numbers_differ() {
    let places = places(1);
    let other = Arc::clone(&places);
    let thread = thread::spawn(move || other.next_id());
    let here = places.next_id();
    assert_ne!(here, thread.join().expect("no panic"));
}
