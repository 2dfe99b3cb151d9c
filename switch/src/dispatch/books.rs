//! The books of the dispatch: every copy's fate is counted, and traced where tracing is on.

use crate::counters::WorkerCounters;
use crate::frame::{Frame, VNET_HEADER_BYTES};
use crate::port::{PortIndex, SendOutcome};
use crate::trace::{Tag, Tracer};
use crate::verdict::DropReason;

/// Where the fate of every copy is written down.
pub(super) struct Books<'b, T> {
    pub(super) counters: &'b WorkerCounters,
    tracer: T,
}

impl<'b, T: Tracer> Books<'b, T> {
    pub(super) const fn new(counters: &'b WorkerCounters, tracer: T) -> Self {
        Self { counters, tracer }
    }

    /// The copy of the batch's frame in this place, of `sealed_bytes` with the virtio-net header.
    #[inline]
    pub(super) fn settle(
        &mut self,
        (place, egress): (usize, PortIndex),
        sealed_bytes: usize,
        outcome: SendOutcome,
    ) {
        let bytes = sealed_bytes.saturating_sub(VNET_HEADER_BYTES);
        if let Some(reason) = outcome.drop_reason() {
            self.refuse((place, egress), bytes, reason);
            return;
        }
        let port = self.counters.port(egress);
        self.counters.totals.sent.add(1);
        port.sent_frames.add(1);
        port.sent_bytes.add(bytes as u64);
        if let Some(recorder) = self.tracer.recorder() {
            recorder.sent(place, egress, Ok(()), bytes);
        }
    }

    /// The copy of the batch's frame in this place, of `bytes`, goes no further.
    #[inline]
    pub(super) fn refuse(
        &mut self,
        (place, egress): (usize, PortIndex),
        bytes: usize,
        reason: DropReason,
    ) {
        self.counters.port(egress).drop_frames(reason, 1);
        if let Some(recorder) = self.tracer.recorder() {
            recorder.sent(place, egress, Err(reason), bytes);
        }
    }

    /// A frame is sent next that the gateway made because of the packet of `cause`.
    #[inline]
    pub(super) fn begin_made(&mut self, frame: &Frame<'_>, cause: Tag) {
        if let Some(recorder) = self.tracer.recorder() {
            recorder.begin_made(frame, cause);
        }
    }

    /// A frame that the gateway made was sent.
    #[inline]
    pub(super) fn end_made(&mut self, frame: &Frame<'_>) {
        if let Some(recorder) = self.tracer.recorder() {
            recorder.end_made(frame);
        }
    }
}
