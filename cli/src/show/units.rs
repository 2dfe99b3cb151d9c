//! Numbers for people: three digits and a unit.

/// A count: `999`, `1.25 k`, `81.2 k`, `3.1 M`. Decimal, as packets are counted.
#[must_use]
pub fn count(value: u64) -> String {
    scaled(value, "")
}

/// A size: `71 B`, `2.1 kB`, `88 kB`. Decimal, as links are rated.
#[must_use]
pub fn bytes(value: u64) -> String {
    scaled(value, "B")
}

/// Memory: `64 KiB`, `4 MiB`. Binary and exact, as it is configured.
#[must_use]
pub fn memory(bytes: u64) -> String {
    match (bytes, bytes % (1 << 20), bytes % (1 << 10)) {
        (0, _, _) => "-".into(),
        (_, 0, _) => format!("{} MiB", bytes >> 20),
        (_, _, 0) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

fn scaled(value: u64, unit: &str) -> String {
    const PREFIXES: [&str; 6] = ["k", "M", "G", "T", "P", "E"];
    let gap = if unit.is_empty() { "" } else { " " };
    if value < 1000 {
        return format!("{value}{gap}{unit}");
    }
    let (value, mut divisor) = (u128::from(value), 1_u128);
    for prefix in PREFIXES {
        divisor *= 1000;
        // Rounded once, from the exact value: 99,950 is 100 k and 999,500 is 1.0 M.
        let tenths = (value * 10 + divisor / 2) / divisor;
        let whole = (value + divisor / 2) / divisor;
        if tenths < 1000 {
            return format!("{}.{} {prefix}{unit}", tenths / 10, tenths % 10);
        } else if whole < 1000 {
            return format!("{whole} {prefix}{unit}");
        }
    }
    format!("{value}{gap}{unit}")
}

/// A time that passed: `3.2s`, `45s`, `7195s`, `3h`, `12d`.
#[must_use]
pub fn age(seconds: f64) -> String {
    if seconds < 9.95 {
        format!("{:.1}s", seconds.max(0.0))
    } else if seconds < 10_000.0 {
        format!("{seconds:.0}s")
    } else if seconds < 172_800.0 {
        format!("{:.0}h", (seconds / 3600.0).floor())
    } else {
        format!("{:.0}d", (seconds / 86_400.0).floor())
    }
}

/// A short time: `850 ns`, `6.1 µs`, `12 ms`, `1.2 s`.
#[must_use]
pub fn short(seconds: f64) -> String {
    for (unit, factor) in [("ns", 1e9), ("µs", 1e6), ("ms", 1e3)] {
        let value = seconds * factor;
        if value < 999.5 {
            let digits = usize::from(value < 99.95 && unit != "ns");
            return format!("{value:.digits$} {unit}");
        }
    }
    format!("{seconds:.1} s")
}

/// The lowest rate that is told from none.
pub const RATE_MIN: f64 = 0.05;

/// A rate a second: `0.2`, `81 k`.
#[must_use]
pub fn rate(per_second: f64) -> String {
    if per_second < RATE_MIN {
        "0".into()
    } else if per_second < 99.95 {
        format!("{per_second:.1}")
    } else {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float saturates when cast, and is at least 99 here"
        )]
        let whole = per_second.round() as u64;
        count(whole)
    }
}

/// A share of a whole, from 0 to 1: `0.04 %`.
#[must_use]
pub fn share(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// A part of a whole: `0.04 %`.
#[must_use]
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0 %".into();
    }
    let hundredths = u128::from(part) * 10_000 / u128::from(whole);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_have_three_digits_at_most() {
        for (seconds, text) in [
            (0.0, "0 ns"),
            (850e-9, "850 ns"),
            (999.6e-9, "1.0 µs"),
            (6.14e-6, "6.1 µs"),
            (99.96e-6, "100 µs"),
            (0.0121, "12.1 ms"),
            (1.25, "1.2 s"),
        ] {
            assert_eq!(short(seconds), text);
        }
    }

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (value, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.0 k"),
            (1249, "1.2 k"),
            (81_200, "81.2 k"),
            (99_949, "99.9 k"),
            (100_000, "100 k"),
            (999_499, "999 k"),
            (999_950, "1.0 M"),
            (3_100_000, "3.1 M"),
            (u64::MAX, "18.4 E"),
        ] {
            assert_eq!(count(value), text);
        }
        assert_eq!(bytes(71), "71 B");
        assert_eq!(bytes(2_100), "2.1 kB");
        for (seconds, text) in [
            (-1.0, "0.0s"),
            (3.21, "3.2s"),
            (9.96, "10s"),
            (7195.4, "7195s"),
            (1e5, "27h"),
            (1e6, "11d"),
        ] {
            assert_eq!(age(seconds), text);
        }
        assert_eq!(memory(4 << 20), "4 MiB");
        assert_eq!(memory(1_028 << 10), "1028 KiB");
        assert_eq!(memory(100), "100 B");
        assert_eq!(rate(0.21), "0.2");
        assert_eq!(rate(81_000.0), "81.0 k");
        assert_eq!(percent(2, 4536), "0.04 %");
        assert_eq!(percent(1, 0), "0 %");
    }
}
