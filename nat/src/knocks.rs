//! Handshakes from outside that were refused, so that one that is repeated is let in.
//!
//! # Theory of operation
//! While outsiders flood, most of their SYNs are refused ([`crate::strangers`]), and with them most
//! of those whose senders mean it. Those repeat theirs, a second later for the first time (RFC 6298
//! section 2.1) and at double intervals then; who only floods, from ever new ports or under forged
//! addresses, does not. So a refused SYN leaves a mark of its endpoints, by a keyed hash, and the
//! next one that finds it, neither too soon nor too late, is let in: greylisting. Who cycles
//! through so few ports that one comes again within a second renews the mark, and waits for ever.
//! Who repeats patiently gets in, but no more of them in a second than get in without.
//!
//! A mark is 16 bits in a place that others may overwrite: with 200,000 SYNs a second five in six
//! are there after a second, and a SYN finds another's for its own once in 256 times.

use std::ops::{Range, RangeInclusive};

use crate::Nanos;
use crate::cells::Cells;
use crate::hash::HashKey;
use crate::pace::Pace;
use crate::session::Tuple;
use crate::slab::at;

/// Marks that can be kept: 2 MiB, which the kernel does not give before somebody floods.
pub const KNOCK_PLACES: u32 = 1 << 20;

/// Nanoseconds, as a power of two, in a unit of a mark's age: 0.27 s. It counts 256 of them.
pub const KNOCK_UNIT_SHIFT: u8 = 28;

/// Units between a SYN and its repetition: all from 0.81 to 17 s, none below 0.53 s. The first four
/// repetitions of Linux and of RFC 6298 lie within.
pub const KNOCK_GAP: RangeInclusive<u8> = 3..=64;

/// See the module's theory of operation.
pub(crate) struct Knocks {
    marks: Cells<u16>,
    key: HashKey,
    /// Those let in, and how many a second they may be.
    pace: Pace,
    per_sec: u32,
}

impl Knocks {
    /// Lets so many a second in; without a limit none is refused, and no marks are kept.
    pub(crate) fn new(per_sec: u32, key: HashKey) -> Self {
        let places = if per_sec == u32::MAX {
            0
        } else {
            at(KNOCK_PLACES)
        };
        Self {
            marks: Cells::defaults(places),
            key,
            pace: Pace::full(per_sec, Nanos::ZERO),
            per_sec,
        }
    }

    /// Returns the bytes taken.
    pub(crate) fn memory(&self) -> usize {
        self.marks.memory()
    }

    /// Returns where the marks lie.
    pub(crate) fn room(&self) -> Range<*const u8> {
        self.marks.room()
    }

    /// Returns whether a SYN that is to be refused is a repeated one, and may pass. It leaves its
    /// mark in any case.
    pub(crate) fn is_repeated(&mut self, tuple: Tuple, now: Nanos) -> bool {
        let (first, second) = tuple.words();
        let hash = self.key.hash(first, second).to_be_bytes();
        let place = u32::from_be_bytes([0, hash[1], hash[2], hash[3]]) % KNOCK_PLACES;
        let check = hash[0];
        let time = (now.as_nanos() >> KNOCK_UNIT_SHIFT).to_be_bytes()[7];
        let Some(mark) = self.marks.get_mut(place) else {
            return false;
        };
        let [marked, since] = mark.to_be_bytes();
        let is_repeated = marked == check && KNOCK_GAP.contains(&time.wrapping_sub(since));
        *mark = u16::from_be_bytes([check, time]);
        let passes = is_repeated && self.pace.allows(self.per_sec, now);
        if passes {
            self.pace.take();
        }
        passes
    }

    /// Lays the marks aside; see [`Cells::lay_aside`].
    pub(crate) fn lay_aside(&mut self) -> Self {
        Self {
            marks: self.marks.lay_aside(),
            key: self.key,
            pace: self.pace,
            per_sec: self.per_sec,
        }
    }

    pub(crate) fn take_back(&mut self, twin: Self) {
        self.marks.take_back(twin.marks);
    }
}
