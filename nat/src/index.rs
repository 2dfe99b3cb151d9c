//! A fixed hash index: from a keyed hash to the number of a slot.
//!
//! # Theory of operation
//! The table is an array of buckets, each one cache line: eight tags (part of the hash) and eight
//! values. An entry may lie in either of two buckets, so a lookup touches at most two lines, and
//! most end in the first, which is taken while it has room. Nothing is ever resized.
//!
//! The sum of an entry's two buckets follows from its tag, so from either the other is found
//! without the key (partial-key cuckoo hashing: Fan et al., MemC3, NSDI 2013). When both buckets
//! of a new entry are full, one of their sixteen entries moves to its own other bucket; one step,
//! so an insertion touches eighteen lines at the very worst. A table is loaded to three quarters
//! at most, where one move is practically always enough: the tests fill tables to their promise
//! and go on replacing entries. If it ever is not, the insertion is refused and counted.
//!
//! The index does not know keys: the caller's closure compares the candidate's. Its memory comes
//! zeroed from the allocator, so pages that no entry has touched cost nothing yet.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::slab::at;

/// Entries per bucket: eight tags and eight values of four bytes make one 64-byte line.
const WAYS: usize = 8;
/// Entries per bucket when the table holds all that it promised to: a load of three quarters.
const LOADED_WAYS: usize = 6;
/// Buckets beyond that, because in a small table a few entries more fall on one bucket.
const SPARE_BUCKETS: usize = 4;
const EMPTY: u32 = 0;
const LINE_BYTES: usize = 64;
const BUCKET_WORDS: usize = 2 * WAYS;

/// Eight tags, and the eight values that belong to them.
type Bucket = [[u32; WAYS]; 2];

/// Maps hashes to values; see the module's theory of operation.
pub(crate) struct Index {
    /// The buckets, and beside them what it takes to have the first begin a cache line.
    words: Box<[u32]>,
    /// Words before the first bucket.
    skip: usize,
    /// How many buckets there are: an even number.
    buckets: u32,
    trial: Option<Box<Trial>>,
}

/// What was laid aside, and the buckets that are others since; as in `cells`.
struct Trial {
    laid_aside: Box<[u32]>,
    changed: BTreeMap<u32, Bucket>,
}

impl Index {
    /// Takes memory for `entries` entries.
    pub(crate) fn new(entries: usize) -> Self {
        let buckets = (entries.div_ceil(LOADED_WAYS) + SPARE_BUCKETS).next_multiple_of(2);
        // One bucket more than needed: the allocator aligns words, not lines.
        let words = vec![EMPTY; (buckets + 1) * BUCKET_WORDS].into_boxed_slice();
        Self {
            skip: words.as_ptr().align_offset(LINE_BYTES).min(BUCKET_WORDS),
            words,
            buckets: u32::try_from(buckets).unwrap_or(u32::MAX),
            trial: None,
        }
    }

    /// Returns the bytes taken.
    pub(crate) fn memory(&self) -> usize {
        size_of_val::<[u32]>(&self.words)
    }

    /// Returns where the bytes lie.
    pub(crate) fn room(&self) -> Range<*const u8> {
        let Range { start, end } = self.words.as_ptr_range();
        start.cast()..end.cast()
    }

