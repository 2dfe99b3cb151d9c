//! A record being written: what is known so far of a frame of the batch.

use arrayvec::ArrayVec;
use nat::Nanos;

use crate::frame::{Offload, Stage};
use crate::port::{NOWHERE, PortIndex};
use crate::verdict::Verdict;

use super::record::{PacketId, Tag};
use super::recorder::STEPS_MAX;
use super::steps::TimedStep;
use super::tap::Taps;

/// A record being written.
pub(super) struct Draft {
    pub(super) tag: Tag,
    /// Who may choose it; what all rule out from the start is not written.
    pub(super) candidates: Taps,
    /// Whose filter has wanted it.
    pub(super) wanted: Taps,
    pub(super) began: Nanos,
    pub(super) ingress: PortIndex,
    pub(super) stage: Stage,
    pub(super) bytes: Vec<u8>,
    pub(super) len: u32,
    pub(super) offload: Offload,
    pub(super) steps: ArrayVec<TimedStep, STEPS_MAX>,
    pub(super) steps_lost: u32,
    pub(super) verdict: Option<Verdict>,
    pub(super) copies: (u32, u32),
    /// The packet it came of, if the gateway made it.
    pub(super) cause: Option<PacketId>,
}

impl Draft {
    pub(super) fn new(head_bytes: usize) -> Self {
        Self {
            tag: Tag::NONE,
            candidates: 0,
            wanted: 0,
            began: Nanos::ZERO,
            ingress: NOWHERE,
            stage: Stage::Arrived,
            bytes: Vec::with_capacity(head_bytes),
            len: 0,
            offload: Offload::PLAIN,
            steps: ArrayVec::new(),
            steps_lost: 0,
            verdict: None,
            copies: (0, 0),
            cause: None,
        }
    }
}

/// The draft in this place, if anybody may want it.
pub(super) fn candidate(drafts: &mut [Draft], place: usize) -> Option<&mut Draft> {
    drafts.get_mut(place).filter(|draft| draft.candidates != 0)
}
