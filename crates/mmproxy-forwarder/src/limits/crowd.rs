//! Sessions counted by whose they are, for all threads of a gateway.
//!
//! Pure but for its locks: `now` is a parameter, in nanoseconds since any moment of the caller's choice.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Pace;

/// Counts the sessions of each key, and how fast they begin.
///
/// Touched when a session begins and when it ends, never in between. Keys are spread over shards with a lock each, by a
/// hash that nobody outside can foresee, so threads rarely meet.
///
/// Memory is bounded: a key is known while it has sessions, or while its [`Pace`] remembers some; of those that are only
/// remembered there are at most [`REMEMBERED`], and those go first that would be forgotten first.
#[derive(Debug)]
pub(crate) struct Crowd {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    limit: usize,
    pace: Option<Pace>,
}

/// Why a session may not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As many as may are there.
    Full,
    /// Too many have begun lately.
    TooFast,
}

#[derive(Debug, Default)]
struct Shard {
    members: HashMap<u128, Member>,
    /// Members without sessions.
    ///
    /// Invariant: at most [`REMEMBERED`] divided by the number of shards, after each call.
    idle: usize,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, Default)]
struct Member {
    live: u32,
    /// When its bucket will be full again, so that it need not be remembered: the token bucket as one number, known as
    /// the generic cell rate algorithm (ITU-T I.371).
    full_at: u64,
}

impl Crowd {
    /// At most `limit` sessions of a key, beginning no faster than `pace`.
    pub(crate) fn new(limit: usize, pace: Option<Pace>) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), limit, pace }
    }

    /// A session of `key` begins at `now`. To be followed by one [`leave`](Self::leave), unless it is refused.
    pub(crate) fn enter(&self, key: u128, now: u64) -> Result<(), Refused> {
        let mut shard = self.shard(key);
        let Shard { members, idle } = &mut *shard;
        let member = members.entry(key).or_insert_with(|| {
            *idle += 1;
            Member::default()
        });
        if member.live as usize >= self.limit {
            return Err(Refused::Full);
        }
        if let Some(pace) = self.pace {
            let full_at = member.full_at.max(now) + pace.interval();
            if full_at > now + pace.tolerance() {
                return Err(Refused::TooFast);
            }
            member.full_at = full_at;
        }
        *idle -= usize::from(member.live == 0);
        member.live += 1;
        Ok(())
    }

    /// A session of `key` that had entered ended at `now`.
    pub(crate) fn leave(&self, key: u128, now: u64) {
        let mut shard = self.shard(key);
        let Some(member) = shard.members.get_mut(&key) else { return };
        member.live -= 1;
        if member.live > 0 {
            return;
        }
        if member.full_at > now {
            shard.idle += 1;
            shard.bound(now);
        } else {
            shard.members.remove(&key);
        }
        if shard.members.is_empty() {
            // The memory of a crowd is not kept for those who come later.
            shard.members = HashMap::new();
        }
    }

    fn shard(&self, key: u128) -> MutexGuard<'_, Shard> {
        let shard = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// Forgets members without sessions where there are too many of them.
    fn bound(&mut self, now: u64) {
        if self.idle <= REMEMBERED / SHARDS {
            return;
        }
        let idle = self.members.values().filter(|member| member.live == 0);
        let mut fullest: Vec<u64> = idle.map(|member| member.full_at).collect();
        // Half of them at least, so that the walk is paid for by those that come next.
        let middle = fullest.len() / 2;
        let enough = (*fullest.select_nth_unstable(middle).1).max(now);
        self.members.retain(|_, member| member.live > 0 || member.full_at > enough);
        self.idle = self.members.values().filter(|member| member.live == 0).count();
    }
}

/// More than threads that could meet.
const SHARDS: usize = 64;

