//! What was dropped: the packets of drops, always kept.
//!
//! # Theory of operation
//!
//! A counter says that frames died and how many; it does not say whose. So each worker keeps, for
//! each reason, the first [`DROPS_FIRST`] frames it dropped since the start (or since they were
//! forgotten) and the last [`DROPS_LAST`]: when, from which port, to which, how long they were, and
//! their first [`DROP_BYTES`](crate::limits::DROP_BYTES) bytes. All memory is taken when the worker
//! is made, so a storm of drops needs no more of it than one; a frame that is not dropped costs
//! nothing, and one that is costs the copy of its head.
//!
//! ```text
//! Account::verdict          a frame is dropped as a whole     \
//! Account::copy_dropped     a port does not take a copy        >  counted, and kept
//! Account::packet_verdict   a fragment that the NAT let go    /
//! Worker::report_drops      between two batches, what is kept is copied to whoever asks
//! kept                      the workers' reports as one: the first and the last of the switch
//! ```
//!
//! [`Account`] is the only place where a verdict or a copy's end is counted, so what is counted is
//! kept. The exception are losses in a ring, of which there is no frame to keep: they are counted
//! when the kernel tells their number.
//!
//! The bytes are those the frame had when it was dropped. A frame that came in is dropped as it
//! came, but for those that were translated before ([`DropRecord::stage`]); a copy that a port did
//! not take is as it would have left.

mod account;
mod record;

pub use account::Account;
pub use record::{DropRecord, Dropped};

use nat::Nanos;

use crate::limits::{DROPS_FIRST, DROPS_LAST};
use crate::port::PortIndex;
use crate::verdict::DropReason;

/// Records of one reason.
const PER_REASON: usize = DROPS_FIRST + DROPS_LAST;

/// What one worker keeps.
#[derive(Debug)]
pub struct Drops {
    /// By reason, [`PER_REASON`] each: the first, then the ring of the last.
    slots: Box<[DropRecord]>,
    /// Frames kept for each reason, those since overwritten included.
    seen: [u64; DropReason::COUNT],
    is_paused: bool,
}

impl Default for Drops {
    fn default() -> Self {
        let slots = DropReason::ALL
            .iter()
            .flat_map(|reason| (0..PER_REASON).map(|_| DropRecord::unused(*reason)));
        Self {
            slots: slots.collect(),
            seen: [0; DropReason::COUNT],
            is_paused: false,
        }
    }
}

impl Drops {
    /// Bytes of memory it takes, whatever happens.
    #[must_use]
    pub const fn memory_bytes() -> usize {
        PER_REASON * DropReason::COUNT * size_of::<DropRecord>()
    }

    /// Keeps a frame that was dropped at `at`.
    // Out of line: what is not dropped is not to have it in the way.
    #[cold]
    #[inline(never)]
    pub fn keep(&mut self, at: Nanos, dropped: Dropped<'_>) {
        if self.is_paused {
            return;
        }
        let index = dropped.reason.index();
        let Some(seen) = self.seen.get_mut(index) else {
            return;
        };
        let place = place_of(*seen);
        *seen += 1;
        let number = *seen;
        if let Some(slot) = self.slots.get_mut(index * PER_REASON + place) {
            slot.write(at, number, dropped);
        }
    }

    /// Frames kept for `reason` since the start, those since overwritten included.
    #[must_use]
    pub fn seen(&self, reason: DropReason) -> u64 {
        self.seen.get(reason.index()).copied().unwrap_or(0)
    }

    /// The records of `reason`, or of all reasons, the oldest of each first.
    #[must_use]
    pub fn records(&self, reason: Option<DropReason>) -> Vec<DropRecord> {
        let wanted = |of: &&DropReason| reason.is_none_or(|wanted| wanted == **of);
        let mut records = Vec::new();
        for of in DropReason::ALL.iter().filter(wanted) {
            let from = of.index() * PER_REASON;
            let used = usize::try_from(self.seen(*of)).unwrap_or(usize::MAX);
            let used = self.slots.get(from..from + used.min(PER_REASON));
            let before = records.len();
            records.extend_from_slice(used.unwrap_or_default());
            records[before..].sort_unstable_by_key(|record| record.number);
        }
        records
    }

    /// Keeps nothing for a while: what is only tried out is no drop.
    pub(crate) const fn pause(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    pub(crate) const fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Forgets all of them: the next are the first.
    pub fn forget(&mut self) {
        self.seen = [0; DropReason::COUNT];
    }

    /// Another port has an index now: what was kept of the one before is of no port any more.
    pub(crate) fn forget_ports(&mut self, is_another: impl Fn(PortIndex) -> bool) {
        let is_other = |port: &mut PortIndex| is_another(*port);
        for slot in &mut self.slots {
            slot.ingress.take_if(is_other);
            slot.egress.take_if(is_other);
        }
    }
}

/// The record of the frame before which `seen` were kept, among those of its reason.
fn place_of(seen: u64) -> usize {
    // Beyond what an address can count to, any place of the ring will do.
    let seen = usize::try_from(seen).unwrap_or(usize::MAX);
    match seen.checked_sub(DROPS_FIRST) {
        None => seen,
        Some(after) => DROPS_FIRST + after % DROPS_LAST,
    }
}

/// What a switch keeps of one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The reason.
    pub reason: DropReason,
    /// The first [`DROPS_FIRST`] frames at most, the oldest first.
    pub first: Vec<DropRecord>,
    /// The last [`DROPS_LAST`] at most that are not among the first, the oldest first.
    pub last: Vec<DropRecord>,
}

impl Kept {
    /// All of them, the oldest first.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &DropRecord> {
        self.first.iter().chain(&self.last)
    }
}

/// The workers' records as one: each worker keeps as many as are kept in all, so none that belongs
/// to the first or the last of the switch is missing. Reasons without a record are left out.
#[must_use]
pub fn kept(workers: impl IntoIterator<Item = Vec<DropRecord>>) -> Vec<Kept> {
    let mut of_reason: Vec<Vec<DropRecord>> = vec![Vec::new(); DropReason::COUNT];
    for record in workers.into_iter().flatten() {
        if let Some(records) = of_reason.get_mut(record.reason.index()) {
            records.push(record);
        }
    }
    let whole = of_reason.into_iter().zip(DropReason::ALL);
    let whole = whole.filter(|(records, _)| !records.is_empty());
    let whole = whole.map(|(mut records, reason)| {
        // Stable: those of one moment stay in their worker's order.
        records.sort_by_key(|record| record.at);
        let mut last = records.split_off(records.len().min(DROPS_FIRST));
        last.drain(..last.len().saturating_sub(DROPS_LAST));
        Kept {
            reason: *reason,
            first: records,
            last,
        }
    });
    whole.collect()
}

#[cfg(test)]
mod tests;
