//! The JSON of `vswitch bench -j`, which `vswitch report` reads: schema `vswitch.bench/1`.
//!
//! One object with iperf3's three top keys: `start` is what was to be measured and where,
//! `intervals` holds every single run in the order they were made, `end` what they come to. Times
//! are seconds, but latencies microseconds (their keys end in `_us`). A key that has nothing to say
//! is there and null. Keys may be added within a version; none changes its meaning.

use serde::{Deserialize, Serialize};

use super::sample::{Latency, Sample};
use super::stats::{Spread, Verdict};

/// What this version writes and reads.
pub const SCHEMA: &str = "vswitch.bench/1";

/// A whole run of `vswitch bench`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// What was to be measured, and where.
    pub start: Start,
    /// Every single run, in order.
    pub intervals: Vec<Interval>,
    /// What they come to.
    pub end: End,
}

/// What was to be measured, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// [`SCHEMA`].
    pub schema: String,
    /// Of this program.
    pub version: String,
    /// The machine.
    #[serde(flatten)]
    pub machine: Machine,
    /// When it began.
    pub timestamp: Timestamp,
    /// How long each counted run was to be, seconds.
    pub time: f64,
    /// How long the warm-up of each was, seconds; it is round 0.
    pub warm_up: f64,
    /// How many rounds are counted.
    pub pairs: u32,
    /// How many ports the test `ports` has.
    pub ports_count: u16,
    /// The load-loss curve's loads, % of what each delivered at most; empty: none was asked for.
    pub loads: Vec<u32>,
    /// What the program was given beside what the tests need.
    pub run_args: Vec<String>,
    /// Who took part.
    pub forwarders: Vec<Participant>,
    /// Who did not, in what, and why.
    pub skipped: Vec<Skipped>,
    /// What the sender of frames can do at most, with nothing behind it; null: not measured.
    pub ceiling: Option<Figures>,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The kernel's name and release.
    pub kernel: String,
    /// How many processors this process may use.
    pub cpus: u32,
    /// Their model; null where the kernel does not tell.
    pub processor: Option<String>,
}

/// A moment; iperf3's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// For people: `2026-11-22 06:52:50 UTC`.
    pub time: String,
    /// Seconds since 1970.
    pub timesecs: u64,
}

/// A forwarder that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// Its word.
    pub forwarder: String,
    /// What exactly it was: version, options.
    pub description: String,
}

/// What was asked for and not measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Whose.
    pub forwarder: String,
    /// In which test; null: in all.
    pub test: Option<String>,
    /// Why.
    pub reason: String,
    /// A command that helps; null: nothing does.
    pub fix: Option<String>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The test's word.
    pub test: String,
    /// The forwarder's word.
    pub forwarder: String,
    /// From 1; 0 is the warm-up, which is not counted. In the curve, 0 as well.
    pub round: u32,
    /// The curve's load, % of what the forwarder delivered at most; null: not of the curve.
    pub load: Option<u32>,
    /// What was found.
    #[serde(flatten)]
    pub figures: Figures,
}

/// What one run found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The figure that is compared, in the test's unit.
    pub value: f64,
    /// How long it ran, seconds.
    pub seconds: f64,
    /// Payload bits that arrived; 0 where the test counts none.
    pub bits: f64,
    /// Frames that arrived; 0 where the test counts none.
    pub frames: u64,
    /// Frames sent; null where the test waits for what it sends to arrive.
    pub offered: Option<u64>,
    /// The part of them that did not arrive, 0 to 1.
    pub loss: Option<f64>,
    /// Of round trips or transactions; null where the test times none.
    pub latency: Option<Quantiles>,
    /// Processor time, seconds.
    pub cpu: Cost,
}

/// How long round trips or transactions took, microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many were timed.
    pub count: u64,
    /// Half took no longer.
    pub p50_us: f64,
    /// 99 of 100 took no longer.
    pub p99_us: f64,
    /// 999 of 1,000 took no longer.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// Processor time, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Of the forwarder's own processes; 0 for one that lives in the kernel.
    pub forwarder: f64,
    /// Of the whole machine, sender and receiver included.
    pub machine: f64,
}

