//! How long things took.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::LoadError;
use crate::bench::sample::Latency;

/// The longest that is told apart; longer counts as this.
const LONGEST: Duration = Duration::from_secs(60);
/// Significant decimal digits: a percentile is off by less than 0.1 %.
const DIGITS: u8 = 3;

/// Collects durations in nanoseconds, without allocating while it does.
#[derive(Debug)]
pub(super) struct Times(Histogram<u64>);

impl Times {
    pub(super) fn new() -> Result<Self, LoadError> {
        let longest = nanoseconds(LONGEST);
        Histogram::new_with_bounds(1, longest, DIGITS)
            .map(Self)
            .map_err(|err| LoadError::machine("make a histogram", err))
    }

    pub(super) fn record(&mut self, took: Duration) {
        self.0.saturating_record(nanoseconds(took));
    }

    /// `None` when nothing was recorded.
    pub(super) fn latency(&self) -> Option<Latency> {
        let count = self.0.len();
        let at = |quantile| Duration::from_nanos(self.0.value_at_quantile(quantile));
        (count > 0).then(|| Latency {
            count,
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_nanos(self.0.max()),
        })
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_thousandth() {
        let mut times = Times::new().unwrap();
        assert_eq!(times.latency(), None);
        for microseconds in 1..=1000 {
            times.record(Duration::from_micros(microseconds));
        }
        times.record(Duration::from_secs(3600));
        let latency = times.latency().unwrap();
        assert_eq!(latency.count, 1001);
        let near = |got: Duration, expected: f64| {
            let got = got.as_secs_f64();
            assert!((got / expected - 1.0).abs() < 0.002, "{got} {expected}");
        };
        near(latency.p50, 501e-6);
        near(latency.p99, 991e-6);
        near(latency.p999, 1000e-6);
        near(latency.max, 60.0);
    }
}
