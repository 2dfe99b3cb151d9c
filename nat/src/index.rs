//! A fixed hash index: from a keyed hash to the number of a slot.
//!
//! # Theory of operation
//! The table is an array of buckets, each one cache line: eight tags (part of the hash) and eight
//! values. An entry may lie in either of two buckets, so a lookup touches at most two lines and
//! an insertion never moves anything; that bounds both, and nothing is ever resized. Two choices
//! of eight at half load leave practically no chance that both are full (the tests fill tables
//! to their capacity); if it happens the insertion is refused and the caller counts a drop.
//! The index does not know keys: the caller's closure compares the candidate's.

/// Entries per bucket: eight tags and eight values of four bytes make one 64-byte line.
const WAYS: usize = 8;
/// An insertion goes to the first choice while that holds fewer than this many, so that most
/// lookups end in the first line.
const FIRST_CHOICE_FILL: usize = 5;
const EMPTY: u32 = 0;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Bucket {
    tags: [u32; WAYS],
    values: [u32; WAYS],
}

impl Bucket {
    const NEW: Self = Self {
        tags: [EMPTY; WAYS],
        values: [0; WAYS],
    };

    /// Returns a bit for each way that holds this tag; compiles to vector compares, where a loop
    /// that stops at the first hit costs a mispredicted branch for most packets.
    fn hits(&self, tag: u32) -> u32 {
        (0..WAYS).fold(0, |hits, way| {
            hits | u32::from(self.tags[way] == tag) << way
        })
    }

    fn fill(&self) -> usize {
        self.tags.iter().filter(|&&tag| tag != EMPTY).count()
    }
}

/// Maps hashes to values; see the module's theory of operation.
pub(crate) struct Index {
    buckets: Box<[Bucket]>,
}

impl Index {
    /// Takes memory for `entries` entries at half load.
    pub(crate) fn new(entries: usize) -> Self {
        let buckets = (entries.div_ceil(WAYS / 2)).next_power_of_two().max(2);
        Self {
            buckets: vec![Bucket::NEW; buckets].into_boxed_slice(),
        }
    }

    /// Returns the two buckets and the tag of a hash; the buckets differ.
    fn places(&self, hash: u64) -> ([usize; 2], u32) {
        let mask = self.buckets.len() - 1;
        let first = low_bits(hash) & mask;
        let second = first ^ ((low_bits(hash >> 20) & mask) | 1);
        let tag = u32::try_from(hash >> 32).unwrap_or(u32::MAX) | 1;
        ([first, second], tag)
    }

    /// Returns the first value under this hash that `matches` accepts.
    pub(crate) fn find(&self, hash: u64, mut matches: impl FnMut(u32) -> bool) -> Option<u32> {
        let (places, tag) = self.places(hash);
        for place in places {
            let bucket = &self.buckets[place];
            let mut hits = bucket.hits(tag);
            while hits != 0 {
                let value = bucket.values[hits.trailing_zeros() as usize % WAYS];
                if matches(value) {
                    return Some(value);
                }
                hits &= hits - 1;
            }
        }
        None
    }

    /// Adds an entry; returns `false`, changing nothing, if both its buckets are full.
    #[must_use]
    pub(crate) fn insert(&mut self, hash: u64, value: u32) -> bool {
        let ([first, second], tag) = self.places(hash);
        let fill = self.buckets[first].fill();
        let place = if fill < FIRST_CHOICE_FILL || fill <= self.buckets[second].fill() {
            first
        } else {
            second
        };
        let bucket = &mut self.buckets[place];
        let Some(way) = bucket.tags.iter().position(|&tag| tag == EMPTY) else {
            return false;
        };
        bucket.tags[way] = tag;
        bucket.values[way] = value;
        true
    }

    /// Removes the entry of this hash and value, if there is one.
    pub(crate) fn remove(&mut self, hash: u64, value: u32) {
        let (places, tag) = self.places(hash);
        for place in places {
            let bucket = &mut self.buckets[place];
            for way in 0..WAYS {
                if bucket.tags[way] == tag && bucket.values[way] == value {
                    bucket.tags[way] = EMPTY;
                    return;
                }
            }
        }
    }
}

/// Keeps the bits that can number a bucket (there are never 2^32 of them).
fn low_bits(hash: u64) -> usize {
    usize::try_from(hash & 0xffff_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::HashKey;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_bucket_is_one_cache_line() {
        assert_eq!(size_of::<Bucket>(), 64);
    }

    #[test]
    fn f_16c_fills_to_capacity_whatever_the_seed() {
        for seed in 0..20 {
            let key = HashKey::new(seed, 0);
            let mut index = Index::new(40_000);
            // The worst case: exactly a power of two of buckets, loaded by half.
            let entries = u32::try_from(index.buckets.len() * WAYS / 2).unwrap();
            for value in 0..entries {
                assert!(
                    index.insert(key.hash(u64::from(value), 0), value),
                    "{seed} {value}"
                );
            }
            for value in 0..entries {
                let hash = key.hash(u64::from(value), 0);
                assert_eq!(index.find(hash, |found| found == value), Some(value));
            }
        }
    }

    #[test]
    fn refuses_when_both_buckets_are_full() {
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
