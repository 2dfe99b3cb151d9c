//! Packets of drops, as they are kept.

use serde::{Deserialize, Serialize};

/// A packet that was dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptPacket {
    /// When: ISO 8601, UTC.
    pub time: String,
    /// Seconds since.
    pub age: f64,
    /// The device of the port it came in by; `null` for what the switch made itself, and where that
    /// port is gone.
    pub port: Option<String>,
    /// The device of the port that did not take it; `null` where it was dropped before that.
    pub egress: Option<String>,
    /// Bytes it had.
    pub length: u32,
    /// Who sent what to whom.
    pub summary: String,
    /// Its first bytes, in hexadecimal: 128 at most.
    pub bytes: String,
}

/// What is kept of one reason.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct KeptPackets {
    /// The first, the oldest first: since the start, or since they were forgotten.
    pub first: Vec<KeptPacket>,
    /// The last that are not among the first, the oldest first.
    pub last: Vec<KeptPacket>,
}

impl KeptPackets {
    /// The packet that was dropped last.
    #[must_use]
    pub fn latest(&self) -> Option<&KeptPacket> {
        self.first.iter().chain(&self.last).next_back()
    }
}
