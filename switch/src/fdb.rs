//! The forwarding table: which port a station was last heard on.
//!
//! # Theory of operation
//!
//! A key is a network and an address, so that networks learn apart (IEEE 802.1Q-2018 8.8); the
//! value is a port and a flag. All workers share one table ([`crate::table`]) and take no lock. A
//! known station on its port costs one read, and one store a second to keep it young. An entry not
//! refreshed within the ageing time is a miss at once, whether or not the sweep
//! ([`Fdb::age`]) has come to it (802.1D-2004 7.9.2).
//!
//! Memory is fixed. When the table is full, a new address replaces an old one **of the port that
//! has most entries**, as in Open vSwitch (lib/mac-learning.c, `evict_mac_entry_fairly`), and never
//! one of a port that has fewer than the newcomer's. So a flood of invented addresses replaces the
//! flooder's own: with 8,192 entries and three ports with ten stations each, a fourth gets 8,162
//! entries and no more. A port at its own limit replaces its own.
//!
//! The choice of the old entry is bounded work: see `fdb/evict.rs`.
//!
//! Static entries are set by hand or by a container runtime. They do not age, do not move, and have
//! room of their own ([`STATIC_ENTRIES_MAX`]).
//!
//! Counts are raised before an entry changes and lowered after, so that they may be too high for an
//! instant but never below zero, and limits hold strictly.

mod copy;
mod evict;
mod words;

pub use words::{BadAgeing, FdbCounters, FdbEntry, Flush, Learned, StaticFull};

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use arrayvec::ArrayVec;
use nat::Nanos;

use crate::limits::PORTS_MAX;
use crate::mac::Mac;
use crate::port::PortIndex;
use crate::table::{Apart, Entry, Insert, Probe, Table};

/// The ageing time of a new table in seconds (802.1D-2004 Table 7-5).
pub const AGEING_SECS_DEFAULT: u32 = 300;
/// The shortest ageing time in seconds (802.1D-2004 Table 7-5).
pub const AGEING_SECS_MIN: u32 = 10;
/// The longest ageing time in seconds (802.1D-2004 Table 7-5).
pub const AGEING_SECS_MAX: u32 = 1_000_000;

/// Static entries a table has room for beside the dynamic ones: one for each port.
pub const STATIC_ENTRIES_MAX: usize = PORTS_MAX;

/// How often an operation takes up a race that it lost to another worker.
const ATTEMPTS: usize = 8;
/// The same for the operator, who waits for a worker that was stopped between claim and publish.
const ATTEMPTS_PATIENT: usize = 1024;

/// Moves of one station followed within a second. A container that moves does so once; a loop
/// between two ports moves a station with every frame.
pub const MOVES_PER_SECOND: u16 = 64;

/// Entries whose buckets a second-level cache holds: 8,192 of 48 bytes (at half load) are 400 KB.
const CACHED_ENTRIES: usize = 8192;

const STATIC: u64 = 1 << 16;

#[derive(Debug, Default)]
struct Totals {
    learned: AtomicU64,
    moved: AtomicU64,
    damped: AtomicU64,
    evicted: AtomicU64,
    refused: AtomicU64,
    aged: AtomicU64,
}

/// The forwarding table; see the module's theory of operation.
///
/// All atomics here are relaxed: they are counts, hints and settings, none of which guards another
/// word. What must be ordered is ordered inside [`Table`].
#[derive(Debug)]
pub struct Fdb {
    table: Table,
    entries_max: usize,
    ageing_secs: AtomicU32,
    /// Dynamic entries a port may have.
    limits: Box<[AtomicU32]>,
    /// Dynamic entries of each port.
    counts: Box<[AtomicU32]>,
    /// The slot at which the search for an old entry of each port goes on.
    hands: Box<[AtomicUsize]>,
    dynamics: Apart<AtomicUsize>,
    statics: Apart<AtomicUsize>,
    sweep: Apart<AtomicUsize>,
    largest: Apart<AtomicUsize>,
    next_line: Apart<AtomicUsize>,
    /// The highest port that ever had an entry.
    highest: Apart<AtomicUsize>,
    totals: Apart<Totals>,
}

/// Where a station is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    port: PortIndex,
    is_static: bool,
}

