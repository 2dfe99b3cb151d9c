//! Latency between two looks: how many frames took how long, and the quantiles of these.

use std::collections::BTreeMap;

use serde::Serialize;

use super::look::LatencyLook;
use crate::control::api::{Latency, LatencyPair, LatencyStage, LatencyTo};
use crate::latency::{QUANTILES, quantile};

/// The bands of the heat map: each holds the durations that are shorter than its bound, in
/// nanoseconds, and not shorter than that of the band before. The last has no bound.
pub const BOUNDS: [u64; 13] = [
    1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000,
    5_000_000, 10_000_000,
];
/// One more than the bounds.
pub const BANDS: usize = BOUNDS.len() + 1;

/// How many frames took how long, by band.
pub type Bands = [u64; BANDS];

/// Latency between two looks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LatencyRate {
    /// Upper bounds of the bands in seconds; the last band has none.
    pub bounds: Vec<f64>,
    /// All pairs together.
    pub all: PairRate,
    /// Pairs of ports that frames went between, that with most frames first.
    pub pairs: Vec<PairRate>,
}

/// One pair of ports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairRate {
    /// The port frames came in on.
    pub ingress: Option<String>,
    /// The port they left by.
    pub egress: Option<String>,
    /// Where they went.
    pub to: Option<LatencyTo>,
    /// What is measured: `total`, or `process` where the ingress has no time stamps, or nothing is
    /// sent.
    pub stage: &'static str,
    /// Frames between the looks.
    pub frames: u64,
    /// Seconds: half of them took no longer.
    pub p50: Option<f64>,
    /// Seconds: 90 % of them took no longer.
    pub p90: Option<f64>,
    /// Seconds: 99 % of them took no longer.
    pub p99: Option<f64>,
    /// Seconds: 99.9 % of them took no longer.
    pub p999: Option<f64>,
    /// How many took how long, by band.
    pub bands: Bands,
}

/// Frames by the longest duration of their bucket, in nanoseconds.
type Buckets = BTreeMap<u64, u64>;

impl LatencyRate {
    /// What was measured between the looks; `None` where this switch measures nothing, or was
    /// asked but once.
    pub(super) fn between(before: &LatencyLook, now: &LatencyLook) -> Option<Self> {
        let (before, now) = (before.latency.as_ref()?, now.latency.as_ref()?);
        // After a reset there is no telling what was counted before it.
        if now.interval < before.interval {
            return None;
        }
        let mut sum = Buckets::new();
        let mut pairs: Vec<PairRate> = Vec::new();
        for pair in &now.pairs {
            let (stage, buckets) = new_in(before, pair);
            for (nanos, frames) in &buckets {
                *sum.entry(*nanos).or_default() += frames;
            }
            pairs.push(PairRate {
                ingress: pair.ingress.clone(),
                egress: pair.egress.clone(),
                to: Some(pair.to),
                ..PairRate::of(stage, &buckets)
            });
        }
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.frames));
        Some(Self {
            bounds: BOUNDS.iter().map(|nanos| seconds(*nanos)).collect(),
            all: PairRate::of("all", &sum),
            pairs,
        })
    }
}

/// What a pair has more than before, and by what stage that is told.
fn new_in(before: &Latency, pair: &LatencyPair) -> (&'static str, Buckets) {
    let told = |pair: &LatencyPair| -> (&'static str, Buckets) {
        let buckets = |stage: &LatencyStage| stage.buckets.iter().copied().collect();
        match (&pair.total, &pair.process) {
            (Some(total), _) => ("total", buckets(total)),
            (None, Some(process)) => ("process", buckets(process)),
            (None, None) => ("total", Buckets::new()),
        }
    };
    let key = |pair: &LatencyPair| (pair.ingress.clone(), pair.egress.clone(), pair.to);
    let mut earlier = before.pairs.iter();
    let earlier = earlier.find(|earlier| key(earlier) == key(pair)).map(told);
    let (stage, mut buckets) = told(pair);
    // A pair whose frames are told by another stage than before begins anew.
    for (nanos, frames) in earlier
        .filter(|(word, _)| *word == stage)
        .unwrap_or_default()
        .1
    {
        // The last bucket is named by the longest duration, which may have grown: then it is the
        // next one that has these frames.
        let after = buckets.range_mut(nanos..).next();
        if let Some((_, count)) = after {
            *count = count.saturating_sub(frames);
        }
    }
    buckets.retain(|_, frames| *frames > 0);
    (stage, buckets)
}

