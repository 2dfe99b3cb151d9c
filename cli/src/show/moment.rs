//! Moments of wall-clock time as text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The wall clock now, as the time since the beginning of 1970, UTC.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "an edge: what is written for people and for a later run has the world's time"
)]
pub fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// A moment since the beginning of 1970 as ISO 8601 has it (RFC 3339), UTC, in milliseconds.
#[must_use]
pub fn iso(since_1970: Duration) -> String {
    format!("{}.{:03}Z", seconds(since_1970), since_1970.subsec_millis())
}

/// The same in microseconds.
#[must_use]
pub fn iso_micros(since_1970: Duration) -> String {
    format!("{}.{:06}Z", seconds(since_1970), since_1970.subsec_micros())
}

fn seconds(since_1970: Duration) -> String {
    let secs = since_1970.as_secs();
    let (year, month, day) = date(secs / 86_400);
    let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a day since 1970-01-01, in eras of 400 years that begin with March, so
/// that the leap day is the last of its year.
#[must_use]
pub(crate) const fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (year + era * 400 + (month <= 2) as u64, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_milliseconds_and_a_zone() {
        let at = |secs, millis: u32| iso(Duration::new(secs, millis * 1_000_000));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400, 7), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(1_795_330_370, 999), "2026-11-22T06:52:50.999Z");
        let micros = iso_micros(Duration::from_nanos(1_795_330_370_000_042_999));
        assert_eq!(micros, "2026-11-22T06:52:50.000042Z");
        assert_eq!(at(4_107_542_399, 1), "2100-02-28T23:59:59.001Z");
    }
}
