//! The books of the dispatch: every copy's fate is counted, kept where it is a drop, and traced
//! where tracing is on.

use crate::drops::{Account, Dropped};
use crate::frame::{Frame, Offload, VNET_HEADER_BYTES};
use crate::port::SendOutcome;
use crate::port::sys::usdt;
use crate::trace::{Tag, Tracer};
use crate::verdict::DropReason;

use super::Place;

/// Where the fate of every copy is written down.
pub(super) struct Books<'b, T> {
    pub(super) account: Account<'b>,
    tracer: T,
}

impl<'b, T: Tracer> Books<'b, T> {
    pub(super) const fn new(account: Account<'b>, tracer: T) -> Self {
        Self { account, tracer }
    }

    /// The copy of the batch's frame in this place, `sealed` with the virtio-net header in front.
    #[inline]
    pub(super) fn settle(&mut self, place: Place, sealed: &[u8], outcome: SendOutcome) {
        let bytes = sealed.len().saturating_sub(VNET_HEADER_BYTES);
        if let Some(reason) = outcome.drop_reason() {
            self.refuse_sealed(place, sealed, reason);
            return;
        }
        let counters = self.account.counters;
        let port = counters.port(place.egress);
        counters.totals.sent.add(1);
        port.sent_frames.add(1);
        port.sent_bytes.add(bytes as u64);
        if usdt::wants_sent() && !self.account.is_tried() {
            usdt::sent(place.egress, bytes);
        }
        if let Some(recorder) = self.tracer.recorder() {
            recorder.sent(place.index, place.egress, Ok(()), bytes);
        }
    }

    #[cold]
    fn refuse_sealed(&mut self, place: Place, sealed: &[u8], reason: DropReason) {
        let (header, bytes) = sealed.split_first_chunk().unwrap_or((&[0; _], &[]));
        // We wrote the header ourselves, so it is one we know.
        let offload = Offload::from_vnet(*header).unwrap_or(Offload::PLAIN);
        self.refuse_bytes(place, bytes, offload, reason);
    }

    /// The copy of the batch's frame in this place goes no further.
    #[cold]
    #[inline(never)]
    pub(super) fn refuse(&mut self, place: Place, frame: &Frame<'_>, reason: DropReason) {
        self.refuse_bytes(place, frame.bytes(), frame.offload, reason);
    }

    fn refuse_bytes(&mut self, place: Place, bytes: &[u8], offload: Offload, reason: DropReason) {
        let dropped = Dropped {
            reason,
            ingress: place.ingress,
            egress: Some(place.egress),
            stage: place.stage,
            offload,
            header: &[],
            bytes,
        };
        self.account.copy_dropped(place.egress, dropped);
        if let Some(recorder) = self.tracer.recorder() {
            recorder.sent(place.index, place.egress, Err(reason), bytes.len());
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
