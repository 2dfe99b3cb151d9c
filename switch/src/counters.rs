//! Counters: written by one worker, read by anyone.
//!
//! A counter has a single writer, so adding is a plain load and store (no locked instruction), and
//! relaxed ordering is enough: a reader may lag by a few frames but never sees a torn value. They
//! live in memory of their own worker, aligned to cache lines, so that workers do not disturb each
//! other.
//!
//! Two sums always hold once a switch is at rest (`Totals::check`), and every end-to-end test
//! asserts them:
//!
//! ```text
//! received + released + taken over = forwarded + routed + flooded + answered + absorbed
//!                                    + held + handed over + dropped (ingress)
//! copies + originated              = sent + dropped (egress)
//! ```

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limits::PORTS_MAX;
use crate::port::PortIndex;
use crate::verdict::{DropReason, Stage, Verdict};

/// A count with a single writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Only the owning worker may call this.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0
            .store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Begins anew. Only the owning worker may call this.
    pub(crate) fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    /// The count so far.
    #[must_use]
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one worker did at one port.
#[derive(Debug)]
#[repr(align(64))]
pub struct PortCounters {
    /// Frames that came in, those lost in the ring included.
    pub received_frames: Counter,
    /// Bytes that came in.
    pub received_bytes: Counter,
    /// Frames sent out.
    pub sent_frames: Counter,
    /// Bytes sent out.
    pub sent_bytes: Counter,
    drops: [Counter; DropReason::COUNT],
}

impl Default for PortCounters {
    fn default() -> Self {
        Self {
            received_frames: Counter::default(),
            received_bytes: Counter::default(),
            sent_frames: Counter::default(),
            sent_bytes: Counter::default(),
            drops: [const { Counter(AtomicU64::new(0)) }; DropReason::COUNT],
        }
    }
}

impl PortCounters {
    /// Counts `count` frames dropped for `reason`.
    #[inline]
    pub fn drop_frames(&self, reason: DropReason, count: u64) {
        if let Some(counter) = self.drops.get(reason.index()) {
            counter.add(count);
        }
    }

    /// Frames dropped for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason.index()).map_or(0, Counter::get)
    }
}

