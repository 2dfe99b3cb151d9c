//! So many a second, and as many again at once: a token bucket that holds one second's worth.
//!
//! It is kept in nano-tokens, so that any rate is exact: a nanosecond brings as many as there are
//! to be a second, and what is let through costs a billion.

use crate::Nanos;

/// Nano-tokens that one costs.
const COST: u64 = 1_000_000_000;

/// A bucket; its rate is told with each call, since many share one. `u32::MAX` a second is no
/// limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Nano-tokens there were at `credited`.
    credit: u64,
    credited: Nanos,
}

impl Pace {
    /// Makes a bucket that is full.
    pub(crate) fn full(per_sec: u32, now: Nanos) -> Self {
        Self {
            credit: most(per_sec),
            credited: now,
        }
    }

    /// Adds what has come since the last call; returns whether one more may pass.
    #[inline]
    pub(crate) fn allows(&mut self, per_sec: u32, now: Nanos) -> bool {
        if per_sec == u32::MAX {
            return true;
        }
        // After a second the bucket is full, and up to a second the product fits.
        let elapsed = (now - self.credited).as_nanos().min(COST);
        let earned = u64::from(per_sec) * elapsed;
        self.credit = self.credit.saturating_add(earned).min(most(per_sec));
        self.credited = self.credited.max(now);
        self.credit >= COST
    }

    /// Takes for one that passes, allowed or not.
    #[inline]
    pub(crate) fn take(&mut self) {
        self.credit = self.credit.saturating_sub(COST);
    }

    /// Gives back what one took that should not count.
    #[inline]
    pub(crate) fn give_back(&mut self, per_sec: u32) {
        self.credit = self.credit.saturating_add(COST).min(most(per_sec));
    }
}

fn most(per_sec: u32) -> u64 {
    u64::from(per_sec) * COST
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_second_s_worth_is_saved_up_and_no_more() {
        let mut pace = Pace::full(2, Nanos::ZERO);
        let pass = |pace: &mut Pace, at| {
            let is_allowed = pace.allows(2, Nanos::from_millis(at));
            if is_allowed {
                pace.take();
            }
            is_allowed
        };
        let passed = [0, 0, 0, 499, 500, 501, 10_000, 10_000, 10_000].map(|at| pass(&mut pace, at));
        assert_eq!(
            passed,
            [true, true, false, false, true, false, true, true, false]
        );
        pace.give_back(2);
        assert!(pass(&mut pace, 10_000) && !pass(&mut pace, 10_000));
        // Time that goes back brings nothing, and what it brought is not brought twice.
        assert!(!pass(&mut pace, 0) && !pass(&mut pace, 10_499) && pass(&mut pace, 10_500));
    }

    #[test]
    fn without_a_limit_nothing_is_used_up() {
        let mut pace = Pace::full(u32::MAX, Nanos::ZERO);
        for _ in 0..10 {
            assert!(pace.allows(u32::MAX, Nanos::ZERO));
            pace.take();
        }
    }

    proptest! {
        /// In any time span: at most the rate, a second's worth at once, and what was given back.
        #[test]
        fn what_passes_is_bounded(
            per_sec in 1u32..2_000,
            steps in proptest::collection::vec((0u64..3_000_000, any::<bool>()), 1..400),
        ) {
            let mut pace = Pace::full(per_sec, Nanos::ZERO);
            let (mut now, mut passed, mut given) = (0, 0u64, 0u64);
            for (micros, give_back) in steps {
                now += micros;
                let at = Nanos::from_micros(now);
                while pace.allows(per_sec, at) {
                    pace.take();
                    passed += 1;
                }
                if give_back {
                    pace.give_back(per_sec);
                    given += 1;
                }
                let most = u64::from(per_sec) * (1_000_000 + now) / 1_000_000 + given;
                prop_assert!(passed <= most, "{passed} of {most}");
            }
        }
    }
}
