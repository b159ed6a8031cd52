//! Orders of use, threaded through a slab: every entry is in one list of each axis, least recently used first.

use slab::Slab;

/// One list: the oldest entry and the newest.
///
/// Invariant: both are `NONE` or neither is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    oldest: u32,
    newest: u32,
    len: usize,
}

/// An entry's neighbours in one list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    older: u32,
    newer: u32,
}

/// What has a [`Link`] for each axis.
pub(crate) trait Linked {
    fn link(&mut self, axis: usize) -> &mut Link;
}

impl List {
    pub(crate) const fn new() -> Self {
        Self { oldest: NONE, newest: NONE, len: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The least recently used entry.
    pub(crate) const fn oldest(&self) -> Option<u32> {
        if self.oldest == NONE { None } else { Some(self.oldest) }
    }

    /// Makes `entry`, which is in no list of this axis, the most recently used.
    pub(crate) fn push(&mut self, entries: &mut Slab<impl Linked>, axis: usize, entry: u32) {
        let before = self.newest;
        *entries[entry as usize].link(axis) = Link { older: before, newer: NONE };
        match before {
            NONE => self.oldest = entry,
            _ => entries[before as usize].link(axis).newer = entry,
        }
        self.newest = entry;
        self.len += 1;
    }

    /// Takes `entry`, which is in this list, out of it.
    pub(crate) fn unlink(&mut self, entries: &mut Slab<impl Linked>, axis: usize, entry: u32) {
        let link = std::mem::replace(entries[entry as usize].link(axis), Link::NONE);
        match link.older {
            NONE => self.oldest = link.newer,
            older => entries[older as usize].link(axis).newer = link.newer,
        }
        match link.newer {
            NONE => self.newest = link.older,
            newer => entries[newer as usize].link(axis).older = link.older,
        }
        self.len -= 1;
    }

    /// Makes `entry`, which is in this list, the most recently used.
    pub(crate) fn refresh(&mut self, entries: &mut Slab<impl Linked>, axis: usize, entry: u32) {
        if self.newest != entry {
            self.unlink(entries, axis, entry);
            self.push(entries, axis, entry);
        }
    }
}

impl Link {
    /// In no list.
    pub(crate) const NONE: Self = Self { older: NONE, newer: NONE };
}

/// No entry: a slab of this crate never has that many.
const NONE: u32 = u32::MAX;
