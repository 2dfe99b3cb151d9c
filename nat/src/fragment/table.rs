//! The datagrams being followed, their bounds and the copies held for them.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use super::queue::{Kind, Queues};
use super::{Key, Ready, Verdict};
use crate::Nanos;
use crate::config::FragmentLimits;
use crate::hash::HashKey;
use crate::index::Index;
use crate::outcome::{Direction, Outcome, Reason};
use crate::rewrite::L4Sum;
use crate::slab::{Slab, at};

/// Ranges kept per datagram; `FragmentLimits::per_datagram_max` is at most this.
const RANGES_MAX: usize = 64;
/// What a held fragment costs beside its bytes: two list entries and an allocation.
const HELD_OVERHEAD: usize = 96;
/// Bytes kept of a held fragment that is dropped: enough to show which one it was.
const TRACE_LEN: usize = 64;
/// Sources are counted in this many classes by a keyed hash; two in one class share a quota.
const SOURCE_CLASSES: usize = 4_096;
/// With this many released fragments not fetched no other is taken; a caller that fetches after
/// each call never has more than one datagram's.
const READY_MAX: usize = 16_384;

/// Which part of a datagram a fragment is, in bytes of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u16,
    /// Exclusive.
    pub(super) end: u16,
    /// No fragment follows (MF is clear).
    pub(super) last: bool,
}

/// What is to be done with a fragment that has come.
pub(super) enum Arrival {
    /// It is the first: decide, and tell [`Fragments::decide`].
    First(u32),
    /// The first has come: this is its verdict.
    Follow(Verdict),
    /// The first has not come: call [`Fragments::hold`].
    Hold(u32),
    Refuse(Reason),
}

#[derive(Clone)]
struct Held {
    bytes: Vec<u8>,
    l4_sum: L4Sum,
}

#[derive(Clone)]
struct Datagram {
    key: Key,
    deadline: Nanos,
    /// `None` while the first fragment has not come.
    verdict: Option<Verdict>,
    ranges: [(u16, u16); RANGES_MAX],
    ranges_len: u8,
    /// Sum of the ranges.
    seen: u16,
    /// Where the datagram ends, once the last fragment has come.
    end: Option<u16>,
    held: Vec<Held>,
}

impl Datagram {
    fn kind(&self) -> Kind {
        if self.verdict.is_some() {
            Kind::Decided
        } else {
            Kind::Waiting
        }
    }

    fn ranges(&self) -> &[(u16, u16)] {
        &self.ranges[..usize::from(self.ranges_len)]
    }

    fn is_complete(&self) -> bool {
        self.end == Some(self.seen)
    }

    /// Adds a range that overlaps no other, or says why it cannot be part of the datagram.
    fn add(&mut self, span: Span, ranges_max: u8) -> Result<(), Reason> {
        let overlaps = self
            .ranges()
            .iter()
            .any(|&(a, b)| span.start < b && a < span.end);
        let beyond = self.end.is_some_and(|end| span.end > end || span.last);
        let cuts = span.last && self.ranges().iter().any(|&(_, b)| b > span.end);
        if overlaps || beyond || cuts {
            return Err(Reason::FragmentOverlap);
        }
        if self.ranges_len >= ranges_max {
            return Err(Reason::FragmentLimit);
        }
        self.ranges[usize::from(self.ranges_len)] = (span.start, span.end);
        self.ranges_len += 1;
        self.seen += span.end - span.start;
        if span.last {
            self.end = Some(span.end);
        }
        Ok(())
    }

    /// Forgets what has been seen: the identification is in use again.
    fn restart(&mut self, span: Span) {
        self.ranges[0] = (span.start, span.end);
        self.ranges_len = 1;
        self.seen = span.end - span.start;
        self.end = span.last.then_some(span.end);
    }
}

