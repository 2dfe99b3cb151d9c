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
use super::recorder::{HEAD_BYTES_MAX, STEPS_MAX};
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
    /// Bytes of frames of one worker that may wait for the reader: at least a frame for each of
    /// the 8 portions is taken.
    pub bytes: usize,
}

impl Default for Limits {
    /// All headers of usual packets, and 2,048 records: about 2 MB for a worker.
    fn default() -> Self {
        Self {
            snap_bytes: 128,
            records: 2048,
            bytes: 2048 * 2 * 128,
        }
    }
}

impl Limits {
    /// The memory of one worker's records, in bytes.
    #[must_use]
    pub const fn memory_bytes(self) -> usize {
        let record = size_of::<Kept>() + STEPS_PER_RECORD * size_of::<TimedStep>();
        let steps = STEPS_MAX * size_of::<TimedStep>();
        PORTIONS * (self.per_portion() * record + steps + self.bytes_per_portion())
    }

    /// With no more than so many bytes of a frame.
    #[must_use]
    pub const fn within(self, snap_bytes: usize) -> Self {
        Self {
            snap_bytes: smaller(self.snap_bytes, snap_bytes),
            ..self
        }
    }

    /// Room for one frame before and after, at least.
    const fn bytes_per_portion(self) -> usize {
        let least = self.snap_bytes + smaller(self.snap_bytes, HEAD_BYTES_MAX);
        let share = self.bytes / PORTIONS;
        if share < least { least } else { share }
    }

    const fn per_portion(self) -> usize {
        let records = self.records / PORTIONS;
        if records == 0 { 1 } else { records }
    }
}

/// A record without its steps and bytes, which lie beside; see [`Record`].
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Which packet it is.
    pub id: PacketId,
    /// The packet it came of, if the gateway made it.
    pub cause: Option<PacketId>,
    /// When the batch was taken from the ring, by the worker's clock.
    pub batch: Nanos,
    /// The worker's turn in the [journal](crate::journal), while there is one; else 0.
    pub turn: u64,
    /// The first step, by the tracer's clock.
    pub began: Nanos,
    /// Where it came in.
    pub ingress: Option<PortIndex>,
    /// How far it had got before.
    pub stage: Stage,
    /// Its fate.
    pub verdict: Option<Verdict>,
    /// Frames that left, and frames that should have.
    pub copies: (u32, u32),
    /// Steps there was no room for.
    pub steps_lost: u32,
}

const fn smaller(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

/// A frame's bytes, its length and its offload state.
#[derive(Debug, Clone, Copy)]
pub struct SnapRef<'s> {
    /// Its first bytes.
    pub head: &'s [u8],
    /// What follows them, in another place.
    pub tail: &'s [u8],
    /// How many it had.
    pub len: u32,
    /// What its sender left undone.
    pub offload: Offload,
}

impl SnapRef<'_> {
    /// A copy that stands by itself.
    #[must_use]
    pub fn to_snap(self) -> Snap {
        Snap {
            bytes: [self.head, self.tail].concat(),
            len: self.len,
            offload: self.offload,
        }
    }

    /// No more than so many bytes of it.
    fn cut(self, bytes: usize) -> Self {
        let head = self.head.get(..bytes).unwrap_or(self.head);
        let rest = bytes - head.len();
        Self {
            head,
            tail: self.tail.get(..rest).unwrap_or(self.tail),
            ..self
        }
    }
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
            bytes: Vec::with_capacity(limits.bytes_per_portion()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// True if a record with so many bytes of frames might not find room.
    fn is_full(&self, bytes: usize) -> bool {
        let room = |used: usize, all: usize| all - used;
        room(self.heads.len(), self.heads.capacity()) == 0
            || room(self.steps.len(), self.steps.capacity()) < STEPS_MAX
            || room(self.bytes.len(), self.bytes.capacity()) < bytes
    }

    fn push(
        &mut self,
        head: Head,
        steps: &[TimedStep],
        before: SnapRef<'_>,
        after: Option<SnapRef<'_>>,
    ) {
        let mut keep = |snap: SnapRef<'_>| {
            self.bytes.extend_from_slice(snap.head);
            self.bytes.extend_from_slice(snap.tail);
            (snap.head.len() + snap.tail.len(), snap.len, snap.offload)
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
    /// The worker's turn in the [journal](crate::journal): its records of the turns before are all
    /// in this portion or the ones before.
    pub turn: u64,
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
        self.views().map(|view| view.to_record())
    }

    /// The records where they lie, oldest first.
    pub fn views(&self) -> impl Iterator<Item = RecordView<'_>> {
        let mut steps = self.buffers.steps.as_slice();
        let mut bytes = self.buffers.bytes.as_slice();
        let mut snap = move |(kept, len, offload): (usize, u32, Offload)| {
            let (head, rest) = bytes.split_at_checked(kept).unwrap_or_default();
            bytes = rest;
            SnapRef {
                head,
                tail: &[],
                len,
                offload,
            }
        };
        self.buffers.heads.iter().map(move |kept| {
            let (first, rest) = steps.split_at_checked(kept.steps).unwrap_or_default();
            steps = rest;
            let before = snap(kept.before);
            let mut after = kept.after.map(&mut snap);
            if let Some(after) = &mut after
                && (after.head.len(), after.len) == (HEAD_BYTES_MAX, before.len)
            {
                // Only what a translation can change was kept a second time.
                after.tail = before.head.get(HEAD_BYTES_MAX..).unwrap_or_default();
            }
            RecordView {
                worker: self.worker,
                head: kept.head,
                steps: first,
                before,
                after,
            }
        })
    }
}

/// A [`Record`] where it lies.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'p> {
    /// The worker.
    pub worker: u16,
    /// What there is to say of the packet.
    pub head: Head,
    /// What was decided, in order.
    pub steps: &'p [TimedStep],
    /// As it came.
    pub before: SnapRef<'p>,
    /// As it left, if that is something else.
    pub after: Option<SnapRef<'p>>,
}

impl RecordView<'_> {
    /// A copy that stands by itself.
    #[must_use]
    pub fn to_record(&self) -> Record {
        let head = self.head;
        Record {
            id: head.id,
            cause: head.cause,
            worker: self.worker,
            batch: head.batch,
            began: head.began,
            ingress: head.ingress,
            stage: head.stage,
            before: self.before.to_snap(),
            after: self.after.map(SnapRef::to_snap),
            steps: self.steps.to_vec(),
            steps_lost: head.steps_lost,
            verdict: head.verdict,
            copies: head.copies,
        }
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
    turn: u64,
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
            turn: 0,
            lost: 0,
            lost_told: 0,
            reader_is_gone: false,
        }
    }

    pub(super) const fn limits(&self) -> Limits {
        self.limits
    }

    /// What is recorded from now on is of this turn.
    pub(super) const fn begin_turn(&mut self, turn: u64) {
        self.turn = turn;
    }

    /// True where there is nothing to send, and no loss to be told.
    pub(super) fn is_out(&self) -> bool {
        let has_none = self.filling.as_ref().is_none_or(Buffers::is_empty);
        has_none && self.lost == self.lost_told
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
        let before = before.cut(self.limits.snap_bytes);
        let after = after.map(|after| after.cut(self.limits.snap_bytes));
        let bytes = |snap: SnapRef<'_>| snap.head.len() + snap.tail.len();
        let needs = bytes(before) + after.map_or(0, bytes);
        if (self.filling.as_ref()).is_some_and(|filling| filling.is_full(needs)) {
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
            turn: self.turn,
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
