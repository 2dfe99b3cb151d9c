//! A bounded hash table that all workers share without locks: the store under `fdb` and `neigh`.
//!
//! # Theory of operation
//!
//! A key (any `u64` but 0) may live in one of two buckets of eight slots, chosen by a keyed hash;
//! a new key goes to the emptier one. With two choices and a load of at most a half, both buckets
//! are practically never full (Mitzenmacher, "The Power of Two Choices", 2001), and when they are,
//! [`Insert::Full`] says so: nothing grows, moves or chains, there are no tombstones, and every
//! operation reads at most four cache lines; most look-ups read two, as the first bucket is
//! preferred while it has room. The hash is keyed by a secret of this boot (`mix`), because
//! stations choose their own addresses and must not be able to choose their buckets.
//!
//! A slot is three words:
//!
//! ```text
//! key     the key, or 0: the slot is free
//! value   generation (16 bits) | value + 1 (48 bits), or 0 there: no value
//! meta    stamp in seconds (32 bits) | generation (16 bits) | tag (16 bits)
//! ```
//!
//! and passes through four states:
//!
//! ```text
//!  free(g)   key 0, no value     --claim: CAS key 0 -> K-------------->  claimed(g)
//!  claimed   key K, no value     --publish: store meta, then value---->  live(g)
//!                                --or back off: store key 0----------->  free(g)
//!  live(g)   key K, value V      --update: CAS value, or CAS meta----->  live(g)
//!                                --remove: CAS value -> none, g + 1--->  dying(g + 1)
//!  dying     key K, no value     --store key 0------------------------>  free(g + 1)
//! ```
//!
//! A slot without a value is written only by the thread that claimed it or took its value away.
//!
//! **No reader gets the value of another key.** It reads value, key, value. A first value of
//! generation g was read from a publish (Release) or an update of it, so the key store that came
//! before is visible (Acquire): the key read is K, or one stored later. Later means after some
//! thread's remove, whose key store (Release) pairs with this key load (Acquire), so the second
//! read of the value then sees generation g + 1 or later, and the reader calls it a miss. The same
//! generation twice means that the key read in between was the key of that generation.
//!
//! **No writer changes another key's entry.** Updates are compare-exchanges of the whole word,
//! generation included, so they fail once the slot was reused. (A generation wraps after 65,536
//! reuses of one slot. To be fooled, a thread would have to be stopped between two adjacent loads
//! for exactly that many; at the highest rate a flood reaches one slot, some 100 a second when
//! 10^6 new addresses a second fall on 16,384 slots, that is eleven minutes to the entry.)
//!
//! **No key lives twice.** A claimer looks through both buckets after its claim and backs off if
//! the key is elsewhere. A sequentially consistent fence stands between claim and look, so of two
//! claimers the one whose fence is later sees the other; if both see each other, both back off and
//! the key is missed until it is offered again.
//!
//! So the worst that a race does is a miss, which for a switch means one flooded frame. All this is
//! checked for every interleaving of a few operations, and every order the memory model allows, in
//! `table/interleavings.rs`.

mod copy;

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
#[cfg(not(loom))]
mod rows;

pub use rows::Row;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use crate::port::sys::huge::prefer_huge_pages;
use crate::port::sys::prefetch::prefetch;

use Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// Slots of a bucket: eight keys fill one cache line. (Loom tries every interleaving: two do.)
const BUCKET_SLOTS: usize = if cfg!(loom) { 2 } else { 8 };

/// The key that marks a free slot; it cannot be stored.
const FREE: u64 = 0;

const VALUE_BITS: u32 = 48;
const VALUE_MASK: u64 = (1 << VALUE_BITS) - 1;

/// The largest value an entry can hold.
pub const VALUE_MAX: u64 = VALUE_MASK - 1;

/// How often [`Table::remove`] takes up a race it lost before it gives up.
const REMOVE_ATTEMPTS: usize = 64;

/// A key goes to its first bucket while that has more free slots than this, and to the emptier one
/// after: so most lookups end in the first, and both fill up alike.
const FIRST_CHOICE_FREE: usize = BUCKET_SLOTS * 3 / 8;

