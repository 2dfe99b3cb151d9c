//! Records on their way to the reader, in memory that goes back and forth.
//!
//! Steps and bytes of many records lie one behind the other, so that a worker that records takes
//! no memory and gives none back. The reader takes them out as [`Record`]s of their own.

use crossbeam_channel::{Receiver, Sender, bounded};
use nat::Nanos;

use crate::frame::{Offload, Stage};
use crate::port::PortIndex;
use crate::verdict::Verdict;

use super::record::{PacketId, Record, Snap};
use super::recorder::STEPS_MAX;
use super::steps::TimedStep;

/// Portions of one worker: some with the reader, some on the way, one that fills.
const PORTIONS: usize = 8;

/// Room for steps, in so many per record: a routed packet takes about 9.
const STEPS_PER_RECORD: usize = 12;

/// How much memory tracing takes, all of it when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes kept of a frame as it came, and as many of it as it left: 14 and more.
    pub snap_bytes: usize,
    /// Records of one worker that may wait for the reader, 8 and more.
    pub records: usize,
}

impl Default for Limits {
    /// All headers of usual packets, and 2,048 records: about 2 MB for a worker.
    fn default() -> Self {
        Self {
            snap_bytes: 128,
            records: 2048,
        }
    }
}

impl Limits {
    /// The memory of one worker's records, in bytes.
    #[must_use]
    pub const fn memory_bytes(self) -> usize {
        let record =
            size_of::<Kept>() + STEPS_PER_RECORD * size_of::<TimedStep>() + 2 * self.snap_bytes;
        PORTIONS * (self.per_portion() * record + STEPS_MAX * size_of::<TimedStep>())
    }

    const fn per_portion(self) -> usize {
        let records = self.records / PORTIONS;
        if records == 0 { 1 } else { records }
    }
}

/// A record without its steps and bytes, which lie beside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) id: PacketId,
    pub(super) cause: Option<PacketId>,
    pub(super) batch: Nanos,
    pub(super) began: Nanos,
    pub(super) ingress: Option<PortIndex>,
    pub(super) stage: Stage,
    pub(super) verdict: Option<Verdict>,
    pub(super) copies: (u32, u32),
    pub(super) steps_lost: u32,
}

/// A frame's first bytes, its length and its offload state.
#[derive(Debug, Clone, Copy)]
pub(super) struct SnapRef<'s> {
    pub(super) bytes: &'s [u8],
    pub(super) len: u32,
    pub(super) offload: Offload,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    head: Head,
    steps: usize,
    before: (usize, u32, Offload),
    after: Option<(usize, u32, Offload)>,
}

#[derive(Debug, Default)]
pub(super) struct Buffers {
    heads: Vec<Kept>,
    steps: Vec<TimedStep>,
    bytes: Vec<u8>,
}

impl Buffers {
    fn new(limits: Limits) -> Self {
        let records = limits.per_portion();
        Self {
            heads: Vec::with_capacity(records),
            // The last record may have all the steps there can be.
            steps: Vec::with_capacity(records * STEPS_PER_RECORD + STEPS_MAX),
            bytes: Vec::with_capacity(records * 2 * limits.snap_bytes),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// True if one more record might not find room.
    fn is_full(&self, limits: Limits) -> bool {
        let room = |used: usize, all: usize| all - used;
        room(self.heads.len(), self.heads.capacity()) == 0
            || room(self.steps.len(), self.steps.capacity()) < STEPS_MAX
            || room(self.bytes.len(), self.bytes.capacity()) < 2 * limits.snap_bytes
    }

    fn push(
        &mut self,
        head: Head,
        steps: &[TimedStep],
        before: SnapRef<'_>,
        after: Option<SnapRef<'_>>,
    ) {
        let mut keep = |snap: SnapRef<'_>| {
            self.bytes.extend_from_slice(snap.bytes);
            (snap.bytes.len(), snap.len, snap.offload)
        };
        let (before, after) = (keep(before), after.map(keep));
        self.steps.extend_from_slice(steps);
        self.heads.push(Kept {
            head,
            steps: steps.len(),
            before,
            after,
        });
    }

    fn clear(&mut self) {
        self.heads.clear();
        self.steps.clear();
        self.bytes.clear();
    }
}

/// Records of one worker, in order. Its memory goes back to the worker when it is dropped.
#[derive(Debug)]
pub struct TracePortion {
    /// The worker.
    pub worker: u16,
    /// Records the worker has lost so far for want of memory: the reader was too slow.
    pub lost: u64,
    buffers: Buffers,
    home: Sender<Buffers>,
}

impl TracePortion {
    /// How many records there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.buffers.heads.len()
    }