impl Place {
    fn dynamic(port: PortIndex) -> Self {
        Self {
            port,
            is_static: false,
        }
    }

    fn of(entry: &Entry) -> Self {
        let [.., high, low] = entry.value.to_be_bytes();
        Self {
            port: PortIndex(u16::from_be_bytes([high, low])),
            is_static: entry.value & STATIC != 0,
        }
    }

    fn value(self) -> u64 {
        u64::from(self.port.0) | if self.is_static { STATIC } else { 0 }
    }
}

/// Why no entry can be added at once.
enum NoRoom {
    Table,
    Port,
}

/// How far an attempt to enter a station got.
enum Step {
    Done(Learned),
    /// Room was made, or another worker was faster: to be tried again.
    Again,
    /// Nothing may be replaced.
    Refused,
}

impl Step {
    fn again_if(room_was_made: bool) -> Self {
        if room_was_made {
            Self::Again
        } else {
            Self::Refused
        }
    }
}

impl Fdb {
    /// A table for `entries_max` dynamic entries (and [`STATIC_ENTRIES_MAX`] static ones), with
    /// all its memory taken now: 48 bytes an entry. `seed` keeps stations from choosing their
    /// buckets: a secret random number, or a fixed one in the simulator.
    #[must_use]
    pub fn new(entries_max: usize, seed: u64) -> Self {
        let counters = |value| (0..PORTS_MAX).map(|_| AtomicU32::new(value)).collect();
        Self {
            table: Table::new(entries_max + STATIC_ENTRIES_MAX, seed),
            entries_max,
            ageing_secs: AtomicU32::new(AGEING_SECS_DEFAULT),
            limits: counters(u32::MAX),
            counts: counters(0),
            hands: (0..PORTS_MAX).map(|_| AtomicUsize::new(0)).collect(),
            dynamics: Apart::default(),
            statics: Apart::default(),
            sweep: Apart::default(),
            largest: Apart::default(),
            next_line: Apart::default(),
            highest: Apart::default(),
            totals: Apart::default(),
        }
    }

    /// Notes that a frame from `mac` came in on `port`. The caller has seen to it that `mac` is a
    /// station's address ([`Mac::is_station`]).
    // Always in line: with tracing the pipeline is compiled twice, and it would be called instead.
    #[inline(always)]
    pub fn learn(&self, network: u16, mac: Mac, port: PortIndex, now: Nanos) -> Learned {
        debug_assert!(mac.is_station(), "{mac} is no station's address");
        let now_secs = seconds(now);
        let key = key_of(network, mac);
        let Some(mut entry) = self.table.get(key) else {
            return self.enter(key, port, now_secs);
        };
        let place = Place::of(&entry);
        if place.port == port && (place.is_static || !self.is_aged(&entry, now_secs)) {
            if now_secs > entry.stamp {
                self.table.set_meta(&mut entry, now_secs, 0);
            }
            return Learned::Refreshed;
        }
        self.enter(key, port, now_secs)
    }

    /// The port of a station, or `None` if it is unknown or was silent for the ageing time.
    #[must_use]
    #[inline]
    pub fn lookup(&self, network: u16, mac: Mac, now: Nanos) -> Option<PortIndex> {
        let entry = self.table.get(key_of(network, mac))?;
        (!self.is_aged(&entry, seconds(now))).then_some(Place::of(&entry).port)
    }

    /// True if look-ups wait for memory rather than for the processor: the entries in use no longer
    /// fit a cache. Then it pays to announce them, by [`announce`](Self::announce).
    #[must_use]
    #[inline]
    pub fn outgrows_cache(&self) -> bool {
        self.table.len() > CACHED_ENTRIES
    }

    /// Has the entries of `stations` fetched before they are looked up, so that the look-ups of a
    /// batch wait for memory together and not one after the other.
    pub fn announce<const N: usize>(&self, stations: impl Iterator<Item = (u16, Mac)>) {
        let probes: ArrayVec<Probe, N> = stations
            .take(N)
            .map(|(network, mac)| self.table.probe(key_of(network, mac)))
            .inspect(|&probe| self.table.prefetch_keys(probe))
            .collect();
        for probe in probes {
            self.table.prefetch_cell(probe);
        }
    }

