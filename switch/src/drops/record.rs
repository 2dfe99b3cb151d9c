//! One dropped frame.

use std::fmt;

use nat::Nanos;

use crate::frame::{Offload, Stage};
use crate::limits::DROP_BYTES;
use crate::port::{NOWHERE, PortIndex};
use crate::verdict::{self, DropReason};

/// A frame that is dropped, before anything of it is kept.
#[derive(Debug, Clone, Copy)]
pub struct Dropped<'f> {
    /// Why.
    pub reason: DropReason,
    /// Where it came in; the index of no port for what the gateway made for nobody's packet.
    pub ingress: PortIndex,
    /// Which port did not take it; `None` where it was dropped before that.
    pub egress: Option<PortIndex>,
    /// How far it had got.
    pub stage: Stage,
    /// What its sender left undone.
    pub offload: Offload,
    /// An Ethernet header in front of the bytes, for a packet that has none any more.
    pub header: &'f [u8],
    /// The frame.
    pub bytes: &'f [u8],
}

/// What is kept of a dropped frame.
#[derive(Clone, PartialEq, Eq)]
pub struct DropRecord {
    /// Why it was dropped.
    pub reason: DropReason,
    /// When its batch was taken from the ring, by the workers' clock.
    pub at: Nanos,
    /// How many frames its worker has kept for this reason by then, itself included.
    pub number: u64,
    /// Where it came in; `None` for what the gateway made for nobody's packet, and where that port
    /// is gone and another has its place.
    pub ingress: Option<PortIndex>,
    /// Which port did not take it, of a drop at an egress.
    pub egress: Option<PortIndex>,
    /// How far it had got: of what came in, only [`Stage::Arrived`] is as it came.
    pub stage: Stage,
    /// What its sender left undone.
    pub offload: Offload,
    /// How many bytes it had.
    pub len: u32,
    held: u8,
    head: [u8; DROP_BYTES],
}

impl DropRecord {
    /// Memory for a record that is still to come.
    pub(super) const fn unused(reason: DropReason) -> Self {
        Self {
            reason,
            at: Nanos::ZERO,
            number: 0,
            ingress: None,
            egress: None,
            stage: Stage::Arrived,
            offload: Offload::PLAIN,
            len: 0,
            held: 0,
            head: [0; DROP_BYTES],
        }
    }

    pub(super) fn write(&mut self, at: Nanos, number: u64, dropped: Dropped<'_>) {
        let whole = dropped.header.len() + dropped.bytes.len();
        self.at = at;
        self.number = number;
        self.ingress = (dropped.ingress != NOWHERE).then_some(dropped.ingress);
        self.egress = dropped.egress;
        self.stage = dropped.stage;
        self.offload = dropped.offload;
        self.len = u32::try_from(whole).unwrap_or(u32::MAX);
        self.held = u8::try_from(whole.min(DROP_BYTES)).unwrap_or(u8::MAX);
        let headed = dropped.header.len().min(DROP_BYTES);
        let (header, head) = self.head.split_at_mut(headed);
        header.copy_from_slice(&dropped.header[..headed]);
        let count = dropped.bytes.len().min(head.len());
        head[..count].copy_from_slice(&dropped.bytes[..count]);
    }

    /// Its first bytes, from the destination address on.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.head.get(..usize::from(self.held)).unwrap_or_default()
    }

    /// The port at which the drop is counted.
    #[must_use]
    pub const fn counted_at(&self) -> Option<PortIndex> {
        match self.reason.stage() {
            verdict::Stage::Ingress => self.ingress,
            verdict::Stage::Egress => self.egress,
        }
    }
}

impl fmt::Debug for DropRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DropRecord")
            .field("reason", &self.reason)
            .field("at", &self.at)
            .field("number", &self.number)
            .field("ports", &(self.ingress, self.egress))
            .field("stage", &self.stage)
            .field("len", &self.len)
            .field("packet", &crate::trace::summary(self.bytes()))
            .finish_non_exhaustive()
    }
}