/// The table; see the module's theory of operation.
pub(crate) struct Fragments {
    slab: Slab<Datagram>,
    index: Index,
    queues: Queues,
    key: HashKey,
    limits: FragmentLimits,
    per_source: Box<[u32]>,
    held_bytes: usize,
    ready: VecDeque<Ready>,
}

impl Fragments {
    pub(crate) fn new(limits: FragmentLimits, key: HashKey) -> Self {
        let max = at(limits.datagrams_max);
        Self {
            slab: Slab::new(max),
            index: Index::new(max),
            queues: Queues::new(max),
            key,
            limits,
            per_source: vec![0; SOURCE_CLASSES].into_boxed_slice(),
            held_bytes: 0,
            ready: VecDeque::new(),
        }
    }

    /// Returns the bytes taken at the start: without what is held.
    pub(crate) fn memory(&self) -> usize {
        let sources = size_of_val::<[u32]>(&self.per_source);
        self.slab.memory() + self.index.memory() + self.queues.memory() + sources
    }

    /// Takes note of a fragment and says what is to be done with it.
    pub(super) fn arrive(&mut self, key: Key, span: Span, now: Nanos) -> Arrival {
        if self.ready.len() >= READY_MAX {
            return Arrival::Refuse(Reason::FragmentLimit);
        }
        // A little work per fragment keeps the table fresh even if nobody calls `expire`.
        self.expire(now, 2);
        let Some(slot) = self.find(key) else {
            return self.begin(key, span, now);
        };
        let ranges_max = self.limits.per_datagram_max;
        let Some(datagram) = self.slab.get_mut(slot) else {
            return Arrival::Refuse(Reason::FragmentLimit);
        };
        let repeated = datagram.ranges().contains(&(span.start, span.end));
        match (datagram.verdict, repeated) {
            (Some(Verdict::Fixed(Outcome::Drop(reason))), _) if reason_is_final(reason) => {
                return Arrival::Refuse(reason);
            }
            (Some(_), true) if span.start == 0 => {
                datagram.restart(span);
                return Arrival::First(slot);
            }
            (Some(verdict), true) => return Arrival::Follow(verdict),
            (None, true) => return Arrival::Refuse(Reason::FragmentDuplicate),
            (Some(_) | None, false) => {}
        }
        if let Err(reason) = datagram.add(span, ranges_max) {
            self.decide(slot, Verdict::Fixed(Outcome::Drop(reason)), now);
            return Arrival::Refuse(reason);
        }
        match datagram.verdict {
            _ if span.start == 0 => Arrival::First(slot),
            None => Arrival::Hold(slot),
            Some(verdict) => {
                if datagram.is_complete() {
                    self.remove(slot);
                }
                Arrival::Follow(verdict)
            }
        }
    }

    /// Follows a datagram from its first-coming fragment on.
    fn begin(&mut self, key: Key, span: Span, now: Nanos) -> Arrival {
        let class = self.class_of(key.src);
        if self.per_source[class] >= self.limits.per_source_max {
            self.give_up_oldest_of(class);
        }
        if self.slab.is_full() {
            let waiting = self.queues.len(Kind::Waiting) > self.queues.len(Kind::Decided);
            self.give_up_oldest(if waiting {
                Kind::Waiting
            } else {
                Kind::Decided
            });
        }
        let mut datagram = Datagram {
            key,
            deadline: now + self.limits.hold,
            verdict: None,
            ranges: [(0, 0); RANGES_MAX],
            ranges_len: 0,
            seen: 0,
            end: None,
            held: Vec::new(),
        };
        datagram.restart(span);
        let Some(slot) = self.slab.insert(datagram) else {
            return Arrival::Refuse(Reason::FragmentLimit);
        };
        if !self.index.insert(self.hash(key), slot) {
            self.slab.remove(slot);
            return Arrival::Refuse(Reason::FragmentLimit);
        }
        self.queues.push(Kind::Waiting, slot);
        self.per_source[class] += 1;
        if span.start == 0 {
            Arrival::First(slot)
        } else {
            Arrival::Hold(slot)
        }
    }