    /// Removes aged entries from the next `slots` slots of the table and returns how many. Each
    /// call goes on where the last one ended, over all workers.
    pub fn age(&self, now: Nanos, slots: usize) -> usize {
        let now_secs = seconds(now);
        let start = self.sweep.0.fetch_add(slots, Relaxed);
        let all = self.table.slots();
        (0..slots.min(all))
            .filter_map(|step| self.table.at(start.wrapping_add(step) % all))
            .filter(|entry| self.is_aged(entry, now_secs))
            .filter(|entry| self.discard(entry, Some(&self.totals.0.aged)))
            .count()
    }

    /// Slots of the table: the work of one full round of [`age`](Self::age).
    #[must_use]
    pub fn slots(&self) -> usize {
        self.table.slots()
    }

    /// Ties a station to a port, whatever was known of it.
    ///
    /// # Errors
    /// [`StaticFull`] where there are [`STATIC_ENTRIES_MAX`] already.
    pub fn add_static(
        &self,
        network: u16,
        mac: Mac,
        port: PortIndex,
        now: Nanos,
    ) -> Result<(), StaticFull> {
        let key = key_of(network, mac);
        let is_static = |entry: Entry| Place::of(&entry).is_static;
        let is_known = self.table.get(key).is_some_and(is_static);
        if self.statics.0.fetch_add(1, Relaxed) >= STATIC_ENTRIES_MAX && !is_known {
            self.statics.0.fetch_sub(1, Relaxed);
            return Err(StaticFull);
        }
        let value = u64::from(port.0) | STATIC;
        for _ in 0..ATTEMPTS_PATIENT {
            if let Some(mut entry) = self.table.get(key) {
                let before = Place::of(&entry);
                if self.table.set_value(&mut entry, value) {
                    self.table.set_meta(&mut entry, seconds(now), 0);
                    self.uncount(before);
                    return Ok(());
                }
                continue;
            }
            match self.table.insert(key, value, seconds(now), 0) {
                Insert::Done => return Ok(()),
                Insert::Present => std::thread::yield_now(),
                Insert::Full => {
                    let rival = self.table.rivals(key).find(|e| !Place::of(e).is_static);
                    if let Some(rival) = rival {
                        self.discard(&rival, Some(&self.totals.0.evicted));
                    }
                }
            }
        }
        self.statics.0.fetch_sub(1, Relaxed);
        Err(StaticFull)
    }

    /// Removes the entry of a station, static or not, and returns its port.
    pub fn remove(&self, network: u16, mac: Mac) -> Option<PortIndex> {
        let entry = self.table.remove(key_of(network, mac))?;
        let place = Place::of(&entry);
        self.uncount(place);
        Some(place.port)
    }

    /// Removes entries and returns how many.
    pub fn flush(&self, what: Flush) -> usize {
        self.discard_all(|place| match what {
            Flush::All => true,
            Flush::Dynamic => !place.is_static,
            Flush::Port(port) => place.port == port && !place.is_static,
        })
    }

    /// Removes every entry of a port that is gone, static ones too, lifts its limit, and returns
    /// how many. To be called once no worker learns from the port any more.
    pub fn forget_port(&self, port: PortIndex) -> usize {
        self.set_port_limit(port, None);
        self.discard_all(|place| place.port == port)
    }

    /// Bounds the dynamic entries of a port. Entries above a lowered limit stay until they age.
    pub fn set_port_limit(&self, port: PortIndex, entries_max: Option<u32>) {
        if let Some(limit) = self.limits.get(port.index()) {
            limit.store(entries_max.unwrap_or(u32::MAX), Relaxed);
        }
    }

    /// Sets the ageing time; it holds for present entries too.
    ///
    /// # Errors
    /// [`BadAgeing`] outside [`AGEING_SECS_MIN`]`..=`[`AGEING_SECS_MAX`].
    pub fn set_ageing_secs(&self, secs: u32) -> Result<(), BadAgeing> {
        if !(AGEING_SECS_MIN..=AGEING_SECS_MAX).contains(&secs) {
            return Err(BadAgeing(secs));
        }
        self.ageing_secs.store(secs, Relaxed);
        Ok(())
    }

