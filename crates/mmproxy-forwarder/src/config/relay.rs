//! How bytes are moved.

use std::num::NonZeroUsize;

/// How the bytes of a session are moved from one socket to the other.
///
/// There are two ways. Small messages are fastest through a buffer, one for all sessions of a thread. Bulk is fastest
/// with `splice(2)` through a pipe, which moves pages without copying them; a pipe costs two descriptors, so it is lent
/// from a pool of the thread for as long as a direction has something in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayOptions {
    pub(crate) splice: SpliceUse,
    pub(crate) pipe_size: NonZeroUsize,
    pub(crate) pipes: usize,
}

impl RelayOptions {
    /// The defaults named at each setter.
    pub const fn new() -> Self {
        Self { splice: SpliceUse::Adaptive, pipe_size: MEBIBYTE, pipes: 32 }
    }

    /// Which of the two ways is taken. Default [`SpliceUse::Adaptive`].
    #[must_use]
    pub const fn splice(mut self, splice: SpliceUse) -> Self {
        self.splice = splice;
        self
    }

    /// Size of a pipe in bytes, rounded up to a power of two of pages. Default 1 MiB, which is also what
    /// `fs.pipe-max-size` allows a process without CAP_SYS_RESOURCE.
    ///
    /// Where the kernel does not give that much, for example because `fs.pipe-user-pages-soft` is reached, a smaller
    /// pipe does; where there is no pipe at all, the buffer does.
    #[must_use]
    pub const fn pipe_size(mut self, bytes: NonZeroUsize) -> Self {
        self.pipe_size = bytes;
        self
    }

    /// How many pipes a thread lends at a time; the others' bytes go through the buffer. Default 32.
    ///
    /// Each can hold its whole size for a reader that does not read: this bounds the memory that slow readers take.
    #[must_use]
    pub const fn pipes(mut self, number: usize) -> Self {
        self.pipes = number;
        self
    }
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// When bytes go through a pipe instead of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SpliceUse {
    /// While a direction moves bulk.
    #[default]
    Adaptive,
    /// Never.
    Never,
    /// Always, but for the bytes that came with the header and for want of a pipe.
    Always,
}

const MEBIBYTE: NonZeroUsize = NonZeroUsize::new(1 << 20).expect("not zero");
