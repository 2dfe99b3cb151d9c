//! How long frames take, by pair of ports and by stage.
//!
//! # Theory of operation
//!
//! ```text
//! kernel copies the frame    worker takes     verdicts      sendmmsg
//! into the ring              its batch        are given     has returned
//!      |-------- wait ----------|--- process ---|---- send ----|
//!      |------------------------- total -----------------------|
//! ```
//!
//! Always on, and so it must cost nothing: only some batches are measured. A `Probe` draws how
//! many batches to pass over, evenly from 1 to twice the mean less one, so that no rhythm of ports
//! or senders falls into step with it; and a measured frame counts for as many as were passed over
//! on average. The mean follows the rate: a switch with less than a thousand batches a second has
//! all of them measured. What is measured reads a clock four times a batch and the time stamp of
//! each frame's slot; what is not, compares one number.
//!
//! The clocks are arguments: the simulator's, in the simulator. Wait is the difference of two
//! readings of the wall clock, since that is what the kernel stamps slots with; a clock set back
//! meanwhile makes it unknown, one set forward makes one bad sample. The other stages are by a
//! clock that nobody sets. All frames of a batch share its process and send: none has left before
//! the last is sent. A frame that comes while its batch is taken has not waited at all, and its
//! total begins when it comes.
//!
//! A frame from a TAP has no stamp, so wait and total are unknown there. Frames that a worker takes
//! over from another, that waited for a neighbour or were made by the gateway are not measured.
//!
//! Each worker writes into [`WorkerLatency`], of fixed size, with the means of
//! [`Counter`](crate::counters::Counter): one writer, plain loads and stores, readers at any time.
//! Pairs beyond [`PAIRS_MAX`] share one entry.

mod histogram;
mod pairs;
mod probe;

use std::fmt;

use nat::Nanos;

pub use histogram::{BUCKETS, Bucket, Counts, Histogram};
pub use pairs::{PAIRS_MAX, Pair, PairLatency, To, WorkerLatency};
pub(crate) use probe::Probe;

use crate::limits::BATCH_FRAMES_MAX;
use crate::trace::Clock;

/// Where a frame spends its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// In the ring, until its batch is taken.
    Wait,
    /// From there until all verdicts of the batch are given.
    Process,
    /// From there until the batch is sent.
    Send,
    /// All of it.
    Total,
}

impl Stage {
    /// All stages, in the order of time.
    pub const ALL: [Self; 4] = [Self::Wait, Self::Process, Self::Send, Self::Total];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Process => "process",
            Self::Send => "send",
            Self::Total => "total",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// The two clocks that latency is measured by.
#[derive(Clone)]
pub struct Clocks {
    /// The time since any moment, which never goes back.
    pub steady: Clock,
    /// The time since 1970, as the kernel stamps frames (`CLOCK_REALTIME`).
    pub wall: Clock,
}

impl fmt::Debug for Clocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clocks").finish_non_exhaustive()
    }
}

/// When the frames of a batch came into their ring, by the wall clock, frame by frame; empty where
/// the port does not know.
pub type Arrivals = arrayvec::ArrayVec<Option<Nanos>, BATCH_FRAMES_MAX>;