    /// The ageing time in seconds.
    #[must_use]
    pub fn ageing_secs(&self) -> u32 {
        self.ageing_secs.load(Relaxed)
    }

    /// Dynamic entries the table may hold.
    #[must_use]
    pub fn entries_max(&self) -> usize {
        self.entries_max
    }

    /// Dynamic entries in the table, aged ones not yet swept included.
    #[must_use]
    pub fn dynamic_entries(&self) -> usize {
        self.dynamics.0.load(Relaxed)
    }

    /// Static entries in the table.
    #[must_use]
    pub fn static_entries(&self) -> usize {
        self.statics.0.load(Relaxed)
    }

    /// Dynamic entries of a port, aged ones not yet swept included.
    #[must_use]
    pub fn port_entries(&self, port: PortIndex) -> u32 {
        load(&self.counts, port.index())
    }

    /// The entry of one station, as [`entries`](Self::entries) has it.
    #[must_use]
    pub fn entry(&self, network: u16, mac: Mac, now: Nanos) -> Option<FdbEntry> {
        let (entry, now_secs) = (self.table.get(key_of(network, mac))?, seconds(now));
        (!self.is_aged(&entry, now_secs)).then(|| shown(&entry, now_secs))
    }

    /// All entries that have not aged, sorted by network and address.
    #[must_use]
    pub fn entries(&self, now: Nanos) -> Vec<FdbEntry> {
        let now_secs = seconds(now);
        let mut entries: Vec<_> = self
            .table
            .iter()
            .filter(|entry| !self.is_aged(entry, now_secs))
            .map(|entry| shown(&entry, now_secs))
            .collect();
        entries.sort_unstable();
        entries
    }

    /// How many entries came and went since the start.
    #[must_use]
    pub fn counters(&self) -> FdbCounters {
        let totals = &self.totals.0;
        FdbCounters {
            learned: totals.learned.load(Relaxed),
            moved: totals.moved.load(Relaxed),
            damped: totals.damped.load(Relaxed),
            evicted: totals.evicted.load(Relaxed),
            refused: totals.refused.load(Relaxed),
            aged: totals.aged.load(Relaxed),
        }
    }

    /// Enters a station that is unknown, aged or elsewhere; makes room if need be.
    #[cold]
    fn enter(&self, key: u64, port: PortIndex, now_secs: u32) -> Learned {
        for _ in 0..ATTEMPTS {
            let step = match self.table.get(key) {
                None => self.add(key, port, now_secs),
                Some(entry) => self.take_over(entry, port, now_secs),
            };
            match step {
                Step::Done(learned) => return learned,
                Step::Again => {}
                Step::Refused => break,
            }
        }
        self.totals.0.refused.fetch_add(1, Relaxed);
        Learned::Full
    }

    /// Adds a station that has no entry.
    fn add(&self, key: u64, port: PortIndex, now_secs: u32) -> Step {
        match self.reserve(port, true) {
            Ok(()) => {}
            Err(NoRoom::Port) => return Step::again_if(self.evict_from(port)),
            Err(NoRoom::Table) => return Step::again_if(self.evict_fairly(port)),
        }
        let place = Place::dynamic(port);
        match self.table.insert(key, place.value(), now_secs, 0) {
            Insert::Done => {
                self.totals.0.learned.fetch_add(1, Relaxed);
                Step::Done(Learned::New)
            }
            Insert::Present => {
                self.uncount(place);
                Step::Again
            }
            Insert::Full => {
                self.uncount(place);
                Step::again_if(self.evict_rival(key, port))
            }
        }
    }

