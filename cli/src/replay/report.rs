//! What became of a capture, as JSON has it.

use serde::Serialize;

use crate::control::api::ReplaySchema;

/// What became of a capture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `vswitch.replay/1`.
    pub schema: ReplaySchema,
    /// The capture.
    pub file: String,
    /// Its packets.
    pub packets: u64,
    /// From the first to the last.
    pub seconds: f64,
    /// Packets that did not go in.
    pub skipped: Skipped,
    /// How it compares with what was recorded, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Recorded>,
    /// The ports of the switch, in their order.
    pub ports: Vec<PortReport>,
    /// Whether every frame and every copy is accounted for.
    pub conserved: bool,
}

/// What became of a recording's packets, then and now: their first verdicts, and as what they left.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Recorded {
    /// Packets that were lost while they were recorded.
    pub lost: u64,
    /// Verdicts that are as they were.
    pub same: u64,
    /// Verdicts that are not.
    pub differ: u64,
    /// The first of those.
    pub examples: Vec<Differing>,
    /// Ticks at which all that the worker had decided until then was as it was.
    pub ticks_same: u64,
    /// Seconds after the beginning at which it first was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differs_from: Option<f64>,
    /// Turns of workers that are not in the recording.
    pub turns_missing: u64,
}

impl Recorded {
    /// True where nothing is known to be other than it was.
    #[must_use]
    pub const fn is_same(&self) -> bool {
        self.differ == 0 && self.differs_from.is_none()
    }
}

/// A verdict that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Differing {
    /// The packet's number in the recording.
    pub packet: u64,
    /// What became of it then.
    pub was: String,
    /// What becomes of it now.
    pub is: String,
}

/// Packets that did not go in, by why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Skipped {
    /// The capture says they were sent by the interface: the switch itself made them.
    pub outbound: u64,
    /// Only a part of them was captured.
    pub cut: u64,
    /// The switch has no port of their interface's name.
    pub no_port: u64,
    /// Longer than any frame can be.
    pub too_long: u64,
}

impl Skipped {
    /// All of them.
    #[must_use]
    pub const fn all(self) -> u64 {
        self.outbound + self.cut + self.no_port + self.too_long
    }
}

/// What became of a port's packets, and what it sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortReport {
    /// The port.
    pub port: String,
    /// `member`, `host` or `uplink`.
    pub role: &'static str,
    /// Frames that came in.
    pub received_frames: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// What became of them.
    pub verdicts: Verdicts,
    /// Drops of frames that came in here, and of copies that should have gone out here.
    pub drops: Vec<Dropped>,
    /// Frames that went out.
    pub sent_frames: u64,
    /// Their bytes.
    pub sent_bytes: u64,
}

/// The last verdict of each frame that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Verdicts {
    /// Sent to one port by the switch.
    pub forwarded: u64,
    /// Sent to one port by the gateway.
    pub routed: u64,
    /// Sent to all ports.
    pub flooded: u64,
    /// Turned round by the gateway.
    pub answered: u64,
    /// Meant for the gateway itself.
    pub absorbed: u64,
    /// Thrown away.
    pub dropped: u64,
    /// Still waiting at the end, for a neighbour or a fragment.
    pub waiting: u64,
}

impl Verdicts {
    /// All of them.
    #[must_use]
    pub const fn all(self) -> u64 {
        self.forwarded
            + self.routed
            + self.flooded
            + self.answered
            + self.absorbed
            + self.dropped
            + self.waiting
    }
}

/// Frames or copies dropped for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// The reason's word.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
    /// What to do about it; may be empty.
    pub fix: &'static str,
}
