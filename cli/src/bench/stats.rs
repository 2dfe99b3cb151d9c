//! What a handful of noisy figures allows to say, and what it does not.

use serde::{Deserialize, Serialize};

use super::words::Better;

/// Fewer figures than this of either side rank nothing. Of two forwarders that are equal, one comes
/// out wholly above the other by chance in every case with one figure each, in one of three with
/// two, in one of ten with three, in one of 126 with five (2 n! n! / (2n)!).
pub const RANKED_MIN: usize = 3;

/// A spread this much of its median wide is worth a word to the reader.
pub const NOISY: f64 = 0.25;

/// The figures of one forwarder in one test, in the order they were taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The middle one; of an even number, the mean of the middle two.
    pub median: f64,
    /// The largest.
    pub max: f64,
    /// All of them, round by round.
    pub values: Vec<f64>,
}

impl Spread {
    /// The spread of `values`; none of none.
    #[must_use]
    pub fn of(values: Vec<f64>) -> Option<Self> {
        let mut sorted = values.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self {
            min,
            median,
            max,
            values,
        })
    }

    /// Whether a figure of the one could as well have been one of the other.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }

    /// How wide it is, as a part of its median; infinite where that is 0 and the width is not.
    #[must_use]
    pub fn width(&self) -> f64 {
        let width = self.max - self.min;
        if width > 0.0 {
            width / self.median
        } else {
            0.0
        }
    }
}

/// What may be said of the one beside the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Each of its figures is better than all of the other's.
    #[serde(rename = "faster")]
    Faster,
    /// Each of its figures is worse than all of the other's.
    #[serde(rename = "slower")]
    Slower,
    /// The spreads overlap, or there are too few figures: another run may say otherwise.
    #[serde(rename = "no winner")]
    NoWinner,
}

impl Verdict {
    /// The word in reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::NoWinner => "no winner",
        }
    }
}

/// Ranks `one` beside `other`: not where their spreads overlap, nor from fewer figures than
/// [`RANKED_MIN`].
#[must_use]
pub fn rank(one: &Spread, other: &Spread, better: Better) -> Verdict {
    let few = one.values.len().min(other.values.len()) < RANKED_MIN;
    if few || one.overlaps(other) {
        return Verdict::NoWinner;
    }
    let more = one.min > other.max;
    match (better, more) {
        (Better::More, true) | (Better::Less, false) => Verdict::Faster,
        (Better::More, false) | (Better::Less, true) => Verdict::Slower,
    }
}

