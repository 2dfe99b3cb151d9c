//! A copy of the forwarding table, on which a frame can be tried.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::{Fdb, Place, Totals};
use crate::table::Apart;

impl Fdb {
    /// Makes a table that knows, learns and forgets as this one would. It counts the entries that
    /// it has, since others may go on changing those of this one.
    pub(crate) fn copy(&self) -> Self {
        let words = |words: &[AtomicU32]| words.iter().map(copy_u32).collect();
        let place = |word: &Apart<AtomicUsize>| Apart(AtomicUsize::new(word.0.load(Relaxed)));
        let copy = Self {
            table: self.table.copy(),
            entries_max: self.entries_max,
            ageing_secs: copy_u32(&self.ageing_secs),
            limits: words(&self.limits),
            counts: self.counts.iter().map(|_| AtomicU32::new(0)).collect(),
            hands: (self.hands.iter())
                .map(|hand| AtomicUsize::new(hand.load(Relaxed)))
                .collect(),
            dynamics: Apart::default(),
            statics: Apart::default(),
            sweep: place(&self.sweep),
            largest: place(&self.largest),
            next_line: place(&self.next_line),
            highest: place(&self.highest),
            totals: Apart(self.totals.0.copy()),
        };
        for entry in copy.table.iter() {
            let place = Place::of(&entry);
            if place.is_static {
                copy.statics.0.fetch_add(1, Relaxed);
                continue;
            }
            copy.dynamics.0.fetch_add(1, Relaxed);
            if let Some(count) = copy.counts.get(place.port.index()) {
                count.fetch_add(1, Relaxed);
            }
        }
        copy
    }
}

impl Totals {
    fn copy(&self) -> Self {
        let copy = |total: &AtomicU64| AtomicU64::new(total.load(Relaxed));
        let Self {
            learned,
            moved,
            damped,
            evicted,
            refused,
            aged,
        } = self;
        Self {
            learned: copy(learned),
            moved: copy(moved),
            damped: copy(damped),
            evicted: copy(evicted),
            refused: copy(refused),
            aged: copy(aged),
        }
    }
}

fn copy_u32(word: &AtomicU32) -> AtomicU32 {
    AtomicU32::new(word.load(Relaxed))
}
