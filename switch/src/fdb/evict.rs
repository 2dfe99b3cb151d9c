//! Which entry makes room for a new one.
//!
//! Two choices, both of bounded work and by that approximate:
//!
//! - *The largest port* is remembered, compared with each port that grows, and on every eviction
//!   with the 16 counters of one more cache line, in turn. With up to 16 ports it is exact; with
//!   all 4,096 it is found after 256 evictions at the latest.
//! - *An old entry of it*: the port's clock hand goes on through the table and takes the oldest of
//!   the next `VICTIM_CHOICES` entries of the port, or of as many as `VICTIM_SLOTS` slots
//!   hold. The oldest of n at random is among the oldest third in all but (2/3)^n of cases, 4 % for
//!   eight (Redis approximates LRU in this way). A port with a share s of the slots is not met in
//!   them in e^(-256 s) of cases: 0.03 % for a 32nd. Then the newcomer is refused; the hand has
//!   moved on, and after slots / 256 refusals in a row it has met every entry.

use std::cmp::Reverse;
use std::sync::atomic::Ordering::Relaxed;

use super::{Fdb, Place, load};
use crate::port::PortIndex;
use crate::table::Entry;

/// Entries of a port among which the oldest is replaced.
const VICTIM_CHOICES: usize = 8;

/// Slots read at most to find them: 32 buckets of three cache lines, about a microsecond.
const VICTIM_SLOTS: usize = 256;

/// Port counters on one cache line: 64 bytes of four each.
const LINE_PORTS: usize = 16;

impl Fdb {
    /// Makes room for an entry of `port` in a full table.
    pub(super) fn evict_fairly(&self, port: PortIndex) -> bool {
        let lines = self.highest.0.load(Relaxed) / LINE_PORTS + 1;
        let line = self.next_line.0.fetch_add(1, Relaxed) % lines;
        let remembered = self.largest.0.load(Relaxed);
        let ports = line * LINE_PORTS..(line + 1) * LINE_PORTS;
        let largest = ports.fold(remembered, |largest, port| {
            if load(&self.counts, port) > load(&self.counts, largest) {
                port
            } else {
                largest
            }
        });
        if largest != remembered {
            self.largest.0.store(largest, Relaxed);
        }
        match u16::try_from(largest).map(PortIndex) {
            Ok(largest) if self.port_entries(largest) > self.port_entries(port) => {
                self.evict_from(largest)
            }
            _ => self.evict_from(port),
        }
    }

    /// Removes an old entry of `port`; see the theory of operation for "old".
    pub(super) fn evict_from(&self, port: PortIndex) -> bool {
        let Some(hand) = self.hands.get(port.index()) else {
            return false;
        };
        let start = hand.load(Relaxed);
        let all = self.table.slots();
        let own = Place::dynamic(port);
        let mut oldest: Option<Entry> = None;
        let (mut met, mut step) = (0, 0);
        while step < VICTIM_SLOTS.min(all) && met < VICTIM_CHOICES {
            if let Some(entry) = self.table.at((start + step) % all)
                && Place::of(&entry) == own
            {
                met += 1;
                if oldest.is_none_or(|oldest| entry.stamp < oldest.stamp) {
                    oldest = Some(entry);
                }
            }
            step += 1;
        }
        hand.store((start + step) % all, Relaxed);
        oldest.is_some_and(|entry| self.discard(&entry, Some(&self.totals.0.evicted)))
    }

    /// Makes room in the two full buckets of `key`, by the rule of the full table.
    pub(super) fn evict_rival(&self, key: u64, port: PortIndex) -> bool {
        let count = |port: PortIndex| load(&self.counts, port.index());
        let rival = self
            .table
            .rivals(key)
            .map(|entry| (Place::of(&entry), entry))
            .filter(|(at, _)| !at.is_static)
            .filter(|(at, _)| at.port == port || count(at.port) > count(port))
            .max_by_key(|(at, entry)| (count(at.port), Reverse(entry.stamp)));
        rival.is_some_and(|(_, entry)| self.discard(&entry, Some(&self.totals.0.evicted)))
    }
}