/// The keys on one cache line, then value and meta of four entries on a line each: a lookup that
/// finds its key in the first bucket reads two lines, and the store of a stamp, once a second and
/// entry, does not take the line of the keys from other cores.
#[repr(align(64))]
#[derive(Debug, Default)]
struct Bucket {
    keys: [AtomicU64; BUCKET_SLOTS],
    cells: [Cell; BUCKET_SLOTS],
}

/// What a key leads to.
#[derive(Debug, Default)]
struct Cell {
    value: AtomicU64,
    meta: AtomicU64,
}

/// A key and its two buckets: to be worked out once where a key is needed more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    key: u64,
    homes: [usize; 2],
}

/// One entry as it was when read; changes to it take hold only if it is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The key; never 0.
    pub key: u64,
    /// The value, at most [`VALUE_MAX`].
    pub value: u64,
    /// The second it was last refreshed.
    pub stamp: u32,
    /// A small state of the owner's.
    pub tag: u16,
    slot: usize,
    generation: u16,
}

impl Entry {
    fn word(&self) -> u64 {
        pack_value(self.generation, self.value)
    }

    fn meta(&self) -> u64 {
        pack_meta(self.stamp, self.generation, self.tag)
    }
}

/// What [`Table::insert`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Insert {
    /// The entry is in the table.
    Done,
    /// The key is there already, or another thread is about to insert or remove it.
    Present,
    /// Both buckets of the key are full.
    Full,
}

/// A word that many threads write, kept off the cache lines of what they only read (two lines:
/// processors fetch them in pairs).
#[repr(align(128))]
#[derive(Debug, Default)]
pub(crate) struct Apart<T>(pub(crate) T);

/// A hash table of fixed size from `u64` to 48-bit values; see the module's theory of operation.
#[derive(Debug)]
pub struct Table {
    buckets: Box<[Bucket]>,
    secret: Secret,
    live: Apart<AtomicUsize>,
}

impl Table {
    /// A table in which `entries_max` entries make a load of at most a half. It takes 48 bytes an
    /// entry, all of it now.
    #[must_use]
    pub fn new(entries_max: usize, seed: u64) -> Self {
        let count = entries_max.div_ceil(BUCKET_SLOTS / 2).max(2);
        Self::with_buckets(count, Secret::new(seed))
    }

    fn with_buckets(count: usize, secret: Secret) -> Self {
        let mut buckets = Vec::with_capacity(count);
        prefer_huge_pages(buckets.spare_capacity_mut());
        buckets.resize_with(count, Bucket::default);
        Self {
            buckets: buckets.into_boxed_slice(),
            secret,
            live: Apart::default(),
        }
    }

    /// Entries in the table now.
    #[must_use]
    pub fn len(&self) -> usize {
        // Relaxed: a count for people and limits, it orders nothing.
        self.live.0.load(Relaxed)
    }

    /// True for a table without entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Slots of the table, free ones included: the range of [`at`](Self::at).
    #[must_use]
    pub fn slots(&self) -> usize {
        self.buckets.len() * BUCKET_SLOTS
    }

    /// Where `key` is, if it is there.
    #[must_use]
    #[inline]
    pub fn probe(&self, key: u64) -> Probe {
        Probe {
            key,
            homes: self.homes(key),
        }
    }

    /// The entry of `key`.
    #[must_use]
    #[inline]
    pub fn get(&self, key: u64) -> Option<Entry> {
        self.get_at(self.probe(key))
    }

    /// The entry of a key whose buckets are known.
    #[must_use]
    #[inline]
    pub fn get_at(&self, probe: Probe) -> Option<Entry> {
        let Probe { key, homes } = probe;
        if key == FREE {
            return None;
        }
        homes.into_iter().find_map(|home| {
            let bucket = self.buckets.get(home)?;
            let mut hits = bucket.hits(key);
            while hits != 0 {
                let index = hits.trailing_zeros() as usize;
                if let Some(entry) = read(bucket, home, index, key) {
                    return Some(entry);
                }
                hits &= hits - 1;
            }
            None
        })
    }

    /// Has the processor fetch the keys among which that of `probe` most probably is. Look-ups of
    /// many keys in a table larger than the cache cost a fraction if all are announced so before
    /// the first is made, then [`prefetch_cell`](Self::prefetch_cell), then the look-ups: the
    /// fetches overlap.
    #[inline]
    pub fn prefetch_keys(&self, probe: Probe) {
        if let Some(bucket) = self.buckets.get(probe.homes[0]) {
            prefetch(&bucket.keys);
        }
    }

