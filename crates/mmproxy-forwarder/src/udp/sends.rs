//! Datagrams on their way to targets, each in a flow of its own, until there are enough for one system call.

use std::ops::Range;

use crate::udp::table::FlowId;

/// Datagrams that wait to be sent, and a copy of their bytes.
#[derive(Debug, Default)]
pub(crate) struct Sends {
    bytes: Vec<u8>,
    queued: Vec<(FlowId, Range<usize>)>,
}

impl Sends {
    /// Adds `payload`, to be sent by the flow `id` after all that was added before.
    pub(crate) fn add(&mut self, id: FlowId, payload: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        self.queued.push((id, start..self.bytes.len()));
    }

    /// Whether it is time to send.
    pub(crate) const fn is_full(&self) -> bool {
        self.queued.len() >= MOST || self.bytes.len() >= ENOUGH
    }

    pub(crate) const fn len(&self) -> usize {
        self.queued.len()
    }

    /// The datagram `number`, and its flow.
    pub(crate) fn get(&self, number: usize) -> (FlowId, &[u8]) {
        let (id, range) = &self.queued[number];
        (*id, &self.bytes[range.clone()])
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (FlowId, &[u8])> {
        self.queued.iter().map(|(id, range)| (*id, &self.bytes[range.clone()]))
    }

    /// Leaves those out whose flow is not `alive` any more; how many.
    pub(crate) fn forget_unless(&mut self, alive: impl Fn(FlowId) -> bool) -> usize {
        let before = self.queued.len();
        self.queued.retain(|(id, _)| alive(*id));
        before - self.queued.len()
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.queued.clear();
        self.bytes.clear();
    }
}

/// Datagrams in one system call.
const MOST: usize = 64;

/// Bytes that are enough for one: what a level 2 cache has room for beside everything else. One more datagram may be
/// behind them.
const ENOUGH: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_comes_out_in_order_without_that_of_flows_that_are_gone() {
        let [here, gone] = [1, 2].map(FlowId::from_bits);
        let mut sends = Sends::default();
        for (id, payload) in [(here, "one"), (gone, "two"), (here, ""), (here, "three")] {
            sends.add(id, payload.as_bytes());
        }
        assert_eq!(sends.forget_unless(|id| id != gone), 1);
        let left: Vec<_> = sends.iter().map(|(id, payload)| (id, payload.to_vec())).collect();
        assert_eq!(left, [(here, b"one".to_vec()), (here, Vec::new()), (here, b"three".to_vec())]);
        assert_eq!(sends.get(2), (here, &b"three"[..]));
        sends.clear();
        assert_eq!(sends.len(), 0);
    }

    #[test]
    fn it_is_full_of_many_small_datagrams_or_of_a_few_large_ones() {
        let id = FlowId::from_bits(1);
        let filled = |size| {
            let mut sends = Sends::default();
            while !sends.is_full() {
                sends.add(id, &vec![0; size]);
            }
            sends.len()
        };
        assert_eq!([0, 64, 65_507].map(filled), [64, 64, 3]);
    }
}
