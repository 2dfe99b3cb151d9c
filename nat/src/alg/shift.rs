//! Sequence numbers of connections whose segments changed their length.
//!
//! As in Linux (nf_conntrack_seqadj.c) the last change of a connection is kept, and how far all is
//! shifted before and after it. FTP commands wait for their replies, so an earlier change is
//! acknowledged long before the next one.

use crate::checksum;
use crate::hash::HashKey;
use crate::index::Index;
use crate::rewrite::L4Sum;
use crate::slab::Slab;
use crate::wire::Tcp;

const SACK: u8 = 5;

/// A piece of a stream that was replaced; numbers are those of the inside host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The first byte replaced.
    pub(super) start: u32,
    /// The first byte after it.
    end: u32,
    /// What is added to numbers up to `start`, and from `end` on; modulo 2^32.
    before: u32,
    after: u32,
    /// The external port that the new text tells.
    pub(super) port: u16,
}

impl Change {
    /// The first change of a stream: `old_len` bytes at `start` become `new_len`.
    pub(super) fn new(start: u32, old_len: usize, new_len: usize, port: u16) -> Self {
        let [old_len, new_len] = [old_len, new_len].map(|len| u32::try_from(len).unwrap_or(0));
        Self {
            start,
            end: start.wrapping_add(old_len),
            before: 0,
            after: new_len.wrapping_sub(old_len),
            port,
        }
    }

    /// Returns the outside's number for one of the inside host's.
    fn outwards(&self, number: u32) -> u32 {
        if is_from(number, self.end) {
            number.wrapping_add(self.after)
        } else {
            number.wrapping_add(self.before)
        }
    }

    /// Returns the inside host's number for one of the outside's. Whoever acknowledges half of the
    /// new text has acknowledged nothing of the old one.
    fn inwards(&self, number: u32) -> u32 {
        let number_after = number.wrapping_sub(self.after);
        if is_from(number_after, self.end) {
            return number_after;
        }
        let number_before = number.wrapping_sub(self.before);
        if is_from(number_before, self.start) {
            self.start
        } else {
            number_before
        }
    }
}

/// Whether a sequence number is `from` or follows it (RFC 9293 section 3.4).
fn is_from(number: u32, from: u32) -> bool {
    number.wrapping_sub(from) < 1 << 31
}

/// The last changes of a fixed number of sessions.
pub(super) struct Shifts {
    slab: Slab<(u32, Change)>,
    index: Index,
    key: HashKey,
}

impl Shifts {
    pub(super) fn new(max: usize, key: HashKey) -> Self {
        Self {
            slab: Slab::new(max),
            index: Index::new(max),
            key,
        }
    }

    /// Lays the tables aside; see [`Cells::lay_aside`](crate::cells::Cells::lay_aside).
    pub(super) fn lay_aside(&mut self) -> Self {
        Self {
            slab: self.slab.lay_aside(),
            index: self.index.lay_aside(),
            key: self.key,
        }
    }

    pub(super) fn take_back(&mut self, twin: Self) {
        self.slab.take_back(twin.slab);
        self.index.take_back(twin.index);
    }

    pub(super) fn find(&self, session: u32) -> Option<&Change> {
        let (_, change) = self.slab.get(self.slot(session)?)?;
        Some(change)
    }

    /// Adds a change behind the last one of a session; one that is there already stays. Returns
    /// whether it is in force: not if there is no room, or it lies before the last one.
    #[must_use]
    pub(super) fn record(&mut self, session: u32, new: Change) -> bool {
        if let Some(slot) = self.slot(session) {
            let Some((_, last)) = self.slab.get_mut(slot) else {
                return false;
            };
            if new.start == last.start {
                // Sent again, perhaps with more behind it.
                return new.end == last.end;
            }
            if !is_from(new.start, last.end) {
                return false;
            }
            *last = Change {
                before: last.after,
                after: last.after.wrapping_add(new.after),
                ..new
            };
            return true;
        }
        let Some(slot) = self.slab.insert((session, new)) else {
            return false;
        };
        let indexed = self.index.insert(self.hash(session), slot);
        if !indexed {
            self.slab.remove(slot);
        }
        indexed
    }

    /// Returns the bytes taken.
    pub(super) fn memory(&self) -> usize {
        self.slab.memory() + self.index.memory()
    }