    /// The second step: the value behind the key, or the keys of the second bucket.
    #[inline]
    pub fn prefetch_cell(&self, probe: Probe) {
        let [first, second] = probe.homes.map(|home| self.buckets.get(home));
        let hits = first.map_or(0, |bucket| bucket.hits(probe.key));
        let cell = first.and_then(|bucket| bucket.cells.get(hits.trailing_zeros() as usize));
        if let Some(cell) = cell {
            prefetch(cell);
        } else if let Some(second) = second {
            prefetch(&second.keys);
        }
    }

    /// The entry in one slot; see [`slots`](Self::slots).
    #[must_use]
    pub fn at(&self, slot: usize) -> Option<Entry> {
        let home = slot / BUCKET_SLOTS;
        let bucket = self.buckets.get(home)?;
        let index = slot % BUCKET_SLOTS;
        // Relaxed: as in `get`.
        let key = bucket.keys.get(index)?.load(Relaxed);
        if key == FREE {
            return None;
        }
        read(bucket, home, index, key)
    }

    /// All entries, each as it is when the iterator comes to it. One that comes, goes or moves
    /// meanwhile may be left out.
    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        (0..self.slots()).filter_map(|slot| self.at(slot))
    }

    /// The entries in the two buckets of `key`: those it competes with for a slot.
    pub fn rivals(&self, key: u64) -> impl Iterator<Item = Entry> {
        let slots = |home: usize| home * BUCKET_SLOTS..(home + 1) * BUCKET_SLOTS;
        let homes = self.homes(key).map(slots);
        homes.into_iter().flatten().filter_map(|slot| self.at(slot))
    }

    /// Adds an entry. `key` must not be 0 and `value` not exceed [`VALUE_MAX`]; the table takes no
    /// others.
    pub fn insert(&self, key: u64, value: u64, stamp: u32, tag: u16) -> Insert {
        if key == FREE || value > VALUE_MAX {
            debug_assert!(false, "key {key:#x} or value {value:#x} out of range");
            return Insert::Full;
        }
        let mut homes = self.homes(key);
        let mut free = [0; 2];
        for (home, free) in homes.iter().zip(&mut free) {
            for word in self.keys(*home) {
                // Relaxed: a look that saves a claim; the look that counts comes after the claim.
                match word.load(Relaxed) {
                    FREE => *free += 1,
                    found if found == key => return Insert::Present,
                    _ => {}
                }
            }
        }
        if free[0] <= FIRST_CHOICE_FREE && free[1] > free[0] {
            homes.swap(0, 1);
        }
        for home in homes {
            for (index, word) in self.keys(home).iter().enumerate() {
                // Acquire: pairs with the key store of whoever freed the slot, so that `publish`
                // sees the generation that one left.
                if word.load(Relaxed) == FREE
                    && word.compare_exchange(FREE, key, Acquire, Relaxed).is_ok()
                {
                    return self.publish(home, index, key, value, stamp, tag);
                }
            }
        }
        Insert::Full
    }

    /// Gives a claimed slot its value, or gives it back if the key has another slot.
    fn publish(
        &self,
        home: usize,
        index: usize,
        key: u64,
        value: u64,
        stamp: u32,
        tag: u16,
    ) -> Insert {
        let Some(bucket) = self.buckets.get(home) else {
            return Insert::Full;
        };
        // SeqCst: pairs with itself in another claimer; see "no key lives twice".
        fence(SeqCst);
        let elsewhere = self.homes(key).into_iter().any(|other| {
            self.keys(other).iter().enumerate().any(|(at, word)| {
                // Relaxed: after the fence.
                (other, at) != (home, index) && word.load(Relaxed) == key
            })
        });
        let (Some(key_word), Some(cell)) = (bucket.keys.get(index), bucket.cells.get(index)) else {
            return Insert::Full;
        };
        if elsewhere {
            // Release: the next claimer inherits what this one saw of the generation.
            key_word.store(FREE, Release);
            return Insert::Present;
        }
        // Relaxed: nobody else writes a slot without a value; see the Acquire of the claim.
        let generation = generation_of(cell.value.load(Relaxed));
        // Before the value, so that a remove that follows at once does not count below zero.
        self.live.0.fetch_add(1, Relaxed);
        // Relaxed: published by the store of the value. A store would do, as the exchange of a late
        // `set_meta` must come before it or fail, but loom knows that of exchanges only.
        cell.meta.swap(pack_meta(stamp, generation, tag), Relaxed);
        // Release: pairs with the Acquire of the first load in `read`.
        cell.value.store(pack_value(generation, value), Release);
        Insert::Done
    }

    /// Changes the value of `entry`, and `entry` with it. False if it has changed or gone.
    pub fn set_value(&self, entry: &mut Entry, value: u64) -> bool {
        let Some((bucket, index)) = self.place(entry.slot) else {
            return false;
        };
        let Some(cell) = bucket.cells.get(index).filter(|_| value <= VALUE_MAX) else {
            return false;
        };
        let new = pack_value(entry.generation, value);
        // AcqRel: stays in the release sequence of the publish and passes it on to readers.
        let done = cell
            .value
            .compare_exchange(entry.word(), new, AcqRel, Relaxed);
        if done.is_ok() {
            entry.value = value;
        }
        done.is_ok()
    }

    /// Changes stamp and tag of `entry`, and `entry` with it; writes nothing if they are the same.
    /// False if another thread changed them first, or the entry has gone.
    #[inline]
    pub fn set_meta(&self, entry: &mut Entry, stamp: u32, tag: u16) -> bool {
        if (entry.stamp, entry.tag) == (stamp, tag) {
            return true;
        }
        let Some((bucket, index)) = self.place(entry.slot) else {
            return false;
        };
        let Some(cell) = bucket.cells.get(index) else {
            return false;
        };
        let new = pack_meta(stamp, entry.generation, tag);
        // Relaxed: the word carries all it says, its generation included, and guards no other.
        let done = cell
            .meta
            .compare_exchange(entry.meta(), new, Relaxed, Relaxed);
        if done.is_ok() {
            (entry.stamp, entry.tag) = (stamp, tag);
        }
        done.is_ok()
    }

    /// Removes `entry`. False if its value has changed or it has gone. (A stamp set by another
    /// thread in this instant does not save it: it is missed, and offered again.)
    pub fn remove_entry(&self, entry: &Entry) -> bool {
        let Some((bucket, index)) = self.place(entry.slot) else {
            return false;
        };
        let (Some(key), Some(cell)) = (bucket.keys.get(index), bucket.cells.get(index)) else {
            return false;
        };
        let none = pack_none(entry.generation.wrapping_add(1));
        // AcqRel: whoever sees the key store below must see this one too, and the winner of this
        // exchange owns the slot.
        if cell
            .value
            .compare_exchange(entry.word(), none, AcqRel, Relaxed)
            .is_err()
        {
            return false;
        }
        // Release: pairs with the Acquire of the key load in `read` and of the claim in `insert`.
        key.store(FREE, Release);
        self.live.0.fetch_sub(1, Relaxed);
        true
    }

    /// Removes the entry of `key`, whatever its value, and returns it.
    pub fn remove(&self, key: u64) -> Option<Entry> {
        self.remove_if(key, |_| true)
    }

    /// Removes the entry of `key` if `agreed` says so of what is removed, and returns it.
    pub fn remove_if(&self, key: u64, agreed: impl Fn(&Entry) -> bool) -> Option<Entry> {
        for _ in 0..REMOVE_ATTEMPTS {
            let entry = self.get(key).filter(&agreed)?;
            if self.remove_entry(&entry) {
                return Some(entry);
            }
        }
        None
    }

    /// The two buckets of a key; always two different ones.
    fn homes(&self, key: u64) -> [usize; 2] {
        let hash = mix(self.secret, key);
        let first = reduce(hash & 0xffff_ffff, self.buckets.len());
        let second = reduce(hash >> 32, self.buckets.len());
        if first != second {
            [first, second]
        } else if first + 1 < self.buckets.len() {
            [first, first + 1]
        } else {
            [first, 0]
        }
    }

    fn keys(&self, home: usize) -> &[AtomicU64] {
        self.buckets.get(home).map_or(&[], |bucket| &bucket.keys)
    }

    fn place(&self, slot: usize) -> Option<(&Bucket, usize)> {
        let bucket = self.buckets.get(slot / BUCKET_SLOTS)?;
        Some((bucket, slot % BUCKET_SLOTS))
    }
}

