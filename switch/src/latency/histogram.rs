//! Durations counted in buckets that are a sixteenth of their value wide.
//!
//! Below 128 ns a bucket is 8 ns wide. From there on each power of two is cut into 16 buckets: so a
//! value told by its bucket is off by less than 1/16 of it, up to 8.6 s; what is longer is in
//! the last bucket. The longest and the sum are kept exactly.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nat::Nanos;

use crate::counters::Counter;

/// Buckets of a power of two, and of the linear part.
const PARTS: usize = 16;
/// The linear part ends at this power of two, in nanoseconds.
const FIRST_POWER: u32 = 7;
/// What is longer than this power of two is all in the last bucket.
const LAST_POWER: u32 = 33;

/// Buckets of a histogram: 3.4 KB of counters.
pub const BUCKETS: usize = PARTS * (1 + (LAST_POWER - FIRST_POWER) as usize);

/// The bucket of a duration.
#[inline]
fn place(nanos: u64) -> usize {
    let power = nanos.checked_ilog2().unwrap_or(0).max(FIRST_POWER - 1);
    if power < FIRST_POWER {
        // PARTS buckets for 2^FIRST_POWER ns.
        return part(nanos >> (FIRST_POWER - 4));
    }
    let row = (power - FIRST_POWER + 1) as usize;
    (row * PARTS + part(nanos >> (power - 4))).min(BUCKETS - 1)
}

/// The last four bits.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "16 values")]
const fn part(value: u64) -> usize {
    (value % PARTS as u64) as usize
}

/// Where the bucket begins.
const fn lower(place: usize) -> u64 {
    let (row, part) = (place / PARTS, (place % PARTS) as u64);
    if row == 0 {
        part << (FIRST_POWER - 4)
    } else {
        (PARTS as u64 + part) << (row + FIRST_POWER as usize - 1 - 4)
    }
}

/// A histogram with one writer, which anybody may read meanwhile.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    /// Nanoseconds.
    sum: Counter,
    /// Nanoseconds.
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| Counter::default()),
            sum: Counter::default(),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts a duration as that of `weight` frames. Only the owner may call this.
    #[inline]
    pub fn add(&self, duration: Nanos, weight: u64) {
        let Nanos(nanos) = duration;
        if let Some(bucket) = self.buckets.get(place(nanos)) {
            bucket.add(weight);
        }
        self.sum.add(nanos.saturating_mul(weight));
        self.raise_max(nanos);
    }

    /// Counts what another histogram counted. Only the owner may call this.
    pub(super) fn add_all(&self, counts: &Counts) {
        for (bucket, count) in self.buckets.iter().zip(&counts.buckets) {
            bucket.add(*count);
        }
        self.sum.add(counts.sum);
        self.raise_max(counts.max);
    }

    #[inline]
    fn raise_max(&self, nanos: u64) {
        if nanos > self.max.load(Relaxed) {
            self.max.store(nanos, Relaxed);
        }
    }

    /// Forgets everything. Only the owner may call this.
    pub(super) fn clear(&self) {
        let counters = self.buckets.iter().chain([&self.sum]);
        counters.for_each(Counter::clear);
        self.max.store(0, Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            buckets: self.buckets.iter().map(Counter::get).collect(),
            sum: self.sum.get(),
            max: self.max.load(Relaxed),
        }
    }
}

/// What a histogram has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    buckets: Vec<u64>,
    /// Nanoseconds.
    sum: u64,
    /// Nanoseconds.
    max: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            sum: 0,
            max: 0,
        }
    }
}

/// One bucket that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// The shortest duration in it, in nanoseconds.
    pub from: u64,
    /// The shortest that is too long for it; of the last, [`u64::MAX`].
    pub to: u64,
    /// How many frames there are in it.
    pub count: u64,
}

impl Counts {
    /// The frames counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of their durations, in nanoseconds.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// The longest duration, in nanoseconds; 0 where none was counted.
    #[must_use]
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        for (own, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *own += more;
        }
        self.sum = self.sum.wrapping_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// The buckets that are not empty, the shortest first.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> {
        let counted = self.buckets.iter().enumerate();
        counted
            .filter(|(_, count)| **count > 0)
            .map(|(place, count)| Bucket {
                from: lower(place),
                to: match place + 1 {
                    BUCKETS => u64::MAX,
                    next => lower(next),
                },
                count: *count,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_without_gap() {
        assert_eq!((lower(0), place(0)), (0, 0));
        for next in 1..BUCKETS {
            let from = lower(next);
            assert!(from > lower(next - 1));
            assert_eq!((place(from - 1), place(from)), (next - 1, next));
        }
        assert_eq!(place(u64::MAX), BUCKETS - 1);
        assert_eq!(lower(BUCKETS - 1), (1 << 33) - (1 << 28));
    }

    proptest! {
        /// Goal: the bound that the documentation gives. Method: any duration in range, and the
        /// ends of its bucket.
        #[test]
        fn a_bucket_is_off_by_less_than_a_sixteenth(nanos in 128_u64..1 << 33) {
            let histogram = Histogram::default();
            histogram.add(Nanos(nanos), 1);
            let [bucket]: [Bucket; 1] =
                histogram.counts().buckets().collect::<Vec<_>>().try_into().unwrap();
            prop_assert!((bucket.from..bucket.to).contains(&nanos));
            if bucket.to < u64::MAX {
                prop_assert!((bucket.to - bucket.from) * 16 <= nanos);
            }
        }

        #[test]
        fn sum_count_and_longest_are_exact(
            durations in prop::collection::vec((0_u64..1 << 40, 1_u64..100), 1..50),
        ) {
            let (left, right) = (Histogram::default(), Histogram::default());
            for (place, (nanos, weight)) in durations.iter().enumerate() {
                let histogram = if place % 2 == 0 { &left } else { &right };
                histogram.add(Nanos(*nanos), *weight);
            }
            let mut counts = left.counts();
            counts.merge(&right.counts());
            left.add_all(&right.counts());
            prop_assert_eq!(&left.counts(), &counts);
            let weights: u64 = durations.iter().map(|(_, weight)| weight).sum();
            let sum: u64 = durations.iter().map(|(nanos, weight)| nanos * weight).sum();
            let max = durations.iter().map(|(nanos, _)| *nanos).max().unwrap();
            prop_assert_eq!((counts.count(), counts.sum(), counts.max()), (weights, sum, max));
            left.clear();
            prop_assert_eq!(left.counts(), Counts::default());
        }
    }
}
