//! Copies of the forwarding table: one on which a frame can be tried, and one as plain data.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::{Fdb, Flush, Place, Totals};
use crate::table::{Apart, Entry, Row};

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
        copy.table.iter().for_each(|entry| copy.count(&entry));
        copy
    }

    fn count(&self, entry: &Entry) {
        let place = Place::of(entry);
        if place.is_static {
            self.statics.0.fetch_add(1, Relaxed);
            return;
        }
        self.dynamics.0.fetch_add(1, Relaxed);
        if let Some(count) = self.counts.get(place.port.index()) {
            count.fetch_add(1, Relaxed);
        }
        self.highest.0.fetch_max(place.port.index(), Relaxed);
    }

    /// All entries as plain data, aged ones not yet swept included.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        self.table.rows()
    }

    /// Makes the entries of a table nobody else uses yet those of another.
    pub fn restore(&self, rows: &[Row]) {
        self.flush(Flush::All);
        for row in rows {
            if let Some(entry) = self.table.enter(row) {
                self.count(&entry);
            }
        }
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
