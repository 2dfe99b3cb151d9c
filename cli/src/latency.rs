//! Distributions of latency: from a worker's buckets to quantiles, and to a file that others read.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::time::{Duration, SystemTime};
use switch::latency::Counts;

use crate::args::{Common, LatencyPlan};
use crate::client::Client;
use crate::control::api::{self, LatencyPair, LatencyStage, LatencyTo};
use crate::dispatch::{self, Outcome, message};
use crate::error::CliError;
use crate::show;

/// Digits that are kept of a duration: more than the buckets have.
const DIGITS: u8 = 3;
/// The longest duration that is told from longer ones, in nanoseconds: 18 minutes.
const NANOS_MAX: u64 = 1 << 40;

/// The quantiles that are told, in thousandths.
pub(crate) const QUANTILES: [u64; 4] = [500, 900, 990, 999];

/// What one stage took; `None` where nothing was measured.
#[must_use]
pub fn stage(counts: &Counts) -> Option<LatencyStage> {
    let max = counts.max();
    // By its longest duration each bucket is told, and none is longer than the longest.
    let longest = |to: u64| to.saturating_sub(1).min(max);
    let buckets: Vec<(u64, u64)> = counts
        .buckets()
        .map(|bucket| (longest(bucket.to), bucket.count))
        .collect();
    let frames = counts.count();
    let [p50, p90, p99, p999] = QUANTILES.map(|thousandths| {
        let nanos = quantile(buckets.iter().copied(), frames, thousandths);
        seconds(nanos.unwrap_or(max))
    });
    #[expect(clippy::cast_precision_loss, reason = "a mean for people to read")]
    let mean = counts.sum() as f64 / frames.max(1) as f64 / 1e9;
    (frames > 0).then(|| LatencyStage {
        mean,
        p50,
        p90,
        p99,
        p999,
        max: seconds(max),
        buckets,
    })
}

/// The duration that so many in a thousand of the frames are not longer than, in nanoseconds;
/// `buckets` are from the shortest to the longest, each with its longest duration, and hold
/// `frames` together. `None` where there is none.
pub(crate) fn quantile(
    mut buckets: impl Iterator<Item = (u64, u64)>,
    frames: u64,
    thousandths: u64,
) -> Option<u64> {
    let rank = (u128::from(frames) * u128::from(thousandths)).div_ceil(1000);
    let mut seen = 0;
    let found = buckets.find(|(_, count)| {
        seen += u128::from(*count);
        seen >= rank.max(1)
    });
    found.map(|(nanos, _)| nanos)
}

fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

/// The distribution that buckets tell: each with its longest duration in nanoseconds.
fn histogram(buckets: &[(u64, u64)]) -> Option<Histogram<u64>> {
    // The bounds are constants that it accepts.
    let mut histogram = Histogram::new_with_bounds(1, NANOS_MAX, DIGITS).ok()?;
    for (nanos, count) in buckets {
        histogram.saturating_record_n(*nanos, *count);
    }
    Some(histogram)
}

/// `vswitch latency`: the table, the JSON, or a file.
///
/// # Errors
/// Those of the client; the file cannot be written.
pub fn command(common: &Common, plan: &LatencyPlan) -> Outcome {
    let client = Client::new(common);
    let body = client.latency()?;
    if let LatencyPlan::Write(file) = plan {
        let latency: api::Latency = client.read(&body)?;
        let unwritten = |why: String| CliError::failed(file.display().to_string(), why, "");
        let (text, count) = log(&latency).map_err(unwritten)?;
        std::fs::write(file, text).map_err(|error| unwritten(error.to_string()))?;
        let text = format!("{count} histograms written to {}", file.display());
        message(common, &text);
        return Ok(crate::error::Exit::Done);
    }
    let LatencyPlan::Show(view) = plan else {
        return Ok(crate::error::Exit::Done);
    };
    if common.json {
        return dispatch::print_json(common, &body);
    }
    let latency: api::Latency = client.read(&body)?;
    dispatch::print(common.colour, &show::latency::latency(&latency, *view))
}

/// HdrHistogram's interval log, of one interval: a histogram in nanoseconds for each stage of each
/// pair, with both in its tag. And how many there are.
///
/// # Errors
/// What the writer says; none is known.
pub fn log(latency: &api::Latency) -> Result<(Vec<u8>, usize), String> {
    let mut text = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let (start, length) = (duration(latency.since), duration(latency.interval));
    let version = concat!("vswitch ", env!("CARGO_PKG_VERSION"), ", nanoseconds");
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment(version)
        .with_start_time(SystemTime::UNIX_EPOCH + start)
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut text, &mut serializer)
        .map_err(|error| format!("{error:?}"))?;
    let mut count = 0;
    for pair in &latency.pairs {
        for (word, stage) in pair.stages() {
            let Some(histogram) = stage.and_then(|stage| histogram(&stage.buckets)) else {
                continue;
            };
            let name = format!("{}-{word}", name(pair));
            let written =
                writer.write_histogram(&histogram, Duration::ZERO, length, Tag::new(&name));
            written.map_err(|error| format!("{error:?}"))?;
            count += 1;
        }
    }
    drop(writer);
    Ok((text, count))
}

/// A pair as one word, without what ends a tag.
fn name(pair: &LatencyPair) -> String {
    let (ingress, egress) = ends(pair);
    let name = format!("{ingress}-{egress}");
    name.replace(|c: char| c.is_whitespace() || c == ',', "_")
}

/// Where the frames of a pair came from and went, in a word each.
#[must_use]
pub fn ends(pair: &LatencyPair) -> (&str, &str) {
    let ingress = pair.ingress.as_deref().unwrap_or("others");
    let egress = match (pair.to, &pair.egress) {
        (LatencyTo::Port, Some(egress)) => egress,
        (LatencyTo::Flood, _) => "flood",
        (LatencyTo::Nowhere, _) => "nowhere",
        (LatencyTo::Others | LatencyTo::Port, _) => "others",
    };
    (ingress, egress)
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use nat::Nanos;
    use proptest::prelude::*;
    use switch::latency::Histogram as Buckets;

    use super::*;

    proptest! {
        /// Goal: quantiles are off by no more than is documented. Method: any durations, against
        /// the sorted list of them.
        #[test]
        fn quantiles_are_never_too_low_and_hardly_too_high(
            mut nanos in prop::collection::vec(128_u64..1 << 33, 1..300),
        ) {
            let buckets = Buckets::default();
            nanos.iter().for_each(|one| buckets.add(Nanos(*one), 1));
            nanos.sort_unstable();
            let told = stage(&buckets.counts()).unwrap();
            for (thousandths, value) in
                [(500, told.p50), (900, told.p90), (990, told.p99), (999, told.p999)]
            {
                let place = (nanos.len() * thousandths).div_ceil(1000).max(1) - 1;
                let (exact, value) = (seconds(nanos[place]), value);
                prop_assert!(value >= exact, "{thousandths}: {value} for {exact}");
                prop_assert!(value <= exact * 1.0635, "{thousandths}: {value} for {exact}");
            }
            prop_assert_eq!(told.max, seconds(*nanos.last().unwrap()));
        }
    }
}