    /// Keeps a copy of a fragment that waits for its first; older datagrams make room. Fails,
    /// giving up the datagram, if it alone is too much or others' copies are not fetched.
    pub(super) fn hold(&mut self, slot: u32, bytes: &[u8], l4_sum: L4Sum) -> Result<(), Reason> {
        let cost = bytes.len() + HELD_OVERHEAD;
        while self.held_bytes + cost > self.limits.held_bytes_max {
            match self.queues.oldest(Kind::Waiting) {
                Some(oldest) if oldest != slot => self.give_up(oldest, Reason::FragmentLimit),
                _ => {
                    self.give_up(slot, Reason::FragmentLimit);
                    return Err(Reason::FragmentLimit);
                }
            }
        }
        if let Some(datagram) = self.slab.get_mut(slot) {
            datagram.held.push(Held {
                bytes: bytes.to_vec(),
                l4_sum,
            });
            self.held_bytes += cost;
        }
        Ok(())
    }

    /// Records what the first fragment came to, and releases those held.
    pub(super) fn decide(&mut self, slot: u32, verdict: Verdict, now: Nanos) {
        let Some(datagram) = self.slab.get_mut(slot) else {
            return;
        };
        let kind = datagram.kind();
        datagram.verdict = Some(verdict);
        datagram.deadline = now + self.limits.hold;
        let complete = datagram.is_complete();
        self.queues.remove(kind, slot);
        self.queues.push(Kind::Decided, slot);
        self.release(slot, verdict);
        if complete {
            self.remove(slot);
        }
    }

    /// Gives up datagrams whose time is over, at most `budget`; returns how many.
    pub(crate) fn expire(&mut self, now: Nanos, budget: usize) -> usize {
        let mut ended = 0;
        for kind in [Kind::Waiting, Kind::Decided] {
            while ended < budget
                && let Some(slot) = self.queues.oldest(kind)
                && self
                    .slab
                    .get(slot)
                    .is_some_and(|datagram| datagram.deadline <= now)
            {
                self.give_up(slot, Reason::FragmentTimeout);
                ended += 1;
            }
        }
        ended
    }

    /// Returns when the next datagram's time is over.
    pub(crate) fn next_expiry(&self) -> Option<Nanos> {
        [Kind::Waiting, Kind::Decided]
            .into_iter()
            .filter_map(|kind| self.slab.get(self.queues.oldest(kind)?))
            .map(|datagram| datagram.deadline)
            .min()
    }

    /// Forgets the datagrams that are decided: their sessions have ended.
    pub(crate) fn forget_decided(&mut self) {
        while let Some(slot) = self.queues.oldest(Kind::Decided) {
            self.remove(slot);
        }
    }

    /// Releases a translated copy of an outbound packet that took its place, with this outcome;
    /// returns what became of the packet itself.
    pub(crate) fn release_copy(&mut self, bytes: Vec<u8>, outcome: Outcome) -> Outcome {
        if self.ready.len() >= READY_MAX {
            return Outcome::Drop(Reason::FragmentLimit);
        }
        self.ready.push_back(Ready {
            bytes,
            l4_sum: L4Sum::Full,
            direction: Direction::Outbound,
            verdict: Verdict::Fixed(outcome),
            // It is there for one call only, and nothing of others need make room for it.
            charge: 0,
        });
        Outcome::Held
    }

    /// True if there is a released fragment.
    #[inline]
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes the oldest released fragment.
    pub(super) fn pop_ready(&mut self) -> Option<Ready> {
        let ready = self.ready.pop_front()?;
        self.held_bytes -= ready.charge;
        Some(ready)
    }

    fn give_up_oldest(&mut self, kind: Kind) {
        if let Some(slot) = self.queues.oldest(kind) {
            self.give_up(slot, Reason::FragmentLimit);
        }
    }