macro_rules! totals {
    ($($(#[doc = $doc:literal])+ $field:ident,)+) => {
        /// What one worker did in all.
        #[derive(Debug, Default)]
        #[repr(align(64))]
        pub struct TotalCounters {
            $($(#[doc = $doc])+ pub $field: Counter,)+
        }

        /// The sum of [`TotalCounters`] over workers at one moment, with the drops of all ports.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[doc = $doc])+ pub $field: u64,)+
            /// Frames dropped before a copy was made.
            pub dropped_ingress: u64,
            /// Copies a port did not take.
            pub dropped_egress: u64,
        }

        impl TotalCounters {
            fn add_to(&self, totals: &mut Totals) {
                $(totals.$field += self.$field.get();)+
            }
        }
    };
}

totals! {
    /// Frames received from ports.
    received,
    /// Held frames whose neighbour answered, or did not: they came in a second time.
    released,
    /// Frames taken over from other workers.
    taken_over,
    /// Frames sent to one port by the switch.
    forwarded,
    /// Frames sent to one port by the gateway.
    routed,
    /// Frames flooded.
    flooded,
    /// Frames turned round by the gateway.
    answered,
    /// Frames meant for the gateway itself.
    absorbed,
    /// Frames put to wait for a neighbour or for the rest of a fragmented packet.
    held,
    /// Frames handed over to other workers.
    handed_over,
    /// Copies decided: one per forwarded, routed or answered frame, one per port of a flood, one
    /// more for every additional fragment or segment made of a copy.
    copies,
    /// Frames the gateway made itself: ARP requests, ICMP errors.
    originated,
    /// Copies and originated frames a port took.
    sent,
    /// Frames that the kernel carried by the fast path: received, routed and sent, too.
    carried,
    /// Batches processed.
    batches,
    /// Rounds of the worker's loop.
    polls,
    /// Rounds that found frames.
    busy_polls,
    /// Time those rounds took, in nanoseconds; neither spinning nor sleep is in it.
    busy_nanos,
    /// Times it slept.
    sleeps,
}

impl Totals {
    /// The two conservation sums, as (in, out) pairs that must be equal at rest.
    #[must_use]
    pub const fn sums(&self) -> [(u64, u64); 2] {
        [
            (
                self.received + self.released + self.taken_over,
                self.forwarded
                    + self.routed
                    + self.flooded
                    + self.answered
                    + self.absorbed
                    + self.held
                    + self.handed_over
                    + self.dropped_ingress,
            ),
            (
                self.copies + self.originated,
                self.sent + self.dropped_egress,
            ),
        ]
    }

    /// True if no frame is unaccounted for.
    #[must_use]
    pub const fn conserved(&self) -> bool {
        let [ingress, egress] = self.sums();
        ingress.0 == ingress.1 && egress.0 == egress.1
    }
}

/// All counters of one worker.
#[derive(Debug)]
pub struct WorkerCounters {
    ports: Box<[PortCounters]>,
    /// Sums over ports, and what has no port.
    pub totals: TotalCounters,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self {
            ports: (0..PORTS_MAX).map(|_| PortCounters::default()).collect(),
            totals: TotalCounters::default(),
        }
    }
}

impl WorkerCounters {
    /// Counters of one port, which all ports share: for what is counted for nobody.
    pub(crate) fn for_nobody() -> Self {
        Self {
            ports: Box::new([PortCounters::default()]),
            totals: TotalCounters::default(),
        }
    }

    /// The counters of `port`; an index out of range shares the last one's.
    #[must_use]
    #[inline]
    pub fn port(&self, port: PortIndex) -> &PortCounters {
        &self.ports[port.index().min(self.ports.len() - 1)]
    }

    /// Counts the verdict of one frame from `ingress`.
    #[inline]
    pub fn verdict(&self, verdict: Verdict, ingress: PortIndex) {
        let totals = &self.totals;
        match verdict {
            Verdict::Forward(_) => totals.forwarded.add(1),
            Verdict::Route(_) => totals.routed.add(1),
            Verdict::Flood => totals.flooded.add(1),
            Verdict::Answer => totals.answered.add(1),
            Verdict::Absorb => totals.absorbed.add(1),
            Verdict::Hold => totals.held.add(1),
            Verdict::HandOver(_) => totals.handed_over.add(1),
            Verdict::Drop(reason) => self.port(ingress).drop_frames(reason, 1),
        }
    }

    /// Adds this worker's counts to `totals`.
    pub fn add_to(&self, totals: &mut Totals) {
        self.totals.add_to(totals);
        for port in &self.ports {
            for (counter, reason) in port.drops.iter().zip(DropReason::ALL) {
                let count = counter.get();
                if count == 0 {
                    continue;
                }
                match reason.stage() {
                    Stage::Ingress => totals.dropped_ingress += count,
                    Stage::Egress => totals.dropped_egress += count,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_and_drops_add_up() {
        let counters = WorkerCounters::default();
        counters.totals.received.add(3);
        counters.verdict(Verdict::Flood, PortIndex(1));
        counters.verdict(Verdict::Forward(PortIndex(2)), PortIndex(1));
        counters.verdict(Verdict::Drop(DropReason::SamePort), PortIndex(1));
        counters.totals.copies.add(3);
        counters.totals.sent.add(2);
        counters
            .port(PortIndex(2))
            .drop_frames(DropReason::EgressFull, 1);
        let mut totals = Totals::default();
        counters.add_to(&mut totals);
        assert!(totals.conserved(), "{totals:?}");
        counters.totals.received.add(1);
        counters.add_to(&mut totals);
        assert!(!totals.conserved());
    }
}
