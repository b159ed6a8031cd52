//! What the two ends of a session do, drawn from a seed.

use std::time::Duration;

/// One session's story.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    /// Which of the stage's relays serves it.
    pub(crate) relay: u64,
    /// Of the gateway's socket toward the peer.
    pub(crate) buffers: Buffers,
    pub(crate) ipv6: bool,
    /// The first bytes leave in the segment of the header.
    pub(crate) first_with_header: bool,
    pub(crate) peer: Part,
    pub(crate) target: Part,
}

/// What one end does. Reading and writing go on side by side.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) buffers: Buffers,
    pub(crate) writes: Vec<Step>,
    pub(crate) reads: Vec<Step>,
    /// What it reads at a time once `reads` are done; `None`: it reads no more.
    pub(crate) rest: Option<usize>,
    pub(crate) finish: Finish,
    pub(crate) abrupt: Option<Abrupt>,
}

/// So many bytes, after a pause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) pause: Duration,
    pub(crate) bytes: usize,
}

/// Sizes of a socket's two buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buffers {
    /// The system's.
    Usual,
    /// The smallest that the kernel makes: 4,608 bytes to send, 2,304 to receive.
    Tiny,
    Huge,
}

/// When an end says that it has nothing more to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    AfterWrites,
    /// As a server does that answers requests.
    AfterOther,
    /// Its last word is something abrupt.
    Never,
}

/// An end that closes before the session is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abrupt {
    pub(crate) moment: Moment,
    pub(crate) how: How,
    /// Waits first until the gateway's kernel has everything: what was sent before must then arrive.
    pub(crate) settled: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    /// Whatever is going on then.
    At(Duration),
    /// So long after its last write, and its FIN if it sends one.
    AfterWrites(Duration),
    AfterReading(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Reset,
    /// `close(2)`: a FIN, or a reset where bytes are unread or still come.
    Close,
}

impl Schedule {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random(seed);
        let r = &mut random;
        let [gateway_buffers, peer_buffers, target_buffers] = std::array::from_fn(|_| Buffers::any(r));
        let tiny = [gateway_buffers, peer_buffers, target_buffers].contains(&Buffers::Tiny);
        let (up, down) = (amount(r, tiny), amount(r, tiny));
        // At most one end waits for the other's.
        let waits = match r.below(6) {
            0 => Some(true),
            1 => Some(false),
            _ => None,
        };
        Self {
            seed,
            relay: r.next(),
            buffers: gateway_buffers,
            ipv6: r.one_in(3),
            first_with_header: r.one_in(2),
            peer: Part::any(r, peer_buffers, up, down, waits == Some(true)),
            target: Part::any(r, target_buffers, down, up, waits == Some(false)),
        }
    }
}

impl Part {
    fn any(r: &mut Random, buffers: Buffers, says: usize, hears: usize, waits: bool) -> Self {
        let abrupt = r.one_in(4).then(|| Abrupt {
            moment: match r.below(3) {
                0 => Moment::At(r.pause()),
                1 => Moment::AfterWrites(r.pause()),
                // Not more than comes: it would wait for ever.
                _ => Moment::AfterReading(r.up_to(hears as u64)),
            },
            how: if r.one_in(3) { How::Close } else { How::Reset },
            settled: r.one_in(2),
        });
        let finish = match &abrupt {
            Some(_) if r.one_in(2) => Finish::Never,
            _ if waits => Finish::AfterOther,
            _ => Finish::AfterWrites,
        };
        // Two ends that do not read and wait for each other would do so for ever: only a clock ends this one.
        let deaf = matches!(abrupt, Some(Abrupt { moment: Moment::At(_), .. })) && r.one_in(3);
        let scripted = r.up_to(hears as u64) as usize;
        let reads = r.steps(scripted);
        let sip = if hears < 256 { 1 } else { 512 };
        Self {
            buffers,
            writes: r.steps(says),
            reads,
            rest: (!deaf).then(|| *r.pick(&[sip, 4096, 32 * 1024, 64 * 1024])),
            finish,
            abrupt,
        }
    }
}

impl Buffers {
    fn any(r: &mut Random) -> Self {
        *r.pick(&[Self::Usual, Self::Usual, Self::Usual, Self::Tiny, Self::Huge])
    }

    /// What to ask the kernel for.
    pub(crate) const fn size(self) -> Option<u32> {
        match self {
            Self::Usual => None,
            Self::Tiny => Some(1),
            Self::Huge => Some(4 << 20),
        }
    }
}

/// How much one end has to say: mostly little, sometimes enough to fill every buffer on the way.
fn amount(r: &mut Random, tiny: bool) -> usize {
    let most = match r.below(20) {
        0..8 => 200,
        // Through a window of two kilobytes everything else would take seconds.
        8.. if tiny => 6 * 1024,
        8..13 => 16 * 1024,
        13..18 => 256 * 1024,
        _ => 1 << 20,
    };
    r.up_to(most) as usize
}

/// splitmix64 (Steele, Lea, Flood 2014): every seed is as good as any other.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn up_to(&mut self, most: u64) -> u64 {
        self.below(most + 1)
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn pick<'a, T>(&mut self, choice: &'a [T]) -> &'a T {
        &choice[self.below(choice.len() as u64) as usize]
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(match self.below(16) {
            0..8 => 0,
            8..15 => self.below(4),
            _ => self.below(25),
        })
    }

    /// `total` in up to eight steps.
    fn steps(&mut self, total: usize) -> Vec<Step> {
        let mut left = total;
        let mut steps = Vec::new();
        while left > 0 && steps.len() < 7 {
            let bytes = if self.one_in(3) { left } else { 1 + self.below(left as u64) as usize };
            steps.push(Step { pause: self.pause(), bytes });
            left -= bytes;
        }
        if left > 0 {
            steps.push(Step { pause: self.pause(), bytes: left });
        }
        steps
    }
}