    /// Makes room in a class of sources; the walk is bounded by the table's size and happens
    /// only to a source that is over its quota.
    fn give_up_oldest_of(&mut self, class: usize) {
        let found = [Kind::Decided, Kind::Waiting].into_iter().find_map(|kind| {
            self.queues.iter(kind).find(|&slot| {
                self.slab
                    .get(slot)
                    .is_some_and(|datagram| self.class_of(datagram.key.src) == class)
            })
        });
        if let Some(slot) = found {
            self.give_up(slot, Reason::FragmentLimit);
        }
    }

    /// Drops what is held for a datagram, for this reason, and forgets it.
    fn give_up(&mut self, slot: u32, reason: Reason) {
        self.release(slot, Verdict::Fixed(Outcome::Drop(reason)));
        self.remove(slot);
    }

    /// Moves held fragments to the released ones.
    fn release(&mut self, slot: u32, verdict: Verdict) {
        let Some(datagram) = self.slab.get_mut(slot) else {
            return;
        };
        let direction: Direction = datagram.key.direction;
        for Held { mut bytes, l4_sum } in datagram.held.drain(..) {
            let mut charge = bytes.len() + HELD_OVERHEAD;
            if let Verdict::Fixed(Outcome::Drop(_)) = verdict {
                // What is dropped makes room at once.
                self.held_bytes -= charge;
                charge = 0;
                bytes.truncate(TRACE_LEN);
                bytes.shrink_to_fit();
            }
            self.ready.push_back(Ready {
                bytes,
                l4_sum,
                direction,
                verdict,
                charge,
            });
        }
    }

    fn remove(&mut self, slot: u32) {
        let Some(datagram) = self.slab.remove(slot) else {
            return;
        };
        self.queues.remove(datagram.kind(), slot);
        self.index.remove(self.hash(datagram.key), slot);
        let class = self.class_of(datagram.key.src);
        self.per_source[class] -= 1;
    }

    /// Lays the tables aside; see [`Cells::lay_aside`](crate::cells::Cells::lay_aside).
    pub(crate) fn lay_aside(&mut self) -> Self {
        let Self {
            ref mut slab,
            ref mut index,
            ref queues,
            key,
            limits,
            ref per_source,
            held_bytes,
            ref ready,
        } = *self;
        Self {
            slab: slab.lay_aside(),
            index: index.lay_aside(),
            queues: queues.clone(),
            key,
            limits,
            per_source: per_source.clone(),
            held_bytes,
            // Empty but within a batch.
            ready: ready.clone(),
        }
    }

    pub(crate) fn take_back(&mut self, twin: Self) {
        self.slab.take_back(twin.slab);
        self.index.take_back(twin.index);
    }

    fn find(&self, key: Key) -> Option<u32> {
        self.index.find(self.hash(key), |slot| {
            self.slab
                .get(slot)
                .is_some_and(|datagram| datagram.key == key)
        })
    }

    fn hash(&self, key: Key) -> u64 {
        let addresses = u64::from(key.src.to_bits()) << 32 | u64::from(key.dst.to_bits());
        let direction = key.direction as u64;
        let rest = direction << 32 | u64::from(key.protocol) << 16 | u64::from(key.id);
        self.key.hash(addresses, rest)
    }

    fn class_of(&self, src: Ipv4Addr) -> usize {
        let hash = self.key.hash(u64::from(src.to_bits()), u64::MAX);
        usize::try_from(hash % SOURCE_CLASSES as u64).unwrap_or(0)
    }

    #[cfg(test)]
    pub(crate) fn usage(&self) -> (usize, usize) {
        (self.slab.len(), self.held_bytes)
    }
}

/// Whether nothing can revive a datagram dropped for this reason: its fragments contradict each
/// other, so a repeated first one is no new datagram.
fn reason_is_final(reason: Reason) -> bool {
    matches!(reason, Reason::FragmentOverlap | Reason::FragmentLimit)
}