/// Keys without sessions that are remembered at a time.
pub(crate) const REMEMBERED: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    const SECOND: u64 = 1_000_000_000;

    impl Crowd {
        /// Keys known, and those of them without sessions.
        fn known(&self) -> (usize, usize) {
            let shards = self.shards.iter().map(|shard| shard.lock().unwrap());
            shards.fold((0, 0), |(all, idle), shard| {
                assert_eq!(shard.idle, shard.members.values().filter(|member| member.live == 0).count());
                (all + shard.members.len(), idle + shard.idle)
            })
        }
    }

    fn pace(per_second: u32, burst: u32) -> Pace {
        Pace::new(NonZeroU32::new(per_second).unwrap(), NonZeroU32::new(burst).unwrap())
    }

    #[test]
    fn each_key_has_the_limit_for_itself_and_what_left_makes_room() {
        let crowd = Crowd::new(2, None);
        assert_eq!([1, 1, 1, 2].map(|key| crowd.enter(key, 0)), [Ok(()), Ok(()), Err(Refused::Full), Ok(())]);
        crowd.leave(1, 0);
        assert_eq!(crowd.enter(1, 0), Ok(()));
        for key in [1, 1, 2] {
            crowd.leave(key, 0);
        }
        assert_eq!(crowd.known(), (0, 0));
    }

    #[test]
    fn a_burst_is_let_through_and_then_one_at_each_interval() {
        let crowd = Crowd::new(usize::MAX, Some(pace(10, 3)));
        let mut now = 7 * SECOND;
        let entered = |now| (0..5).filter(|_| crowd.enter(1, now).is_ok()).count();
        assert_eq!(entered(now), 3);
        now += SECOND / 10 - 1;
        assert_eq!(entered(now), 0);
        now += 1;
        assert_eq!(entered(now), 1);
        now += SECOND;
        assert_eq!(entered(now), 3, "no more than a burst, however long the pause");
    }

    #[test]
    fn a_flood_of_invented_keys_takes_bounded_memory() {
        // A bucket that takes minutes to fill: everybody would have to be remembered.
        let crowd = Crowd::new(usize::MAX, Some(pace(1, 600)));
        for key in 0..4 * REMEMBERED as u128 {
            let now = key as u64;
            crowd.enter(key, now).unwrap();
            crowd.leave(key, now);
        }
        let (all, idle) = crowd.known();
        assert!(all == idle && idle <= REMEMBERED, "{all} known, {idle} idle");
        // And is forgotten once the buckets are full.
        for key in 0..10 * REMEMBERED as u128 {
            let now = 1000 * SECOND + key as u64;
            crowd.enter(key, now).unwrap();
            crowd.leave(key, now + 2 * SECOND);
        }
        assert_eq!(crowd.known().0, crowd.known().1);
    }

    #[test]
    fn those_who_have_spent_most_are_remembered_longest() {
        let crowd = Crowd::new(usize::MAX, Some(pace(1, 600)));
        for _ in 0..600 {
            crowd.enter(u128::MAX, 0).unwrap();
        }
        for _ in 0..600 {
            crowd.leave(u128::MAX, 0);
        }
        for key in 0..2 * REMEMBERED as u128 {
            crowd.enter(key, 0).unwrap();
            crowd.leave(key, 0);
        }
        assert_eq!(crowd.enter(u128::MAX, 0), Err(Refused::TooFast));
    }

    #[test]
    fn threads_never_hold_more_than_the_limit_and_nothing_is_left_behind() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let crowd = Crowd::new(3, None);
        let held: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (crowd, held) = (&crowd, &held);
                scope.spawn(move || {
                    for round in 0..20_000 {
                        let key = (thread + round) % 4;
                        if crowd.enter(key as u128, 0).is_ok() {
                            assert!(held[key].fetch_add(1, Ordering::SeqCst) < 3);
                            held[key].fetch_sub(1, Ordering::SeqCst);
                            crowd.leave(key as u128, 0);
                        }
                    }
                });
            }
        });
        assert_eq!(crowd.known(), (0, 0));
    }

    proptest! {
        /// A list of sessions and a bucket counted in tokens come to the same decisions.
        #[test]
        fn a_plain_count_and_a_plain_bucket_agree(
            limit in 1usize..5,
            per_second in 1u32..5,
            burst in 1u32..5,
            steps in prop::collection::vec((0u8..10, 0u8..3, 0u64..2 * SECOND), 0..80),
        ) {
            let pace = pace(per_second, burst);
            let crowd = Crowd::new(limit, Some(pace));
            let mut now = 0;
            let mut live = [0; 3];
            // In nanoseconds, and as of when.
            let mut buckets = [(pace.tolerance(), 0); 3];
            for (what, key, wait) in steps {
                let index = usize::from(key);
                match what {
                    0..5 => {
                        let (tokens, since) = buckets[index];
                        let tokens = (tokens + (now - since)).min(pace.tolerance());
                        buckets[index] = (tokens, now);
                        let expected = if live[index] >= limit {
                            Err(Refused::Full)
                        } else if tokens < pace.interval() {
                            Err(Refused::TooFast)
                        } else {
                            live[index] += 1;
                            buckets[index].0 -= pace.interval();
                            Ok(())
                        };
                        prop_assert_eq!(crowd.enter(key.into(), now), expected);
                    }
                    5..8 if live[index] > 0 => {
                        live[index] -= 1;
                        crowd.leave(key.into(), now);
                    }
                    _ => now += wait,
                }
                let (all, idle) = crowd.known();
                prop_assert_eq!(all - idle, live.iter().filter(|live| **live > 0).count());
            }
        }
    }
}
