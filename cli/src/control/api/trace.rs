//! The records of `GET /trace`: one packet's way through one worker on each line.

use serde::{Deserialize, Serialize};
use switch::trace::{Line, Story};

use super::TraceSchema;

/// One packet's way through one worker; those with the same id are pieces of one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// `vswitch.trace/1`.
    pub schema: TraceSchema,
    /// Names the packet within the life of the switch: a hexadecimal number with `0x`, the same as
    /// pcapng's `epb_packetid`.
    pub id: String,
    /// The packet it came of, where the gateway made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// When the first decision was made: ISO 8601, UTC, in microseconds.
    pub time: String,
    /// The worker.
    pub worker: u16,
    /// Where it came in; absent for what the gateway made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// What is behind that port: the device at the other end and its namespace, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Who sends what to whom.
    pub summary: String,
    /// The decisions, in order.
    pub steps: Vec<TracedStep>,
    /// Decisions there was no room for: the ports of a wide flood.
    pub steps_lost: u32,
    /// Nanoseconds from the first to the last.
    pub took_ns: u32,
    /// Its fate.
    pub fate: Fate,
    /// The same in words: `FORWARDED veth1 → eth0`.
    pub story: String,
    /// The reason, where it was dropped, or a copy of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to do about that, where something can be done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
    /// What became of its copies.
    pub sent: Vec<TracedTx>,
    /// As it came.
    pub before: TracedFrame,
    /// As it left, where that is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<TracedFrame>,
}

/// A packet's fate at one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// Switched to one port.
    Forward,
    /// Routed to one port.
    Route,
    /// Sent to every other port.
    Flood,
    /// Turned round by the gateway.
    Answer,
    /// Taken in by the gateway.
    Absorb,
    /// Kept until something is known.
    Hold,
    /// Gone to another worker.
    Handover,
    /// Dropped.
    Drop,
    /// Made by the gateway and sent.
    Sent,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedStep {
    /// Nanoseconds since the first.
    pub after_ns: u32,
    /// Who decided: `rx`, `fdb`, `route`, `nat`, `rewrite`, `tx` and so on.
    pub step: String,
    /// What.
    pub text: String,
    /// What the NAT changed.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub change: Option<TracedChange>,
}

/// An endpoint before and after its translation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedChange {
    /// `ADDRESS:PORT`; for ICMP the port is the identifier.
    pub before: String,
    /// As it is now.
    pub after: String,
}

/// What became of the copy for one port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedTx {
    /// The egress port.
    pub port: String,
    /// Why it was dropped, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Frames it was sent or dropped as: segments or fragments, where it had to be cut.
    pub pieces: u32,
    /// Their bytes.
    pub bytes: u32,
}

/// A frame at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedFrame {
    /// Bytes it had.
    pub length: u32,
    /// Its first bytes in hexadecimal, from the Ethernet header on.
    pub bytes: String,
}

/// A gap: records that were lost because this reader was too slow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedLost {
    /// `vswitch.trace/1`.
    pub schema: TraceSchema,
    /// How many.
    pub lost: u64,
}

/// One line of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(
    clippy::large_enum_variant,
    reason = "one is alive at a time, on its way to a line of text"
)]
pub enum TracedRecord {
    /// A packet.
    Packet(Traced),
    /// Records are missing here.
    Lost(TracedLost),
}

impl Traced {
    /// The record in words, as `trace` prints it.
    #[must_use]
    pub fn to_story(&self) -> Story {
        let lines = self.steps.iter().map(|step| Line {
            after: step.after_ns,
            word: step.step.clone(),
            what: step.text.clone(),
            change: (step.change.clone()).map(|change| [change.before, change.after]),
        });
        Story {
            id: self.id.clone(),
            worker: self.worker,
            from: self.port.clone().unwrap_or_else(|| "gateway".into()),
            summary: self.summary.clone(),
            len: self.before.length,
            lines: lines.collect(),
            steps_lost: self.steps_lost,
            took: self.took_ns,
            fate: self.story.clone(),
            fix: self.fix.clone(),
        }
    }
}

impl TracedFrame {
    /// Bytes as two digits each.
    #[must_use]
    pub fn new(bytes: &[u8], length: u32) -> Self {
        Self {
            length,
            bytes: digits(bytes),
        }
    }

    /// The bytes; `None` where those are no hexadecimal digits.
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let digit = |digit: u8| {
            char::from(digit)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        let pairs = self.bytes.as_bytes().chunks(2);
        pairs
            .map(|pair| match pair {
                [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
                _ => None,
            })
            .collect()
    }
}

/// Bytes as two hexadecimal digits each.
pub(crate) fn digits(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 0xf)]);
    let pairs = bytes.iter();
    let digits = pairs.flat_map(|byte| [digit(byte >> 4), digit(*byte)]);
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_their_digits() {
        let bytes: Vec<u8> = (0..=255).collect();
        let frame = TracedFrame::new(&bytes, 1500);
        assert!(frame.bytes.starts_with("000102") && frame.bytes.ends_with("feff"));
        assert_eq!(frame.to_bytes(), Some(bytes));
        for bad in ["0", "0g", "é"] {
            let frame = TracedFrame {
                length: 1,
                bytes: bad.into(),
            };
            assert_eq!(frame.to_bytes(), None, "{bad}");
        }
    }
}
