//! A bounded hash table that all workers share without locks: the store under `fdb` and `neigh`.
//!
//! # Theory of operation
//!
//! A key (any `u64` but 0) may live in one of two buckets of eight slots, chosen by a keyed hash;
//! a new key goes to the emptier one. With two choices and a load of at most a half, both buckets
//! are practically never full (Mitzenmacher, "The Power of Two Choices", 2001), and when they are,
//! [`Insert::Full`] says so: nothing grows, moves or chains, there are no tombstones, and every
//! operation reads at most four cache lines. The hash is SipHash-1-3 under a secret seed, because
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

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

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

/// Keys, values and metas on a cache line each: lookups read the first two, and the store of a
/// stamp, once a second and entry, does not take the line of the keys from other cores.
#[repr(align(64))]
#[derive(Debug, Default)]
struct Bucket {
    keys: [AtomicU64; BUCKET_SLOTS],
    values: [AtomicU64; BUCKET_SLOTS],
    metas: [AtomicU64; BUCKET_SLOTS],
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
    seed: [u64; 2],
    live: Apart<AtomicUsize>,
}

impl Table {
    /// A table in which `entries_max` entries make a load of at most a half. It takes 48 bytes an
    /// entry, all of it now.
    #[must_use]
    pub fn new(entries_max: usize, seed: u64) -> Self {
        let buckets = entries_max.div_ceil(BUCKET_SLOTS / 2).max(2);
        Self {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            seed: [seed, siphash([seed, !seed], seed)],
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

    /// The entry of `key`.
    #[must_use]
    #[inline]
    pub fn get(&self, key: u64) -> Option<Entry> {
        if key == FREE {
            return None;
        }
        for home in self.homes(key) {
            let Some(bucket) = self.buckets.get(home) else {
                continue;
            };
            for (index, word) in bucket.keys.iter().enumerate() {
                // Relaxed: a first filter; `read` looks at the key again, in order.
                if word.load(Relaxed) == key
                    && let Some(entry) = read(bucket, home, index, key)
                {
                    return Some(entry);
                }
            }
        }
        None
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
        if free[1] > free[0] {
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
        let (Some(key_word), Some(value_word), Some(meta_word)) = (
            bucket.keys.get(index),
            bucket.values.get(index),
            bucket.metas.get(index),
        ) else {
            return Insert::Full;
        };
        if elsewhere {
            // Release: the next claimer inherits what this one saw of the generation.
            key_word.store(FREE, Release);
            return Insert::Present;
        }
        // Relaxed: nobody else writes a slot without a value; see the Acquire of the claim.
        let generation = generation_of(value_word.load(Relaxed));
        // Before the value, so that a remove that follows at once does not count below zero.
        self.live.0.fetch_add(1, Relaxed);
        // Relaxed: published by the store of the value. A store would do, as the exchange of a late
        // `set_meta` must come before it or fail, but loom knows that of exchanges only.
        meta_word.swap(pack_meta(stamp, generation, tag), Relaxed);
        // Release: pairs with the Acquire of the first load in `read`.
        value_word.store(pack_value(generation, value), Release);
        Insert::Done
    }

    /// Changes the value of `entry`, and `entry` with it. False if it has changed or gone.
    pub fn set_value(&self, entry: &mut Entry, value: u64) -> bool {
        let Some((bucket, index)) = self.place(entry.slot) else {
            return false;
        };
        let Some(word) = bucket.values.get(index).filter(|_| value <= VALUE_MAX) else {
            return false;
        };
        let new = pack_value(entry.generation, value);
        // AcqRel: stays in the release sequence of the publish and passes it on to readers.
        let done = word.compare_exchange(entry.word(), new, AcqRel, Relaxed);
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
        let Some(word) = bucket.metas.get(index) else {
            return false;
        };
        let new = pack_meta(stamp, entry.generation, tag);
        // Relaxed: the word carries all it says, its generation included, and guards no other.
        let done = word.compare_exchange(entry.meta(), new, Relaxed, Relaxed);
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
        let (Some(key), Some(value)) = (bucket.keys.get(index), bucket.values.get(index)) else {
            return false;
        };
        let none = pack_none(entry.generation.wrapping_add(1));
        // AcqRel: whoever sees the key store below must see this one too, and the winner of this
        // exchange owns the slot.
        if value
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
        let hash = siphash(self.seed, key);
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

/// Reads the entry of `key` from a slot whose key was seen to be `key`; `None` if it has changed.
#[inline]
fn read(bucket: &Bucket, home: usize, index: usize, key: u64) -> Option<Entry> {
    let value_word = bucket.values.get(index)?;
    // Acquire: pairs with the Release of `publish`, so that key and meta are those of its
    // generation or later ones, never earlier ones.
    let word = value_word.load(Acquire);
    let value = value_of(word)?;
    // Acquire: pairs with the Release of `remove_entry`: a later key shows the later generation.
    if bucket.keys.get(index)?.load(Acquire) != key {
        return None;
    }
    // Relaxed: it names its generation itself.
    let meta = bucket.metas.get(index)?.load(Relaxed);
    let (stamp, generation, tag) = unpack_meta(meta);
    // Relaxed: kept behind the key load by that one's Acquire.
    let again = generation_of(value_word.load(Relaxed));
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

/// SipHash-1-3 of one word (Aumasson and Bernstein, 2012; the hash of Rust's own `HashMap`).
fn siphash(seed: [u64; 2], word: u64) -> u64 {
    /// The length of the message, eight bytes, ends it (SipHash 2.2).
    const LENGTH: u64 = 8 << 56;
    let mut v = [
        seed[0] ^ 0x736f_6d65_7073_6575,
        seed[1] ^ 0x646f_7261_6e64_6f6d,
        seed[0] ^ 0x6c79_6765_6e65_7261,
        seed[1] ^ 0x7465_6462_7974_6573,
    ];
    for block in [word, LENGTH] {
        v[3] ^= block;
        v = sip_round(v);
        v[0] ^= block;
    }
    v[2] ^= 0xff;
    for _ in 0..3 {
        v = sip_round(v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline]
fn sip_round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[cfg(test)]
#[cfg(loom)]
mod interleavings;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