/// What the runs come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Test by test.
    pub tests: Vec<TestEnd>,
    /// The load-loss curve of each forwarder; empty: none was asked for, or none came about.
    pub curve: Vec<Curve>,
    /// What failed.
    pub failures: Vec<Failure>,
    /// Whether it was ended by a signal before all was measured.
    pub interrupted: bool,
}

/// What one test found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestEnd {
    /// Its word.
    pub test: String,
    /// What it is, in a few words.
    pub title: String,
    /// The unit of its figures.
    pub unit: String,
    /// `more` or `less`: which way is better.
    pub better: String,
    /// Each forwarder that took part.
    pub forwarders: Vec<Summary>,
}

/// What one forwarder did in one test: medians over the rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Its word.
    pub forwarder: String,
    /// The figures of the counted rounds; null if it failed.
    pub value: Option<Spread>,
    /// `vswitch : forwarder`, round by round; null for vswitch itself, and where one failed.
    pub ratio: Option<Spread>,
    /// What vswitch is beside it: `faster`, `slower`, or `no winner` where the spreads overlap or
    /// there are fewer than three figures; null as `ratio`.
    pub verdict: Option<Verdict>,
    /// The part of the offered frames that did not arrive, 0 to 1.
    pub loss: Option<f64>,
    /// Latencies: the median of each quantile, the largest of the largest.
    pub latency: Option<Quantiles>,
    /// Processor seconds for one Gbit that arrived.
    pub cpu_per_gbit: Option<Cost>,
    /// Processor seconds for one million frames that arrived.
    pub cpu_per_mpkt: Option<Cost>,
    /// What iperf3 measured, once, in a test of bulk TCP: Gbit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iperf3: Option<f64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// The load-loss curve of one forwarder, with 64-byte frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Its word.
    pub forwarder: String,
    /// What 100 % are: the median of what it delivered when offered as much as can be, Mpps.
    pub maximum: f64,
    /// Load by load.
    pub points: Vec<Point>,
}

/// One point of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// What was to be offered, % of the maximum.
    pub load: u32,
    /// What was offered indeed, Mpps.
    pub offered: f64,
    /// What arrived, Mpps.
    pub delivered: f64,
    /// The part that did not, 0 to 1.
    pub loss: f64,
}

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whose; null: the sender's by itself (see [`Start::ceiling`]).
    pub forwarder: Option<String>,
    /// In which test.
    pub test: Option<String>,
    /// What.
    pub error: String,
}

impl From<&Sample> for Figures {
    fn from(sample: &Sample) -> Self {
        Self {
            value: sample.value,
            seconds: sample.elapsed.as_secs_f64(),
            bits: sample.bits,
            frames: sample.frames,
            offered: sample.offered,
            loss: sample.loss(),
            latency: sample.latency.as_ref().map(Quantiles::from),
            cpu: Cost {
                forwarder: sample.cpu.forwarder.as_secs_f64(),
                machine: sample.cpu.machine.as_secs_f64(),
            },
        }
    }
}

impl From<&Latency> for Quantiles {
    fn from(latency: &Latency) -> Self {
        let micros = |time: std::time::Duration| time.as_nanos() as f64 / 1e3;
        Self {
            count: latency.count,
            p50_us: micros(latency.p50),
            p99_us: micros(latency.p99),
            p999_us: micros(latency.p999),
            max_us: micros(latency.max),
        }
    }
}

impl From<(f64, f64)> for Cost {
    fn from((forwarder, machine): (f64, f64)) -> Self {
        Self { forwarder, machine }
    }
}

impl Timestamp {
    /// The moment `timesecs` after the beginning of 1970, UTC.
    #[must_use]
    pub fn at(timesecs: u64) -> Self {
        let (days, second) = (timesecs / 86_400, timesecs % 86_400);
        let (year, month, day) = crate::show::moment::date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let time = format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC");
        Self { time, timesecs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_dates() {
        for (timesecs, time) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_078_099_199, "2004-02-29 23:59:59 UTC"),
            (1_795_330_370, "2026-11-22 06:52:50 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(Timestamp::at(timesecs).time, time);
        }
    }
}
