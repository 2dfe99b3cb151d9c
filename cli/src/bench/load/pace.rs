//! Offering frames at a given rate: when how many are due.
//!
//! Frames go out in batches, because each system call and each sleep costs more than a frame. What
//! a sender that was not scheduled has missed is made up for, but only to 1 ms: a longer burst
//! would test the forwarder's queues instead of its speed. What is forfeited was never offered.

use std::time::Duration;

/// Most frames in one batch.
pub const BATCH_MAX: u32 = 64;
/// A batch is what is due in this time: at 100,000 frames a second 5 of them.
const BATCH_TIME: Duration = Duration::from_micros(50);
/// What may be made up for, beside the batch that is due.
const DEBT_TIME: Duration = Duration::from_millis(1);

/// A token bucket that is asked with the time, and never reads a clock.
#[derive(Debug, Clone)]
pub struct Pace {
    per_second: f64,
    batch: u32,
    /// Frames given or forfeited.
    spent: f64,
}

impl Pace {
    /// `mpps` million frames a second; not positive gives none.
    #[must_use]
    pub fn new(mpps: f64) -> Self {
        let per_second = (mpps * 1e6).max(0.0);
        let due = per_second * BATCH_TIME.as_secs_f64();
        let batch = (1..=BATCH_MAX).rev().find(|&n| f64::from(n) <= due);
        Self {
            per_second,
            batch: batch.unwrap_or(1),
            spent: 0.0,
        }
    }

    /// Frames that always leave together.
    #[must_use]
    pub const fn batch(&self) -> u32 {
        self.batch
    }

    /// Whether a batch is due after `elapsed`; if so it counts as sent.
    pub fn take(&mut self, elapsed: Duration) -> bool {
        let due = self.per_second * elapsed.as_secs_f64();
        let batch = f64::from(self.batch);
        let debt = self.per_second * DEBT_TIME.as_secs_f64() + batch;
        self.spent = self.spent.max(due - debt);
        let is_due = self.per_second > 0.0 && due - self.spent >= batch;
        if is_due {
            self.spent += batch;
        }
        is_due
    }

    /// How long after `elapsed` the next batch is due; zero when it is already.
    #[must_use]
    pub fn wait(&self, elapsed: Duration) -> Duration {
        let at = (self.spent + f64::from(self.batch)) / self.per_second;
        Duration::try_from_secs_f64(at)
            .unwrap_or(Duration::MAX)
            .saturating_sub(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn frames(pace: &mut Pace, step: Duration) -> u32 {
        let mut frames = 0;
        let mut now = Duration::ZERO;
        while now < SECOND {
            now += step;
            while pace.take(now) {
                frames += pace.batch();
            }
        }
        frames
    }

    #[test]
    fn batches_are_what_is_due_in_50_us() {
        let batch = |mpps| Pace::new(mpps).batch();
        assert_eq!([0.001, 0.1, 1.0, 2.0, 50.0].map(batch), [1, 5, 50, 64, 64]);
    }

    #[test]
    fn the_rate_is_kept_whatever_the_step() {
        for (mpps, expected) in [(0.0005, 500), (0.1, 100_000), (1.0, 1_000_000)] {
            for step in [20, 333, 900].map(Duration::from_micros) {
                let got = frames(&mut Pace::new(mpps), step);
                assert!(
                    got.abs_diff(expected) <= BATCH_MAX + expected / 500,
                    "{mpps} {got}"
                );
            }
        }
    }

    #[test]
    fn a_long_pause_is_forfeited_but_for_1_ms() {
        let mut pace = Pace::new(1.0);
        let mut batches = 0;
        while pace.take(SECOND) {
            batches += 1;
        }
        assert_eq!(batches * pace.batch(), 1000 + pace.batch());
        assert_eq!(pace.wait(SECOND), Duration::from_micros(50));
        assert!(!pace.take(SECOND + Duration::from_micros(49)));
        assert!(pace.take(SECOND + Duration::from_micros(51)));
        // At a frame in two seconds 1 ms is far less than one frame, which still leaves.
        let mut slow = Pace::new(5e-7);
        assert!(!slow.take(SECOND) && slow.take(2 * SECOND) && !slow.take(2 * SECOND));
    }

    #[test]
    fn no_rate_no_frames() {
        for mpps in [0.0, -1.0, f64::NAN] {
            let mut pace = Pace::new(mpps);
            assert!(!pace.take(SECOND));
            assert!(pace.wait(SECOND) > SECOND);
        }
    }
}
