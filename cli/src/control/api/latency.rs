//! How long frames take, as `GET /latency` shows it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::LatencySchema;

/// How long frames take: `GET /latency`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// `vswitch.latency/1`.
    pub schema: LatencySchema,
    /// When measuring began, in seconds since 1970: at the start, or at the last reset.
    pub since: f64,
    /// Seconds since then.
    pub interval: f64,
    /// What keeps each worker from doing more.
    pub workers: Vec<WorkerLoad>,
    /// The pairs of ports, that with most frames first.
    pub pairs: Vec<LatencyPair>,
}

/// One pair of ports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyPair {
    /// The device the frames came in on; `null` for pairs that were too many to tell apart.
    pub ingress: Option<String>,
    /// The device they left by; `null` where that is not one port.
    pub egress: Option<String>,
    /// Where they went.
    pub to: LatencyTo,
    /// Frames that the figures stand for: each measured one counts for as many as were passed over.
    pub frames: u64,
    /// Frames measured.
    pub samples: u64,
    /// From the ring's time stamp to the beginning of the batch; `null` where the port has none.
    pub wait: Option<LatencyStage>,
    /// From there to the verdicts.
    pub process: Option<LatencyStage>,
    /// From there until the batch was sent; `null` where nothing was.
    pub send: Option<LatencyStage>,
    /// All of it.
    pub total: Option<LatencyStage>,
}

impl LatencyPair {
    /// The stages in the order of time, each with its word.
    #[must_use]
    pub fn stages(&self) -> [(&'static str, Option<&LatencyStage>); 4] {
        [
            ("wait", self.wait.as_ref()),
            ("process", self.process.as_ref()),
            ("send", self.send.as_ref()),
            ("total", self.total.as_ref()),
        ]
    }
}

/// Where frames went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LatencyTo {
    /// To the one port that is named.
    Port,
    /// To all ports of the network but one.
    Flood,
    /// To none: dropped, held, taken in, or handed over to another worker.
    Nowhere,
    /// By pairs that were too many to tell apart, or whose port is gone.
    Others,
}

/// How long one stage took. Quantiles are never too low, and too high by less than 1/16.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyStage {
    /// Seconds, on average; exact.
    pub mean: f64,
    /// Seconds: half of the frames took no longer.
    pub p50: f64,
    /// Seconds: 90 % of the frames took no longer.
    pub p90: f64,
    /// Seconds: 99 % of the frames took no longer.
    pub p99: f64,
    /// Seconds: 99.9 % of the frames took no longer.
    pub p999: f64,
    /// Seconds, the longest; exact.
    pub max: f64,
    /// Buckets that are not empty: the longest duration in it, in nanoseconds, and its frames.
    pub buckets: Vec<(u64, u64)>,
}

impl LatencyStage {
    /// The frames that it is about.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.buckets.iter().map(|(_, frames)| frames).sum()
    }
}

/// How much one worker has to do, lately.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerLoad {
    /// Its number.
    pub index: u16,
    /// Seconds that this is about, up to now.
    pub window: f64,
    /// The share of them in rounds that found frames, from 0 to 1.
    pub busy_share: f64,
    /// Frames received.
    pub frames: u64,
    /// Frames that found a ring full.
    pub ring_full: u64,
    /// The port that turned away most copies, or else the one that took most; `null` without any.
    pub egress: Option<String>,
    /// Copies sent to it.
    pub egress_sent: u64,
    /// Copies that found it full.
    pub egress_full: u64,
    /// What follows from that.
    pub bound: Bound,
}

/// What keeps a worker from forwarding more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Nothing comes.
    Idle,
    /// An egress is full: who receives there is slower than who sends.
    ReceiverBound,
    /// The worker has no time left, or its rings run over.
    SwitchBound,
    /// It has time left and all that comes is sent: those who send are what there is.
    SenderBound,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::ReceiverBound => "receiver-bound",
            Self::SwitchBound => "switch-bound",
            Self::SenderBound => "sender-bound",
        })
    }
}

/// Below this share of its time a worker is idle.
const IDLE_SHARE: f64 = 0.005;
/// From this share on it has no time left: looking at the clock and for commands is the rest.
const BUSY_SHARE: f64 = 0.95;
/// From this share of the copies for a port on, it is the port that cannot take more.
const FULL_SHARE: f64 = 0.01;
/// From this share of the frames on, the rings ran over.
const LOST_SHARE: f64 = 0.001;

impl WorkerLoad {
    /// What the figures say, by the first of these that holds: hardly any time was spent on frames:
    /// idle. One copy in a hundred for a port found it full: receiver-bound. One frame in a
    /// thousand found a ring full, or 95 % of the time was spent: switch-bound. Else sender-bound.
    #[must_use]
    pub fn judged(mut self) -> Self {
        let lost = share(self.ring_full, self.frames);
        let full = share(self.egress_full, self.egress_sent + self.egress_full);
        self.bound = if self.frames == 0 || (self.busy_share < IDLE_SHARE && self.ring_full == 0) {
            Bound::Idle
        } else if full >= FULL_SHARE {
            Bound::ReceiverBound
        } else if lost >= LOST_SHARE || self.busy_share >= BUSY_SHARE {
            Bound::SwitchBound
        } else {
            Bound::SenderBound
        };
        self
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for people to read")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_holds_says_what_a_worker_is_bound_by() {
        let load = |busy_share, ring_full, egress_full| {
            let load = WorkerLoad {
                index: 0,
                window: 5.0,
                busy_share,
                frames: 10_000,
                ring_full,
                egress: Some("veth2".into()),
                egress_sent: 10_000,
                egress_full,
                bound: Bound::Idle,
            };
            load.judged().bound
        };
        assert_eq!(load(0.3, 0, 0), Bound::SenderBound);
        assert_eq!(load(0.3, 9, 99), Bound::SenderBound);
        assert_eq!(load(0.3, 10, 99), Bound::SwitchBound);
        assert_eq!(load(0.96, 0, 0), Bound::SwitchBound);
        assert_eq!(load(0.96, 500, 200), Bound::ReceiverBound);
        assert_eq!(load(0.001, 0, 0), Bound::Idle);
        assert_eq!(load(0.001, 500, 0), Bound::SwitchBound);
    }
}
