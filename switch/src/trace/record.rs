//! The record of a packet's way through one worker.

use std::fmt;

use nat::Nanos;

use crate::frame::{Offload, Stage};
use crate::port::{NOWHERE, PortIndex};
use crate::verdict::Verdict;

use super::steps::TimedStep;
use super::tap::Taps;

/// Names a packet from the moment it came in, whatever worker has it: unique within a switch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PacketId(u64);

impl PacketId {
    /// No packet that is traced.
    pub const NONE: Self = Self(0);

    const NUMBER_BITS: u32 = 48;

    /// Number `number` (from 1 on) of those that `worker` saw first.
    #[must_use]
    pub const fn new(worker: u16, number: u64) -> Self {
        let number = number & ((1 << Self::NUMBER_BITS) - 1);
        Self((worker as u64) << Self::NUMBER_BITS | number)
    }

    /// The worker that saw it first.
    #[must_use]
    pub const fn worker(self) -> u16 {
        let [high, low, ..] = self.0.to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    /// As one number, for files: pcapng's `epb_packetid`.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a frame takes along that waits or changes hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// Which packet it is; of a frame that the gateway made, the one it came of.
    pub id: PacketId,
    /// For whom a piece of its way was recorded: for them the others are to be, too.
    pub(super) chosen: Taps,
    /// Where it came in: a fragment that waited in the NAT does not say.
    pub ingress: PortIndex,
}

impl Tag {
    /// Of a frame that nobody traces.
    pub const NONE: Self = Self {
        id: PacketId::NONE,
        chosen: 0,
        ingress: NOWHERE,
    };
}

/// One packet's way through one worker; those with the same id are pieces of one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which packet it is.
    pub id: PacketId,
    /// The packet it came of, if the gateway made it: an ICMP error, an ARP request.
    pub cause: Option<PacketId>,
    /// The worker.
    pub worker: u16,
    /// When the batch was taken from the ring, by the worker's clock.
    pub batch: Nanos,
    /// The first step, by the tracer's clock.
    pub began: Nanos,
    /// Where it came in; `None` for what the gateway made for nobody's packet.
    pub ingress: Option<PortIndex>,
    /// How far it had got before.
    pub stage: Stage,
    /// As it came.
    pub before: Snap,
    /// As it left, if that is something else.
    pub after: Option<Snap>,
    /// What was decided, in order.
    pub steps: Vec<TimedStep>,
    /// Steps there was no room for: the ports of a wide flood.
    pub steps_lost: u32,
    /// Its fate; `None` for what the gateway made.
    pub verdict: Option<Verdict>,
    /// Frames that left, and frames that should have, over all copies and their pieces.
    pub copies: (u32, u32),
}

/// A frame at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snap {
    /// Its first bytes.
    pub bytes: Vec<u8>,
    /// How many it had.
    pub len: u32,
    /// What its sender left undone.
    pub offload: Offload,
}

impl Record {
    /// True where the frame or a copy of it was dropped.
    #[must_use]
    pub const fn is_drop(&self) -> bool {
        self.copies.1 > 0 || matches!(self.verdict, Some(Verdict::Drop(_)))
    }

    /// From the first step to the last, in nanoseconds.
    #[must_use]
    pub fn took(&self) -> Nanos {
        Nanos(self.steps.last().map_or(0, |last| u64::from(last.after)))
    }
}
