//! What happened to a packet on its way, step by step.
//!
//! # Theory of operation
//!
//! The pipeline, the gateway and the dispatch are generic over a [`Tracer`]. With [`Off`], of no
//! size, every call into it is compiled to nothing; with [`On`] it leads to the worker's
//! [`Recorder`]. The worker picks one of the two for each batch, so tracing costs nothing when off.
//!
//! ```text
//! Switch::trace      makes a Tap for each worker, with all the memory it will ever use; they
//!                    join the Recorder, where others trace already
//! Recorder::begin    a frame's turn: id, bytes as they came, first step        (a draft)
//! Context::trace     one Step for each decision, with the time since the first
//! Recorder::sent     what became of each copy
//! Recorder::commit   after the batch: what a Tap chooses becomes a record of its portion
//! TracePortion       by a bounded channel to the reader, and its memory back when dropped
//! ```
//!
//! All steps are written down first and the choice is made at the end, because a filter may match
//! the packet as it came or as it left, and only then it is known whether it was dropped. What a
//! [`Selector`] can rule out at the start (other ports, sampling) costs no more than that look.
//!
//! A frame that changes hands, or waits, leaves a record at each place: the pieces have the same
//! [`PacketId`], which travels in the [`Tag`] of an [`OwnedFrame`]. Once
//! a piece was chosen, the later ones are too. Fragments that wait within the NAT, which knows
//! nothing of this, are recognised by what no translation changes.
//!
//! A record is lost, and counted, where the reader is so slow that no memory is left: no worker
//! waits for a reader, and frames go their way as ever.

mod draft;
mod fragment;
mod portion;
mod record;
mod recorder;
mod selector;
mod steps;
mod summary;
mod tap;
mod text;

use nat::Direction;

use crate::frame::{Frame, OwnedFrame};
use crate::gateway::Context;
use crate::verdict::Verdict;

pub use portion::{Head, Limits, RecordView, SnapRef, TracePortion};
pub use record::{PacketId, Record, Snap, Tag};
pub(crate) use recorder::recorders;
pub use recorder::{Clock, Recorder};
pub use selector::{Fate, Filter, Seen, Selector};
pub use steps::{Found, Gateway, HeldFor, Nat, Step, TimedStep, Tuple, Tx};
pub use summary::summary;
pub(crate) use tap::GivenOut;
pub use tap::{TAPS_MAX, TapId};
pub use text::{Line, Story, Words, change, fate_words};

/// Whether a path is traced: a parameter of the types, so that one of the two costs nothing.
pub trait Tracer {
    /// Where steps are recorded, if they are.
    fn recorder(&mut self) -> Option<&mut Recorder>;

    /// The same tracer, to be lent for a while.
    fn lend(&mut self) -> impl Tracer;
}

/// What traces or takes turns, where it is there. In a build with `--cfg untraced` it never is: it
/// is made to measure what it costs that there is something to ask for.
#[inline(always)]
pub(crate) fn built_in<T>(there: Option<T>) -> Option<T> {
    if cfg!(untraced) { None } else { there }
}

/// Nothing is traced.
#[derive(Debug, Clone, Copy, Default)]
pub struct Off;

/// Traced by this recorder.
#[derive(Debug)]
pub struct On<'r>(pub &'r mut Recorder);

impl Tracer for Off {
    #[inline(always)]
    fn recorder(&mut self) -> Option<&mut Recorder> {
        None
    }

    #[inline(always)]
    fn lend(&mut self) -> impl Tracer {
        Self
    }
}

impl Tracer for On<'_> {
    #[inline]
    fn recorder(&mut self) -> Option<&mut Recorder> {
        Some(self.0)
    }

    #[inline]
    fn lend(&mut self) -> impl Tracer {
        On(self.0)
    }
}

impl<T: Tracer> Context<'_, T> {
    /// Records a step of the frame whose turn it is.
    #[inline(always)]
    pub(crate) fn trace(&mut self, step: impl FnOnce() -> Step) {
        if let Some(recorder) = self.tracer.recorder() {
            recorder.step(step());
        }
    }

    /// It is this frame's turn.
    #[inline(always)]
    pub(crate) fn trace_begin(&mut self, frame: &Frame<'_>) {
        if let Some(recorder) = self.tracer.recorder() {
            recorder.begin(frame);
        }
    }

    /// The frame's turn is over.
    #[inline(always)]
    pub(crate) fn trace_end(&mut self, verdict: Verdict) {
        if let Some(recorder) = self.tracer.recorder() {
            recorder.end(verdict);
        }
    }

    /// What a copy of the frame that outlives the batch takes along.
    #[inline(always)]
    pub(crate) fn trace_tag(&mut self, frame: &Frame<'_>) -> Tag {
        let recorder = self.tracer.recorder();
        recorder.map_or(Tag::NONE, |recorder| recorder.tag(frame))
    }

    /// The last frame the gateway made came of the frame whose turn it is.
    #[inline(always)]
    pub(crate) fn trace_made(&mut self) {
        if let Some(recorder) = self.tracer.recorder()
            && let Some((_, made)) = self.origin.frames.last_mut()
        {
            made.set_tag(recorder.cause());
        }
    }

    /// The NAT is asked next.
    #[inline(always)]
    pub(crate) fn trace_before_nat(&mut self, frame: &Frame<'_>) {
        if let Some(recorder) = self.tracer.recorder() {
            let sessions = self.nat.as_ref().map(|nat| nat.counters().sessions_created);
            recorder.before_nat(frame, sessions.unwrap_or(0));
        }
    }

    /// The NAT has answered.
    #[inline(always)]
    pub(crate) fn trace_nat(
        &mut self,
        frame: &Frame<'_>,
        direction: Direction,
        outcome: nat::Outcome,
    ) {
        if let Some(recorder) = self.tracer.recorder() {
            let sessions = self.nat.as_ref().map(|nat| nat.counters().sessions_created);
            recorder.after_nat(frame, sessions.unwrap_or(0), (direction, outcome));
        }
    }
}

/// The tags of frames that are to be run again, before they are lent to the pipeline.
pub(crate) fn tags(frames: &[OwnedFrame]) -> impl Iterator<Item = Tag> {
    frames.iter().map(OwnedFrame::tag)
}
