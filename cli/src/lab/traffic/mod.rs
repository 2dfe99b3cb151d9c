//! Traffic between hosts of a lab, and observers of it.
//!
//! Everything that opens a socket does so in the namespace of the calling thread; use it through
//! [`Host::run`](super::Host::run) and [`Host::attempt`](super::Host::attempt), or through the
//! shortcuts that take a [`Host`](super::Host).

pub mod capture;
pub mod craft;
pub mod frames;
pub mod ping;
pub mod snmp;
pub mod tagged;
pub mod tcp;
pub mod udp;

use std::time::Duration;

/// Round-trip times of a measurement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rtts(Vec<Duration>);

impl Rtts {
    /// Takes the samples in any order.
    #[must_use]
    pub fn new(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest value that at least `percent` of the samples do not exceed (nearest rank);
    /// `None` without samples.
    #[must_use]
    pub fn percentile(&self, percent: u32) -> Option<Duration> {
        let percent = usize::try_from(percent.min(100)).unwrap_or(100);
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied()
    }

    /// The smallest, `None` without samples.
    #[must_use]
    pub fn min(&self) -> Option<Duration> {
        self.0.first().copied()
    }

    /// The median, `None` without samples.
    #[must_use]
    pub fn median(&self) -> Option<Duration> {
        self.percentile(50)
    }

    /// The largest, `None` without samples.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        self.0.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let ms = Duration::from_millis;
        let rtts = Rtts::new((1..=10).rev().map(ms).collect());
        assert_eq!(rtts.min(), Some(ms(1)));
        assert_eq!(rtts.median(), Some(ms(5)));
        assert_eq!(rtts.percentile(99), Some(ms(10)));
        assert_eq!(rtts.percentile(0), Some(ms(1)));
        assert_eq!(rtts.max(), Some(ms(10)));
        assert_eq!(Rtts::default().median(), None);
        assert!(Rtts::default().is_empty());
    }
}
