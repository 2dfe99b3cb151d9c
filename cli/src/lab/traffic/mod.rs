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

use std::io;
use std::thread;
use std::time::Duration;

/// How often a bind to an address in use is tried again, and how far apart: a second in all.
const BIND_TRIES: u32 = 100;
const BIND_PAUSE: Duration = Duration::from_millis(10);

/// Binds a socket by `open`, again where the address is in use. Another thread that is starting a
/// program holds a copy of every descriptor from its fork to its exec, so an address may be in use
/// for an instant after its socket was closed.
#[expect(
    clippy::disallowed_methods,
    reason = "the lab plays the world outside, where time passes"
)]
fn bound<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..BIND_TRIES {
        match open() {
            Err(err) if err.kind() == io::ErrorKind::AddrInUse => thread::sleep(BIND_PAUSE),
            result => return result,
        }
    }
    open()
}

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
    fn an_address_in_use_for_an_instant_is_waited_for_and_nothing_else() {
        let mut tries = 0;
        let opened = bound(|| {
            tries += 1;
            if tries < 3 {
                Err(io::ErrorKind::AddrInUse.into())
            } else {
                Ok(tries)
            }
        });
        assert_eq!(opened.unwrap(), 3);
        let mut tries = 0;
        let refused = bound(|| -> io::Result<()> {
            tries += 1;
            Err(io::ErrorKind::AddrNotAvailable.into())
        });
        assert_eq!((refused.is_err(), tries), (true, 1));
    }

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