impl Bucket {
    /// A bit for each slot that holds `key`. All eight are looked at: a loop that ends at the first
    /// hit costs a branch that is predicted wrong for most keys.
    #[inline]
    fn hits(&self, key: u64) -> u32 {
        let slots = self.keys.iter().enumerate();
        slots.fold(0, |hits, (index, word)| {
            // Relaxed: a first filter; `read` looks at the key again, in order.
            hits | u32::from(word.load(Relaxed) == key) << index
        })
    }
}

/// Reads the entry of `key` from a slot whose key was seen to be `key`; `None` if it has changed.
#[inline]
fn read(bucket: &Bucket, home: usize, index: usize, key: u64) -> Option<Entry> {
    let cell = bucket.cells.get(index)?;
    // Acquire: pairs with the Release of `publish`, so that key and meta are those of its
    // generation or later ones, never earlier ones.
    let word = cell.value.load(Acquire);
    let value = value_of(word)?;
    // Acquire: pairs with the Release of `remove_entry`: a later key shows the later generation.
    if bucket.keys.get(index)?.load(Acquire) != key {
        return None;
    }
    // Relaxed: it names its generation itself.
    let meta = cell.meta.load(Relaxed);
    let (stamp, generation, tag) = unpack_meta(meta);
    // Relaxed: kept behind the key load by that one's Acquire.
    let again = generation_of(cell.value.load(Relaxed));
    let same = generation == generation_of(word) && again == generation;
    same.then_some(Entry {
        key,
        value,
        stamp,
        tag,
        slot: home * BUCKET_SLOTS + index,
        generation,
    })
}

