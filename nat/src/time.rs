//! Time as an argument: the engine never reads a clock.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// Nanoseconds since an arbitrary epoch of the caller's choice, or a span of as many.
///
/// The caller reads one monotonic clock once per batch and hands the value in, so that tests and
/// the simulator decide what time it is. Arithmetic saturates: a wrapped deadline would make a
/// session immortal or expire every session at once, a saturated one does neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

const PER_SEC: u64 = 1_000_000_000;
const PER_MILLI: u64 = 1_000_000;
const PER_MICRO: u64 = 1_000;

impl Nanos {
    /// The epoch, or an empty span.
    pub const ZERO: Self = Self(0);
    /// The end of time: 584 years after the epoch.
    pub const MAX: Self = Self(u64::MAX);

    /// Makes a value from whole seconds; saturates.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(PER_SEC))
    }

    /// Makes a value from milliseconds; saturates.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(PER_MILLI))
    }

    /// Makes a value from microseconds; saturates.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros.saturating_mul(PER_MICRO))
    }

    /// Returns the plain number of nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns whole microseconds, rounded down.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0 / PER_MICRO
    }

    /// Returns whole milliseconds, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / PER_MILLI
    }

    /// Returns whole seconds, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / PER_SEC
    }

    /// Returns `self + span`, at most [`Nanos::MAX`].
    #[must_use]
    pub const fn saturating_add(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Returns `self - earlier`, at least [`Nanos::ZERO`].
    #[must_use]
    pub const fn saturating_sub(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// Saturating addition.
impl Add for Nanos {
    type Output = Self;

    fn add(self, span: Self) -> Self {
        self.saturating_add(span)
    }
}

/// Saturating addition.
impl AddAssign for Nanos {
    fn add_assign(&mut self, span: Self) {
        *self = self.saturating_add(span);
    }
}

/// Saturating subtraction: a time that lies ahead counts as "just now".
impl Sub for Nanos {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        self.saturating_sub(earlier)
    }
}

impl From<Duration> for Nanos {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Nanos> for Duration {
    fn from(nanos: Nanos) -> Self {
        Self::from_nanos(nanos.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_convert_and_saturate() {
        assert_eq!(Nanos::from_secs(3).as_millis(), 3_000);
        assert_eq!(Nanos::from_millis(1_999).as_secs(), 1);
        assert_eq!(Nanos::from_micros(7).as_nanos(), 7_000);
        assert_eq!(Nanos::from_secs(u64::MAX), Nanos::MAX);
        assert_eq!(Nanos::MAX + Nanos(1), Nanos::MAX);
        assert_eq!(Nanos(1) - Nanos(2), Nanos::ZERO);
        assert_eq!(Nanos::from(Duration::from_millis(5)), Nanos::from_millis(5));
        assert_eq!(Duration::from(Nanos(9)), Duration::from_nanos(9));
    }
}