/// The ratios `one : other` of figures of the same round, each given with its round. A round that
/// one of them lacks, or in which `other` is 0, has none.
#[must_use]
pub fn ratios(one: &[(u32, f64)], other: &[(u32, f64)]) -> Option<Spread> {
    let ratio = |(round, figure): &(u32, f64)| {
        let (_, beside) = other.iter().find(|(its, _)| its == round)?;
        (*beside > 0.0).then(|| figure / beside)
    };
    Spread::of(one.iter().filter_map(ratio).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spread(values: &[f64]) -> Spread {
        Spread::of(values.to_vec()).unwrap()
    }

    #[test]
    fn a_spread_keeps_the_order_and_finds_the_middle() {
        let odd = spread(&[3.0, 1.0, 2.0]);
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 2.0, 3.0));
        assert_eq!(odd.values, [3.0, 1.0, 2.0]);
        assert_eq!(spread(&[4.0, 1.0, 2.0, 9.0]).median, 3.0);
        assert_eq!(Spread::of(Vec::new()), None);
        assert_eq!(odd.width(), 1.0);
        assert_eq!(spread(&[0.0, 0.0]).width(), 0.0);
        assert!(spread(&[0.0, 0.0, 1.0]).width().is_infinite());
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let one = [(1, 8.0), (2, 9.0), (3, 1.0), (4, 1.0)];
        let other = [(1, 4.0), (3, 2.0), (4, 0.0)];
        assert_eq!(ratios(&one, &other).unwrap().values, [2.0, 0.5]);
        assert_eq!(ratios(&one, &[]), None);
    }

    #[test]
    fn touching_spreads_and_few_figures_rank_nothing() {
        let low = spread(&[1.0, 2.0, 3.0]);
        let touching = spread(&[3.0, 4.0, 5.0]);
        let above = spread(&[3.1, 4.0, 5.0]);
        assert_eq!(rank(&low, &touching, Better::More), Verdict::NoWinner);
        assert_eq!(rank(&low, &above, Better::More), Verdict::Slower);
        assert_eq!(rank(&low, &above, Better::Less), Verdict::Faster);
        let few = spread(&[9.0, 9.0]);
        assert_eq!(rank(&low, &few, Better::More), Verdict::NoWinner);
    }

    fn figures() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(0.001..1000.0_f64, 1..12)
    }

    proptest! {
        /// Goal: noise is never sold as a result. Method: spreads are moved onto each other until
        /// they share a point.
        #[test]
        fn overlapping_spreads_are_never_ranked(
            one in figures(),
            other in figures(),
            at in 0.0..=1.0_f64,
            onto in 0.0..=1.0_f64,
        ) {
            let one = spread(&one);
            let within = |of: &Spread, part: f64| {
                (of.min + (of.max - of.min) * part).min(of.max)
            };
            let other = spread(&other);
            let shift = within(&one, onto) - within(&other, at);
            let mut values: Vec<f64> = other.values.iter().map(|value| value + shift).collect();
            values.push(within(&one, onto));
            let moved = spread(&values);
            for better in [Better::More, Better::Less] {
                prop_assert_eq!(rank(&one, &moved, better), Verdict::NoWinner);
                prop_assert_eq!(rank(&moved, &one, better), Verdict::NoWinner);
            }
        }

        #[test]
        fn a_rank_holds_for_every_figure_and_turns_round(one in figures(), other in figures()) {
            let (one, other) = (spread(&one), spread(&other));
            let verdict = rank(&one, &other, Better::More);
            let (back, less) = (rank(&other, &one, Better::More), rank(&one, &other, Better::Less));
            let all = |ahead: fn(&f64, &f64) -> bool| {
                one.values.iter().all(|a| other.values.iter().all(|b| ahead(a, b)))
            };
            match verdict {
                Verdict::Faster => {
                    prop_assert!(all(|a, b| a > b));
                    prop_assert_eq!((back, less), (Verdict::Slower, Verdict::Slower));
                }
                Verdict::Slower => {
                    prop_assert!(all(|a, b| a < b));
                    prop_assert_eq!((back, less), (Verdict::Faster, Verdict::Faster));
                }
                Verdict::NoWinner => {
                    let few = one.values.len().min(other.values.len()) < RANKED_MIN;
                    prop_assert!(few || !all(|a, b| a > b) && !all(|a, b| a < b));
                    prop_assert_eq!((back, less), (Verdict::NoWinner, Verdict::NoWinner));
                }
            }
        }

        /// A figure in other units is the same figure.
        #[test]
        fn units_change_no_rank(one in figures(), other in figures(), power in -20..20_i32) {
            let scale = 2.0_f64.powi(power);
            let scaled = |of: &[f64]| spread(&of.iter().map(|v| v * scale).collect::<Vec<_>>());
            prop_assert_eq!(
                rank(&spread(&one), &spread(&other), Better::More),
                rank(&scaled(&one), &scaled(&other), Better::More)
            );
        }

        #[test]
        fn the_median_lies_within_and_halves(values in figures()) {
            let of = spread(&values);
            let below = values.iter().filter(|&&value| value <= of.median).count();
            let above = values.iter().filter(|&&value| value >= of.median).count();
            prop_assert!(of.min <= of.median && of.median <= of.max);
            prop_assert!(below * 2 >= values.len() && above * 2 >= values.len());
        }
    }
}