    /// Returns the first value under this hash that `matches` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut matches: impl FnMut(u32) -> bool) -> Option<u32> {
        let (first, tag) = self.first(hash);
        let found = self.find_in(first, tag, &mut matches);
        found.or_else(|| self.find_in(self.other(first, tag), tag, &mut matches))
    }

    /// Returns where the bucket lies that a hash's entry is in most probably.
    #[inline]
    pub(crate) fn place(&self, hash: u64) -> *const u8 {
        std::ptr::from_ref(self.bucket(self.first(hash).0)).cast()
    }

    /// Returns where the bucket lies that a hash's entry is in if it is not in the first.
    #[inline]
    pub(crate) fn other_place(&self, hash: u64) -> *const u8 {
        let (first, tag) = self.first(hash);
        std::ptr::from_ref(self.bucket(self.other(first, tag))).cast()
    }

    /// Reads a word of the bucket that a hash's entry is in most probably: a load that nothing
    /// waits for, so that many can be under way at once.
    #[inline]
    pub(crate) fn touch(&self, hash: u64) -> u32 {
        self.bucket(self.first(hash).0)[0][0]
    }

    /// Returns a value with the hash's tag in the first of its buckets, whatever its key is.
    #[inline]
    pub(crate) fn candidate(&self, hash: u64) -> Option<u32> {
        let (first, tag) = self.first(hash);
        self.find_in(first, tag, &mut |_| true)
    }

    /// Adds an entry; returns `false`, changing nothing, if there is no place for it.
    #[must_use]
    pub(crate) fn insert(&mut self, hash: u64, value: u32) -> bool {
        let (first, tag) = self.first(hash);
        if let Some(way) = free_way(self.bucket(first)) {
            self.put(first, way, (tag, value));
            return true;
        }
        let second = self.other(first, tag);
        let free = free_way(self.bucket(second)).map(|way| (second, way));
        let Some((place, way)) = free
            .or_else(|| self.make_room(first))
            .or_else(|| self.make_room(second))
        else {
            return false;
        };
        self.put(place, way, (tag, value));
        true
    }

    /// Removes the entry of this hash and value, if there is one.
    pub(crate) fn remove(&mut self, hash: u64, value: u32) {
        let (first, tag) = self.first(hash);
        if !self.remove_from(first, (tag, value)) {
            self.remove_from(self.other(first, tag), (tag, value));
        }
    }

    /// Removes an entry from a bucket; returns whether it was there.
    #[inline]
    fn remove_from(&mut self, place: u32, (tag, value): (u32, u32)) -> bool {
        let [tags, values] = self.bucket(place);
        let mut hits = hits(tags, tag);
        while let Some(way) = first_way(hits) {
            if values[way % WAYS] == value {
                self.put(place, way, (EMPTY, 0));
                return true;
            }
            hits &= hits - 1;
        }
        false
    }

    /// Moves one entry of a full bucket to its other bucket; returns the place that came free.
    #[cold]
    fn make_room(&mut self, place: u32) -> Option<(u32, usize)> {
        let [tags, values] = *self.bucket(place);
        let (way, other, free) = (0..WAYS).find_map(|way| {
            let other = self.other(place, tags[way]);
            Some((way, other, free_way(self.bucket(other))?))
        })?;
        self.put(other, free, (tags[way], values[way]));
        Some((place, way))
    }

    #[inline]
    fn find_in(&self, place: u32, tag: u32, matches: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        let [tags, values] = self.bucket(place);
        let mut hits = hits(tags, tag);
        while let Some(way) = first_way(hits) {
            let value = values[way % WAYS];
            if matches(value) {
                return Some(value);
            }
            hits &= hits - 1;
        }
        None
    }

    /// Returns the first bucket and the tag of a hash.
    #[inline]
    fn first(&self, hash: u64) -> (u32, u32) {
        let low = (hash & 0xffff_ffff) as u32;
        let high = (hash >> 32) as u32;
        (reduce(low, self.buckets), high | 1)
    }

    /// Returns the other bucket of an entry: their sum, modulo the number of buckets, is a number
    /// that follows from the tag. It is odd, so the two differ.
    #[inline]
    fn other(&self, place: u32, tag: u32) -> u32 {
        let sum = reduce(tag, self.buckets / 2) * 2 + 1;
        if sum >= place {
            sum - place
        } else {
            sum + (self.buckets - place)
        }
    }

    #[inline]
    fn bucket(&self, place: u32) -> &Bucket {
        match bucket(&self.words, self.skip, place) {
            Some(bucket) => bucket,
            None => self.tried(place),
        }
    }

    #[cold]
    fn tried(&self, place: u32) -> &Bucket {
        const NO_BUCKET: &Bucket = &[[EMPTY; WAYS]; 2];
        let found = self.trial.as_ref().and_then(|trial| {
            let laid_aside = || bucket(&trial.laid_aside, self.skip, place);
            trial.changed.get(&place).or_else(laid_aside)
        });
        found.unwrap_or(NO_BUCKET)
    }

    #[inline]
    fn put(&mut self, place: u32, way: usize, entry: (u32, u32)) {
        let from = word_of(self.skip, place);
        let words = self.words.get_mut(from..).unwrap_or_default();
        match words.first_chunk_mut::<BUCKET_WORDS>() {
            Some(words) => {
                let way = way % WAYS;
                (words[way], words[WAYS + way]) = entry;
            }
            None => self.try_put(place, way, entry),
        }
    }

    #[cold]
    fn try_put(&mut self, place: u32, way: usize, entry: (u32, u32)) {
        let mut bucket = *self.bucket(place);
        let [tags, values] = &mut bucket;
        (tags[way % WAYS], values[way % WAYS]) = entry;
        if let Some(trial) = &mut self.trial {
            trial.changed.insert(place, bucket);
        }
    }

    /// Lays the buckets aside; the twin that is returned behaves as if it had them.
    pub(crate) fn lay_aside(&mut self) -> Self {
        Self {
            words: Box::default(),
            skip: self.skip,
            buckets: self.buckets,
            trial: Some(Box::new(Trial {
                laid_aside: std::mem::take(&mut self.words),
                changed: BTreeMap::new(),
            })),
        }
    }

    /// Takes back what was laid aside for `twin`, as it was.
    pub(crate) fn take_back(&mut self, twin: Self) {
        if let Some(trial) = twin.trial {
            self.words = trial.laid_aside;
        }
    }
}

/// Returns the first word of a bucket.
#[inline]
fn word_of(skip: usize, place: u32) -> usize {
    skip + at(place) * BUCKET_WORDS
}

