//! Where verdicts and copies are counted, and what was dropped is kept.

use nat::Nanos;

use crate::counters::WorkerCounters;
use crate::ethernet;
use crate::frame::{Frame, Offload, Stage};
use crate::mac::Mac;
use crate::port::PortIndex;
use crate::port::sys::usdt;
use crate::verdict::{DropReason, Verdict};

use super::{Dropped, Drops};

/// One worker's account of a batch.
#[derive(Debug)]
pub struct Account<'a> {
    /// What is counted.
    pub counters: &'a WorkerCounters,
    /// What is kept.
    pub drops: &'a mut Drops,
    /// When the batch was taken from its ring.
    pub now: Nanos,
}

impl Account<'_> {
    /// True of what is only tried out: nobody is told of it.
    pub(crate) const fn is_tried(&self) -> bool {
        self.drops.is_paused()
    }

    /// The verdict of a frame.
    // Always in line: with tracing it is compiled twice, and the compiler would call it instead.
    #[inline(always)]
    pub fn verdict(&mut self, verdict: Verdict, frame: &Frame<'_>) {
        self.counters.verdict(verdict, frame.ingress);
        if let Verdict::Drop(reason) = verdict {
            self.frame_dropped(reason, frame);
        }
    }

    #[inline(never)]
    fn frame_dropped(&mut self, reason: DropReason, frame: &Frame<'_>) {
        self.tell(frame.ingress, reason);
        self.drops.keep(
            self.now,
            Dropped {
                reason,
                ingress: frame.ingress,
                egress: None,
                stage: frame.stage,
                offload: frame.offload,
                header: &[],
                bytes: frame.bytes(),
            },
        );
    }

    /// The verdict of a packet that the NAT had kept as a fragment and let go: it came in by
    /// `ingress`, and its Ethernet header is not known any more.
    pub fn packet_verdict(&mut self, verdict: Verdict, ingress: PortIndex, packet: &[u8]) {
        self.counters.verdict(verdict, ingress);
        if let Verdict::Drop(reason) = verdict {
            self.tell(ingress, reason);
            let header = ethernet::header(Mac::ZERO, Mac::ZERO, ethernet::IPV4);
            self.drops.keep(
                self.now,
                Dropped {
                    reason,
                    ingress,
                    egress: None,
                    stage: Stage::Arrived,
                    offload: Offload::PLAIN,
                    header: &header,
                    bytes: packet,
                },
            );
        }
    }

    /// A copy that `egress` did not take.
    pub fn copy_dropped(&mut self, egress: PortIndex, dropped: Dropped<'_>) {
        self.counters.port(egress).drop_frames(dropped.reason, 1);
        self.tell(egress, dropped.reason);
        self.drops.keep(self.now, dropped);
    }

    /// Tells whoever listens by a probe; of what is only tried, nobody hears.
    #[inline]
    fn tell(&self, port: PortIndex, reason: DropReason) {
        if usdt::wants_dropped() && !self.is_tried() {
            usdt::dropped(port, reason, 1);
        }
    }
}