fn pack_value(generation: u16, value: u64) -> u64 {
    (u64::from(generation) << VALUE_BITS) | (value + 1)
}

fn pack_none(generation: u16) -> u64 {
    u64::from(generation) << VALUE_BITS
}

fn value_of(word: u64) -> Option<u64> {
    (word & VALUE_MASK).checked_sub(1)
}

fn generation_of(word: u64) -> u16 {
    let [high, low, ..] = word.to_be_bytes();
    u16::from_be_bytes([high, low])
}

fn pack_meta(stamp: u32, generation: u16, tag: u16) -> u64 {
    (u64::from(stamp) << 32) | (u64::from(generation) << 16) | u64::from(tag)
}

fn unpack_meta(meta: u64) -> (u32, u16, u16) {
    let [a, b, c, d, e, f, g, h] = meta.to_be_bytes();
    (
        u32::from_be_bytes([a, b, c, d]),
        u16::from_be_bytes([e, f]),
        u16::from_be_bytes([g, h]),
    )
}

/// Maps 32 random bits to `0..count` without a division (Lemire, 2016).
fn reduce(bits: u64, count: usize) -> usize {
    ((u128::from(bits) * count as u128) >> 32) as usize
}

/// The key of the hash.
#[derive(Debug, Clone, Copy)]
struct Secret([u64; 4]);

impl Secret {
    /// Spreads a seed over the words (SplitMix64: Steele, Lea and Flood, 2014).
    fn new(seed: u64) -> Self {
        let mut state = seed;
        Self([(); 4].map(|()| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            // Odd, so that no multiplication by it loses a bit.
            (z ^ (z >> 31)) | 1
        }))
    }
}

/// A keyed hash of one word: twice a full multiplication by secret words, both halves folded (as in
/// wyhash and foldhash). Six instructions where SipHash-1-3 takes eighty, twice a frame. It is no
/// cryptographic function, but a station sees none of its output; and who found addresses of one
/// bucket all the same could replace the sixteen stations there and no others, each of which is
/// then flooded to until it speaks again.
#[inline]
fn mix(secret: Secret, word: u64) -> u64 {
    let Secret([a, b, c, d]) = secret;
    fold(fold(word ^ a, b) ^ c, d)
}

/// The product's upper half on its lower half.
#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    #[expect(clippy::cast_possible_truncation, reason = "each half by itself")]
    let halves = (product as u64, (product >> 64) as u64);
    halves.0 ^ halves.1
}

#[cfg(test)]
#[cfg(loom)]
mod interleavings;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