    pub(super) fn remove(&mut self, session: u32) {
        if let Some(slot) = self.slot(session) {
            self.slab.remove(slot);
            self.index.remove(self.hash(session), slot);
        }
    }

    fn slot(&self, session: u32) -> Option<u32> {
        self.index.find(self.hash(session), |slot| {
            self.slab
                .get(slot)
                .is_some_and(|&(owner, _)| owner == session)
        })
    }

    fn hash(&self, session: u32) -> u64 {
        self.key.hash(u64::from(session), 0)
    }
}

/// Shifts the sequence number of an outbound segment.
pub(super) fn sequence(change: &Change, mut tcp: Tcp<&mut [u8]>, l4_sum: L4Sum) {
    let old = tcp.sequence();
    let new = change.outwards(old);
    tcp.set_sequence(new);
    if l4_sum == L4Sum::Full {
        let field = checksum::update32(tcp.checksum(), old, new);
        tcp.set_checksum(field);
    }
}

/// Shifts back the acknowledgement number and the SACK blocks of an inbound segment.
pub(super) fn acknowledgement(change: &Change, mut tcp: Tcp<&mut [u8]>, l4_sum: L4Sum) {
    let (old_ack, old_options) = (tcp.acknowledgement(), checksum::sum(tcp.options()));
    let new_ack = change.inwards(old_ack);
    tcp.set_acknowledgement(new_ack);
    if let Some(blocks) = tcp.find_option(SACK) {
        let blocks = tcp.options_mut().get_mut(blocks).unwrap_or_default();
        for edge in blocks.chunks_exact_mut(4) {
            let number = u32::from_be_bytes([edge[0], edge[1], edge[2], edge[3]]);
            edge.copy_from_slice(&change.inwards(number).to_be_bytes());
        }
    }
    if l4_sum == L4Sum::Full {
        let new_options = checksum::sum(tcp.options());
        let field = checksum::update32(tcp.checksum(), old_ack, new_ack);
        let (old, new) = (checksum::fold(old_options), checksum::fold(new_options));
        tcp.set_checksum(checksum::update(field, old, new));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a5_5_numbers_around_a_change() {
        // Ten bytes at 1,000 became fourteen; later six at 2,000 became three.
        let mut shifts = Shifts::new(1, HashKey::new(1, 8));
        assert!(shifts.record(5, Change::new(1_000, 10, 14, 1)));
        assert!(
            shifts.record(5, Change::new(1_000, 10, 14, 1)),
            "sent again"
        );
        assert!(!shifts.record(6, Change::new(1_000, 10, 14, 1)), "no room");
        let change = shifts.find(5).unwrap();
        for (inside, outside) in [(999, 999), (1_000, 1_000), (1_010, 1_014), (1_500, 1_504)] {
            assert_eq!(
                (change.outwards(inside), change.inwards(outside)),
                (outside, inside)
            );
        }
        for half in 1_001..1_014 {
            assert_eq!(change.inwards(half), 1_000, "half of the new text");
        }
        assert!(shifts.record(5, Change::new(2_000, 6, 3, 2)));
        assert!(
            !shifts.record(5, Change::new(1_000, 10, 14, 1)),
            "long past"
        );
        let change = shifts.find(5).unwrap();
        for (inside, outside) in [(1_999, 2_003), (2_000, 2_004), (2_006, 2_007)] {
            assert_eq!(
                (change.outwards(inside), change.inwards(outside)),
                (outside, inside)
            );
        }
        shifts.remove(5);
        assert!(shifts.find(5).is_none() && shifts.record(6, Change::new(1, 1, 2, 3)));
    }

    proptest! {
        /// Whatever the wrap-around, there and back again is where it was, and never further.
        #[test]
        fn a5_5_inwards_undoes_outwards(
            start: u32, old in 6usize..30, new in 6usize..30, far in 0u32..1_000_000,
        ) {
            let change = Change::new(start, old, new, 1);
            for number in [start.wrapping_sub(far), change.end.wrapping_add(far)] {
                prop_assert_eq!(change.inwards(change.outwards(number)), number);
            }
            for within in 0..u32::try_from(new).unwrap() {
                prop_assert_eq!(change.inwards(start.wrapping_add(within)), start);
            }
        }
    }
}