    /// Gives `port` an entry that is on another port, or aged.
    fn take_over(&self, mut entry: Entry, port: PortIndex, now_secs: u32) -> Step {
        let from = Place::of(&entry);
        if from.is_static {
            return Step::Done(if from.port == port {
                Learned::Refreshed
            } else {
                Learned::Locked { at: from.port }
            });
        }
        let was_aged = self.is_aged(&entry, now_secs);
        // A dynamic entry's tag counts its moves in the second of its stamp.
        let moves = if entry.stamp == now_secs {
            entry.tag
        } else {
            0
        };
        if from.port != port {
            if moves >= MOVES_PER_SECOND {
                self.totals.0.damped.fetch_add(1, Relaxed);
                return Step::Done(Learned::Damped { at: from.port });
            }
            if self.reserve(port, false).is_err() {
                return Step::again_if(self.evict_from(port));
            }
            let taken = self
                .table
                .set_value(&mut entry, Place::dynamic(port).value());
            // One count is one too high now: the old port's, or, where another worker was
            // faster, the new one's.
            lower(&self.counts, if taken { from.port } else { port });
            if !taken {
                return Step::Again;
            }
        }
        let moved = from.port != port && !was_aged;
        self.table
            .set_meta(&mut entry, now_secs, if moved { moves + 1 } else { 0 });
        let totals = &self.totals.0;
        Step::Done(if was_aged {
            totals.aged.fetch_add(1, Relaxed);
            totals.learned.fetch_add(1, Relaxed);
            Learned::New
        } else if from.port == port {
            Learned::Refreshed
        } else {
            totals.moved.fetch_add(1, Relaxed);
            Learned::Moved { from: from.port }
        })
    }

    /// Raises the counts for one more entry of `port`, new in the table or not.
    fn reserve(&self, port: PortIndex, is_new: bool) -> Result<(), NoRoom> {
        let Some(count) = self.counts.get(port.index()) else {
            return Err(NoRoom::Port);
        };
        let entries = count.fetch_add(1, Relaxed);
        if entries >= load(&self.limits, port.index()) {
            count.fetch_sub(1, Relaxed);
            return Err(NoRoom::Port);
        }
        if is_new && self.dynamics.0.fetch_add(1, Relaxed) >= self.entries_max {
            self.dynamics.0.fetch_sub(1, Relaxed);
            count.fetch_sub(1, Relaxed);
            return Err(NoRoom::Table);
        }
        if entries >= load(&self.counts, self.largest.0.load(Relaxed)) {
            self.largest.0.store(port.index(), Relaxed);
        }
        if port.index() > self.highest.0.load(Relaxed) {
            self.highest.0.fetch_max(port.index(), Relaxed);
        }
        Ok(())
    }

    /// Lowers the counts for an entry that is no more.
    fn uncount(&self, place: Place) {
        if place.is_static {
            self.statics.0.fetch_sub(1, Relaxed);
        } else {
            lower(&self.counts, place.port);
            self.dynamics.0.fetch_sub(1, Relaxed);
        }
    }

    fn discard_all(&self, unwanted: impl Fn(Place) -> bool) -> usize {
        self.table
            .iter()
            .filter(|entry| unwanted(Place::of(entry)) && self.discard(entry, None))
            .count()
    }

    /// Removes an entry if it is still the same, and counts that under `why`.
    fn discard(&self, entry: &Entry, why: Option<&AtomicU64>) -> bool {
        let gone = self.table.remove_entry(entry);
        if gone {
            self.uncount(Place::of(entry));
            if let Some(total) = why {
                total.fetch_add(1, Relaxed);
            }
        }
        gone
    }

    /// True for a dynamic entry older than the ageing time. Seconds are whole, so it may live up
    /// to one longer, never shorter.
    fn is_aged(&self, entry: &Entry, now_secs: u32) -> bool {
        now_secs.saturating_sub(entry.stamp) > self.ageing_secs() && !Place::of(entry).is_static
    }
}

fn shown(entry: &Entry, now_secs: u32) -> FdbEntry {
    let [high, low, ..] = entry.key.to_be_bytes();
    let place = Place::of(entry);
    FdbEntry {
        network: u16::from_be_bytes([high, low]),
        mac: Mac::from_u64(entry.key),
        port: place.port,
        age_secs: now_secs.saturating_sub(entry.stamp),
        is_static: place.is_static,
    }
}

fn key_of(network: u16, mac: Mac) -> u64 {
    (u64::from(network) << 48) | mac.to_u64()
}

fn seconds(now: Nanos) -> u32 {
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

fn load(words: &[AtomicU32], index: usize) -> u32 {
    words.get(index).map_or(0, |word| word.load(Relaxed))
}

fn lower(counts: &[AtomicU32], port: PortIndex) {
    if let Some(count) = counts.get(port.index()) {
        count.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
