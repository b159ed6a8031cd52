//! The three answers a decoder can give: a whole header, not yet, never.

use core::num::NonZeroUsize;

/// What one look at the start of a stream tells us.
///
/// "Never" is the third answer and the only one that is an error, so `?` on a decoder means "drop the peer" and
/// nothing else.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome<T> {
    /// A whole header, and how many bytes of the input it took.
    ///
    /// What lies behind `consumed` is payload: it belongs to the application and is the first thing it must get.
    Complete {
        /// The header.
        header: T,
        /// Length of the header in bytes; never more than the input.
        consumed: usize,
    },
    /// The input is a proper prefix of a header, possibly empty; at least this many bytes are missing.
    ///
    /// The number is a lower bound that every header beginning with this input respects: waiting for so many more
    /// bytes before the next attempt cannot miss the end of a header.
    NeedMore(NonZeroUsize),
}

impl<T> Outcome<T> {
    /// The header and its length in bytes, if the input held all of it.
    pub fn complete(self) -> Option<(T, usize)> {
        match self {
            Self::Complete { header, consumed } => Some((header, consumed)),
            Self::NeedMore(_) => None,
        }
    }

    /// The same answer with `f` applied to the header.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Complete { header, consumed } => Outcome::Complete { header: f(header), consumed },
            Self::NeedMore(missing) => Outcome::NeedMore(missing),
        }
    }

    /// Not yet: `have` bytes of something that cannot end before `need` bytes.
    ///
    /// At least 1 is asked for, whatever the arguments say.
    pub(crate) fn need_more(have: usize, need: usize) -> Self {
        Self::NeedMore(NonZeroUsize::new(need.saturating_sub(have)).unwrap_or(NonZeroUsize::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn need_more_counts_what_is_missing_and_never_says_zero() {
        let missing = |n| Outcome::<()>::NeedMore(NonZeroUsize::new(n).unwrap());
        assert_eq!(Outcome::need_more(3, 16), missing(13));
        assert_eq!(Outcome::need_more(16, 16), missing(1));
        assert_eq!(Outcome::need_more(20, 16), missing(1));
    }

    #[test]
    fn map_and_complete_keep_the_length() {
        let outcome = Outcome::Complete { header: 1, consumed: 28 };
        assert_eq!(outcome.map(|n| n + 1).complete(), Some((2, 28)));
        assert_eq!(Outcome::<u8>::need_more(0, 4).map(u16::from).complete(), None);
    }
}
