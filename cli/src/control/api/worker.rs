//! A worker, as `GET /status` shows it.

use serde::{Deserialize, Serialize};

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its number.
    pub index: u16,
    /// The processor it is bound to; `null` if it may run anywhere.
    pub cpu: Option<u16>,
    /// Rounds over its ports.
    pub polls: u64,
    /// Rounds that found nothing.
    pub polls_empty: u64,
    /// Times it slept.
    pub sleeps: u64,
    /// Frames received.
    pub frames: u64,
    /// Frames in a round that found any, on average; carried ones are in none.
    pub batch_mean: f64,
    /// Its share of all frames received, from 0 to 1.
    #[serde(default)]
    pub share: f64,
    /// Batches processed.
    #[serde(default)]
    pub batches: u64,
    /// Seconds in rounds that found frames; neither spinning nor sleep is in it.
    #[serde(default)]
    pub busy: f64,
    /// The same by the time since the switch was started, from 0 to 1.
    #[serde(default)]
    pub busy_share: f64,
    /// Frames handed over to other workers.
    #[serde(default)]
    pub handed_over: u64,
    /// Frames taken over from other workers.
    #[serde(default)]
    pub taken_over: u64,
    /// Of the frames received, those that the kernel carried by the fast path.
    #[serde(default)]
    pub carried: u64,
    /// Frames handed over by frames received, from 0 to 1.
    #[serde(default)]
    pub handover_rate: f64,
}