#[inline]
fn bucket(words: &[u32], skip: usize, place: u32) -> Option<&Bucket> {
    let words = words.get(word_of(skip, place)..)?;
    let words = words.first_chunk::<BUCKET_WORDS>()?;
    words.as_chunks::<WAYS>().0.first_chunk()
}

/// Maps 32 random bits to a number below `range` without a division (Lemire, "Fast Random Integer
/// Generation in an Interval", 2019).
#[inline]
fn reduce(bits: u32, range: u32) -> u32 {
    ((u64::from(bits) * u64::from(range)) >> 32) as u32
}

/// Returns a bit for each way that holds this word: the second lowest for the first of them, since
/// with the lowest the compiler does not find the two vector compares that this is. A loop that
/// stops at the first hit costs a mispredicted branch for most packets.
#[inline]
fn hits(words: &[u32; WAYS], word: u32) -> u32 {
    let bit = |way: usize| u32::from(words[way] == word) << (way + 1);
    (0..WAYS).fold(0, |hits, way| hits | bit(way))
}

/// Returns the first way that is hit.
#[inline]
fn first_way(hits: u32) -> Option<usize> {
    (hits != 0).then_some(hits.trailing_zeros() as usize - 1)
}

#[inline]
fn free_way([tags, _]: &Bucket) -> Option<usize> {
    first_way(hits(tags, EMPTY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::HashKey;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn hash(seed: u64, value: u32) -> u64 {
        HashKey::new(seed, 0).hash(u64::from(value), 0)
    }

    #[test]
    fn a_bucket_is_one_cache_line() {
        assert_eq!(size_of::<Bucket>(), LINE_BYTES);
        for entries in [1, 100, 10_000, 100_000] {
            let index = Index::new(entries);
            for place in [0, index.buckets - 1] {
                assert_eq!(index.bucket(place).as_ptr().align_offset(LINE_BYTES), 0);
            }
        }
    }

    #[test]
    fn a4_3_an_entry_takes_eleven_bytes() {
        assert!(Index::new(2_000_000).memory() < 2_000_000 * 11);
    }

    #[test]
    fn an_entry_has_two_buckets_and_each_leads_to_the_other() {
        for entries in [1, 7, 60, 61, 1_000, 40_000] {
            let index = Index::new(entries);
            for value in 0..5_000 {
                let (first, tag) = index.first(hash(1, value));
                let second = index.other(first, tag);
                assert!(first < index.buckets && second < index.buckets);
                assert_ne!(first, second);
                assert_eq!(index.other(second, tag), first);
            }
        }
    }

    /// Fills a table to its promise, then replaces each entry `rounds` times over.
    fn fill_and_replace(entries: u32, rounds: u32, seed: u64) -> Index {
        let mut index = Index::new(at(entries));
        for value in 0..entries {
            assert!(index.insert(hash(seed, value), value), "{seed} {value}");
        }
        for new in entries..entries * (rounds + 1) {
            // An old one at random, as sessions end.
            let victim = new - entries;
            index.remove(hash(seed, victim), victim);
            assert!(index.insert(hash(seed, new), new), "{seed} {new}");
        }
        let live = entries * rounds..entries * (rounds + 1);
        for value in live {
            let found = index.find(hash(seed, value), |found| found == value);
            assert_eq!(found, Some(value));
        }
        index
    }

    #[test]
    fn f_16c_fills_to_capacity_whatever_the_seed() {
        for seed in 0..20 {
            fill_and_replace(40_000, 3, seed);
        }
        // In small tables chance matters more.
        for seed in 0..2_000 {
            fill_and_replace(1 + u32::try_from(seed % 300).unwrap(), 5, seed);
        }
    }

    #[test]
    fn refuses_when_both_buckets_and_all_others_of_their_entries_are_full() {
        let mut index = Index::new(1);
        let accepted = (0..40)
            .filter(|&value| index.insert(0x1_0000_0000, value))
            .count();
        assert_eq!(accepted, 16);
        index.remove(0x1_0000_0000, 3);
        assert!(index.insert(0x1_0000_0000, 99));
        assert_eq!(index.find(0x1_0000_0000, |value| value == 3), None);
    }

    proptest! {
        #[test]
        fn behaves_like_a_hash_map(
            operations in proptest::collection::vec((0u64..60, any::<bool>()), 1..400), seed: u64,
        ) {
            let key = HashKey::new(seed, 0);
            let mut index = Index::new(64);
            let mut model: HashMap<u64, u32> = HashMap::new();
            let value_of = |word: u64| u32::try_from(word).unwrap();
            for (word, add) in operations {
                let hash = key.hash(word, 9);
                if add && !model.contains_key(&word) {
                    prop_assert!(index.insert(hash, value_of(word)));
                    model.insert(word, value_of(word));
                } else if !add && let Some(value) = model.remove(&word) {
                    index.remove(hash, value);
                }
                for probe in 0..60 {
                    let found = index.find(key.hash(probe, 9), |v| v == value_of(probe));
                    prop_assert_eq!(found, model.get(&probe).copied());
                }
            }
        }
    }
}