    /// True where it only tells of lost records.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.buffers.heads.is_empty()
    }

    /// The records, oldest first.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let mut steps = self.buffers.steps.as_slice();
        let mut bytes = self.buffers.bytes.as_slice();
        let mut snap = move |(kept, len, offload): (usize, u32, Offload)| {
            let (first, rest) = bytes.split_at_checked(kept).unwrap_or_default();
            bytes = rest;
            Snap {
                bytes: first.to_vec(),
                len,
                offload,
            }
        };
        self.buffers.heads.iter().map(move |kept| {
            let (first, rest) = steps.split_at_checked(kept.steps).unwrap_or_default();
            steps = rest;
            let head = kept.head;
            Record {
                id: head.id,
                cause: head.cause,
                worker: self.worker,
                batch: head.batch,
                began: head.began,
                ingress: head.ingress,
                stage: head.stage,
                before: snap(kept.before),
                after: kept.after.map(&mut snap),
                steps: first.to_vec(),
                steps_lost: head.steps_lost,
                verdict: head.verdict,
                copies: head.copies,
            }
        })
    }
}

impl Drop for TracePortion {
    fn drop(&mut self) {
        let mut buffers = std::mem::take(&mut self.buffers);
        buffers.clear();
        // Where tracing has ended meanwhile, the memory goes with it.
        let _ = self.home.try_send(buffers);
    }
}

/// One worker's end: fills portions and sends them off.
#[derive(Debug)]
pub(super) struct Outbox {
    worker: u16,
    limits: Limits,
    reader: Sender<TracePortion>,
    home: Sender<Buffers>,
    empty: Receiver<Buffers>,
    filling: Option<Buffers>,
    lost: u64,
    /// What of it the reader was told.
    lost_told: u64,
    reader_is_gone: bool,
}

impl Outbox {
    /// Takes all the memory there will be.
    fn new(worker: u16, limits: Limits, reader: Sender<TracePortion>) -> Self {
        let (home, empty) = bounded(PORTIONS);
        for _ in 0..PORTIONS {
            // There is room for each.
            let _ = home.try_send(Buffers::new(limits));
        }
        Self {
            worker,
            limits,
            reader,
            home,
            empty,
            filling: None,
            lost: 0,
            lost_told: 0,
            reader_is_gone: false,
        }
    }

    pub(super) const fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) const fn reader_is_gone(&self) -> bool {
        self.reader_is_gone
    }

    /// Adds a record, or counts it as lost.
    pub(super) fn push(
        &mut self,
        head: Head,
        steps: &[TimedStep],
        before: SnapRef<'_>,
        after: Option<SnapRef<'_>>,
    ) {
        if (self.filling.as_ref()).is_some_and(|filling| filling.is_full(self.limits)) {
            self.send();
        }
        if self.filling.is_none() {
            self.filling = self.empty.try_recv().ok();
        }
        match &mut self.filling {
            Some(filling) => filling.push(head, steps, before, after),
            None => self.lost += 1,
        }
    }

    /// Sends what there is, unless the reader has a portion still: then this one fills up, so that
    /// a reader who is late finds few portions and not one for each batch.
    pub(super) fn offer(&mut self) {
        let is_here = usize::from(self.filling.is_some());
        if self.empty.len() + is_here == PORTIONS {
            self.send();
        }
    }

    /// Sends the last there is, or at least how many were lost.
    pub(super) fn finish(&mut self) {
        if self.filling.is_none() && self.lost > self.lost_told {
            self.filling = Some(self.empty.try_recv().unwrap_or_default());
        }
        self.send();
    }

    fn send(&mut self) {
        let has_news = |filling: &mut Buffers| !filling.is_empty() || self.lost > self.lost_told;
        let Some(buffers) = self.filling.take_if(has_news) else {
            return;
        };
        self.lost_told = self.lost;
        let portion = TracePortion {
            worker: self.worker,
            lost: self.lost,
            buffers,
            home: self.home.clone(),
        };
        // There is room for all portions of all workers.
        self.reader_is_gone = self.reader.try_send(portion).is_err();
    }
}

/// Outboxes of `workers` workers, and what they send.
pub(super) fn outboxes(
    workers: u16,
    limits: Limits,
) -> (impl Iterator<Item = Outbox>, Receiver<TracePortion>) {
    // One more for each worker's last word, should all others be out.
    let (sender, receiver) = bounded(usize::from(workers) * (PORTIONS + 1));
    let outboxes = (0..workers).map(move |worker| Outbox::new(worker, limits, sender.clone()));
    (outboxes, receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_what_the_limits_say() {
        let bytes = Limits::default().memory_bytes();
        assert!((1_500_000..2_500_000).contains(&bytes), "{bytes}");
        let (mut outboxes, _reader) = outboxes(1, Limits::default());
        let outbox = outboxes.next().unwrap();
        let taken = outbox.empty.try_iter().map(|buffers| {
            buffers.heads.capacity() * size_of::<Kept>()
                + buffers.steps.capacity() * size_of::<TimedStep>()
                + buffers.bytes.capacity()
        });
        assert_eq!(taken.sum::<usize>(), bytes);
    }
}