impl PairRate {
    fn of(stage: &'static str, buckets: &Buckets) -> Self {
        let frames: u64 = buckets.values().sum();
        let [p50, p90, p99, p999] = QUANTILES.map(|thousandths| {
            let buckets = buckets.iter().map(|(nanos, count)| (*nanos, *count));
            quantile(buckets, frames, thousandths).map(seconds)
        });
        let mut bands = [0; BANDS];
        for (nanos, count) in buckets {
            let band = BOUNDS.partition_point(|bound| bound <= nanos);
            if let Some(band) = bands.get_mut(band) {
                *band += count;
            }
        }
        Self {
            ingress: None,
            egress: None,
            to: None,
            stage,
            frames,
            p50,
            p90,
            p99,
            p999,
            bands,
        }
    }

    /// `veth1 > eth0`.
    #[must_use]
    pub fn name(&self) -> String {
        let ingress = self.ingress.as_deref();
        match (self.to, &self.egress) {
            (None, _) => "all".into(),
            (Some(LatencyTo::Others), _) => "others".into(),
            (Some(LatencyTo::Port), Some(egress)) => {
                format!("{} > {egress}", ingress.unwrap_or("?"))
            }
            (Some(LatencyTo::Port), None) => format!("{} > ?", ingress.unwrap_or("?")),
            (Some(LatencyTo::Flood), _) => format!("{} > flood", ingress.unwrap_or("?")),
            (Some(LatencyTo::Nowhere), _) => format!("{} > nowhere", ingress.unwrap_or("?")),
        }
    }
}

fn seconds(nanos: u64) -> f64 {
    std::time::Duration::from_nanos(nanos).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::LatencySchema;

    fn look(buckets: &[(u64, u64)], interval: f64) -> LatencyLook {
        let stage = LatencyStage {
            mean: 0.0,
            p50: 0.0,
            p90: 0.0,
            p99: 0.0,
            p999: 0.0,
            max: 0.0,
            buckets: buckets.to_vec(),
        };
        let pair = LatencyPair {
            ingress: Some("veth1".into()),
            egress: Some("eth0".into()),
            to: LatencyTo::Port,
            frames: 1,
            samples: 1,
            wait: None,
            process: None,
            send: None,
            total: Some(stage),
        };
        let latency = Latency {
            schema: LatencySchema,
            since: 0.0,
            interval,
            workers: Vec::new(),
            pairs: vec![pair],
        };
        LatencyLook {
            asked: true,
            latency: Some(latency),
        }
    }

    #[test]
    fn frames_between_the_looks_are_put_into_bands_and_quantiles() {
        let before = look(&[(999, 10), (4_000, 5), (7_100, 1)], 1.0);
        // The longest duration was 7.1 µs; that bucket goes up to 7.4 µs now.
        let now = look(
            &[(999, 10), (4_000, 995), (7_400, 10), (20_000_000, 1)],
            2.0,
        );
        let rate = LatencyRate::between(&before, &now).unwrap();
        let pair = &rate.pairs[0];
        assert_eq!(
            (pair.name().as_str(), pair.stage),
            ("veth1 > eth0", "total")
        );
        assert_eq!(pair.frames, 990 + 9 + 1);
        let mut bands = [0; BANDS];
        (bands[2], bands[3], bands[BANDS - 1]) = (990, 9, 1);
        assert_eq!(pair.bands, bands);
        let quantiles = [pair.p50, pair.p90, pair.p99, pair.p999].map(Option::unwrap);
        assert_eq!(quantiles, [4e-6, 4e-6, 4e-6, 7.4e-6]);
        assert_eq!(rate.all.bands, bands);
        assert_eq!(rate.all.name(), "all");
    }

    #[test]
    fn nothing_is_said_of_what_was_not_measured() {
        let one = look(&[(999, 10)], 1.0);
        let again = LatencyRate::between(&one, &one).unwrap();
        assert_eq!((again.pairs[0].frames, again.pairs[0].p50), (0, None));
        // After a reset, and from a switch that does not measure.
        assert!(LatencyRate::between(&look(&[(999, 10)], 2.0), &one).is_none());
        let none = LatencyLook {
            asked: true,
            latency: None,
        };
        assert!(LatencyRate::between(&none, &one).is_none());
    }
}
