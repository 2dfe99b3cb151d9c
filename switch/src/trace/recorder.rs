//! One worker's recorder: drafts of a batch's frames, and what each reader chooses among them.

use std::fmt;
use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam_channel::Receiver;
use nat::{Direction, Nanos, Outcome, ReleasedPacket};

use crate::ethernet::{self, HEADER_BYTES};
use crate::frame::{Frame, Offload, OwnedFrame, Stage};
use crate::limits::BATCH_FRAMES_MAX;
use crate::mac::Mac;
use crate::port::{NOWHERE, PortIndex};
use crate::verdict::{DropReason, Verdict};

use super::draft::{Draft, candidate};
use super::fragment::fragment_key;
use super::portion::{Head, Limits, SnapRef, TracePortion};
use super::record::{PacketId, Tag};
use super::selector::{Fate, Seen, Selector, seen};
use super::steps::{HeldFor, Nat, Step, TimedStep, Tuple, Tx};
use super::tap::{Ends, GivenOut, TAPS_MAX, Tap, TapId, Taps, taps};

/// Steps of one record; a flood to more ports tells of the first.
pub(super) const STEPS_MAX: usize = 40;

/// Fragments that wait in the NAT and are known by their content; the oldest makes room.
const FRAGMENTS_MAX: usize = 64;

/// Bytes of a draft, which no translation reaches beyond: the rest of a frame leaves as it came.
pub(super) const HEAD_BYTES_MAX: usize = 2048;

/// The time within a batch, for the times of steps. It may differ from the workers' clock.
pub type Clock = Arc<dyn Fn() -> Nanos + Send + Sync>;

/// See the module's theory of operation.
pub struct Recorder {
    worker: u16,
    clock: Clock,
    taps: ArrayVec<Tap, TAPS_MAX>,
    /// The bit that was given out last: they take turns, so that a tag which still travels names
    /// nobody else.
    last_bit: Taps,
    /// The most any tap keeps of a frame.
    snap_bytes: usize,
    /// Some tap wants each step's time.
    timed: bool,
    /// Packets named so far.
    named: u64,
    batch: Nanos,
    /// The turn in the journal; 0: there is none.
    turn: u64,
    /// Of frames that come a second time, before they are lent to the pipeline.
    tags: ArrayVec<Tag, BATCH_FRAMES_MAX>,
    drafts: Vec<Draft>,
    /// Drafts in use; the last is that of the frame whose turn it is.
    used: usize,
    before_nat: (u64, Option<Tuple>),
    fragments: ArrayVec<(u64, Tag), FRAGMENTS_MAX>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("worker", &self.worker)
            .field("taps", &self.taps)
            .finish_non_exhaustive()
    }
}

/// Recorders for `workers` workers with one tap each, and what they record.
pub(crate) fn recorders(
    workers: u16,
    (id, selector): (TapId, Selector),
    limits: Limits,
    clock: Clock,
) -> (impl Iterator<Item = Recorder>, Receiver<TracePortion>) {
    let (taps, reader) = taps(workers, id, selector, limits);
    let make = move |(worker, tap)| Recorder::new(worker, tap, Arc::clone(&clock));
    ((0..workers).zip(taps).map(make), reader)
}

impl Recorder {
    /// A recorder by itself, without a switch, and what it records.
    #[must_use]
    pub fn alone(
        selector: Selector,
        limits: Limits,
        clock: Clock,
    ) -> Option<(Self, Receiver<TracePortion>)> {
        let (mut recorders, reader) = recorders(1, (TapId(0), selector), limits, clock);
        Some((recorders.next()?, reader))
    }

    fn new(worker: u16, tap: Tap, clock: Clock) -> Self {
        let head_bytes = tap.outbox.limits().snap_bytes.min(HEAD_BYTES_MAX);
        let mut recorder = Self {
            worker,
            clock,
            taps: ArrayVec::new(),
            last_bit: 0,
            snap_bytes: 0,
            timed: false,
            named: 0,
            batch: Nanos::ZERO,
            turn: 0,
            tags: ArrayVec::new(),
            drafts: (0..BATCH_FRAMES_MAX)
                .map(|_| Draft::new(head_bytes))
                .collect(),
            used: 0,
            before_nat: (0, None),
            fragments: ArrayVec::new(),
        };
        recorder.add(tap);
        recorder
    }

    /// Takes over the taps of another one, between two batches. The reader of one for which there
    /// is no room finds its channel at its end.
    pub(crate) fn join(&mut self, mut other: Box<Self>) {
        // The longer drafts serve both.
        if other.snap_bytes > self.snap_bytes {
            std::mem::swap(&mut self.drafts, &mut other.drafts);
        }
        let room = self.taps.remaining_capacity();
        for tap in std::mem::take(&mut other.taps).into_iter().take(room) {
            self.add(tap);
        }
    }

    fn add(&mut self, mut tap: Tap) {
        let taken = self.taps.iter().fold(0, |taken, tap| taken | tap.bit);
        let mut bit = self.last_bit.rotate_left(1).max(1);
        // There are as many bits as taps, and one is free.
        while bit & taken != 0 {
            bit = bit.rotate_left(1);
        }
        (tap.bit, self.last_bit) = (bit, bit);
        self.taps.push(tap);
        self.measure();
    }

    fn measure(&mut self) {
        let snap_bytes = |tap: &Tap| tap.outbox.limits().snap_bytes;
        self.snap_bytes = self.taps.iter().map(snap_bytes).max().unwrap_or(0);
        self.timed = self.taps.iter().any(|tap| tap.selector.timed);
    }

    /// Ends the tap of that name. What it has recorded still goes to its reader.
    pub(crate) fn end_tap(&mut self, id: TapId) {
        self.taps.retain(|tap| {
            if tap.id == id {
                tap.outbox.finish();
            }
            tap.id != id
        });
        self.measure();
    }

    /// True where nobody reads any more.
    pub(crate) fn is_idle(&self) -> bool {
        self.taps.is_empty()
    }

    /// What the next recorder of this worker has to go on from.
    pub(crate) const fn given_out(&self) -> GivenOut {
        GivenOut {
            named: self.named,
            last_bit: self.last_bit,
        }
    }

    /// Goes on where the recorder before has ended: with another number for each packet, and with
    /// other bits for its taps. All workers are told of each reader in the same order, and so agree
    /// on its bit.
    pub(crate) fn go_on_from(&mut self, before: GivenOut) {
        (self.named, self.last_bit) = (before.named, before.last_bit);
        for tap in std::mem::take(&mut self.taps) {
            self.add(tap);
        }
    }

    /// What comes is of this turn of the journal's.
    pub(crate) fn begin_turn(&mut self, turn: u64) {
        self.turn = turn;
        for tap in &mut self.taps {
            tap.outbox.begin_turn(turn);
        }
    }

    /// True where all that was recorded for a tap is on its way to the reader.
    pub(crate) fn is_out(&self, id: TapId) -> bool {
        let mut taps = self.taps.iter().filter(|tap| tap.id == id);
        taps.all(|tap| tap.outbox.is_out())
    }

    /// A batch comes that was taken from its ring at `now`.
    pub fn begin_batch(&mut self, now: Nanos) {
        self.batch = now;
        self.used = 0;
    }

    /// The frames of the next batch come a second time, with these tags.
    pub(crate) fn resume(&mut self, tags: impl Iterator<Item = Tag>) {
        self.tags = tags.take(BATCH_FRAMES_MAX).collect();
    }

    /// A frame's turn begins.
    pub(super) fn begin(&mut self, frame: &Frame<'_>) {
        let tag = self.tags.get(self.used).copied().unwrap_or(Tag::NONE);
        let came_before = tag.id != PacketId::NONE;
        let tag = if came_before {
            tag
        } else {
            Tag {
                id: self.name(),
                ingress: frame.ingress,
                ..Tag::NONE
            }
        };
        let step = if came_before || frame.stage != Stage::Arrived {
            Step::Resumed(frame.stage)
        } else {
            Step::Rx(frame.ingress)
        };
        self.open(frame, came_before, tag);
        self.step(step);
    }

    fn name(&mut self) -> PacketId {
        self.named += 1;
        PacketId::new(self.worker, self.named)
    }

    /// Who may want the frame, and who does as it came.
    fn candidates(&mut self, frame: &Frame<'_>, came_before: bool, tag: Tag) -> (Taps, Taps) {
        let seen = Seen {
            ingress: tag.ingress,
            ..seen(frame, self.worker)
        };
        let (mut candidates, mut wanted) = (0, 0);
        for tap in &mut self.taps {
            if tap.of(tag.chosen) || tap.may_want(tag.ingress, came_before) {
                candidates |= tap.bit;
                if tap.selector.wants(&seen) {
                    wanted |= tap.bit;
                }
            }
        }
        (candidates, wanted)
    }

    fn open(&mut self, frame: &Frame<'_>, came_before: bool, tag: Tag) {
        let (candidates, wanted) = self.candidates(frame, came_before, tag);
        let is_candidate = candidates != 0;
        let began = if is_candidate {
            (self.clock)()
        } else {
            Nanos::ZERO
        };
        let head_bytes = self.snap_bytes.min(HEAD_BYTES_MAX);
        let Some(draft) = self.drafts.get_mut(self.used) else {
            return;
        };
        self.used += 1;
        draft.tag = tag;
        draft.candidates = candidates;
        draft.wanted = wanted;
        draft.cause = None;
        draft.began = began;
        draft.ingress = tag.ingress;
        draft.stage = frame.stage;
        draft.bytes.clear();
        draft.len = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        draft.offload = frame.offload;
        draft.steps.clear();
        draft.steps_lost = 0;
        draft.verdict = None;
        draft.copies = (0, 0);
        if is_candidate {
            draft
                .bytes
                .extend_from_slice(head(frame.bytes(), head_bytes));
        }
    }

    fn current(&mut self) -> Option<&mut Draft> {
        self.drafts.get_mut(self.used.checked_sub(1)?)
    }

    /// A decision about the frame whose turn it is.
    pub(super) fn step(&mut self, step: Step) {
        if let Some(place) = self.used.checked_sub(1) {
            self.step_of(place, step);
        }
    }

    fn step_of(&mut self, place: usize, step: Step) {
        let Some(draft) = candidate(&mut self.drafts, place) else {
            return;
        };
        let after = if self.timed {
            (self.clock)().saturating_sub(draft.began).0
        } else {
            0
        };
        let after = u32::try_from(after).unwrap_or(u32::MAX);
        if draft.steps.try_push(TimedStep { after, step }).is_err() {
            draft.steps_lost += 1;
        }
    }

    /// The turn of a frame is over.
    pub(super) fn end(&mut self, verdict: Verdict) {
        self.step(Step::Verdict(verdict));
        if let Some(draft) = self.current() {
            draft.verdict = Some(verdict);
        }
    }

    /// The verdict of the batch's frame in this place has become another.
    pub(crate) fn corrected(&mut self, place: usize, verdict: Verdict) {
        let draft = self.drafts.get_mut(place);
        if let Some(draft) = draft.filter(|draft| draft.verdict != Some(verdict)) {
            draft.verdict = Some(verdict);
            self.step_of(place, Step::Verdict(verdict));
        }
    }

    /// What a copy of the frame whose turn it is takes along, to where its way goes on.
    pub(super) fn tag(&mut self, frame: &Frame<'_>) -> Tag {
        self.used
            .checked_sub(1)
            .map_or(Tag::NONE, |place| self.tag_of(place, frame))
    }

    /// As [`tag`](Self::tag), of the batch's frame in this place.
    pub(crate) fn tag_of(&mut self, place: usize, frame: &Frame<'_>) -> Tag {
        let chosen = self.chosen(place, frame);
        let tag = self.drafts.get(place).map_or(Tag::NONE, |draft| draft.tag);
        Tag { chosen, ..tag }
    }

    /// What a frame takes along that was made because of the one whose turn it is.
    pub(super) fn cause(&mut self) -> Tag {
        let all = self.taps.iter().filter(|tap| !tap.selector.drops_only);
        let all = all.fold(0, |all, tap| all | tap.bit);
        self.current().map_or(Tag::NONE, |draft| Tag {
            ingress: draft.ingress,
            id: draft.tag.id,
            chosen: draft.tag.chosen | (all & draft.wanted),
        })
    }

    /// The NAT is asked next; it has made so many sessions.
    pub(super) fn before_nat(&mut self, frame: &Frame<'_>, sessions: u64) {
        self.before_nat = (sessions, Tuple::of_frame(frame.bytes()));
    }

    /// The NAT has answered.
    pub(super) fn after_nat(
        &mut self,
        frame: &Frame<'_>,
        sessions: u64,
        (direction, outcome): (Direction, Outcome),
    ) {
        let (sessions_before, before) = self.before_nat;
        self.step(Step::Nat(Nat {
            direction,
            outcome,
            new_session: sessions > sessions_before,
            before,
            after: Tuple::of_frame(frame.bytes()),
        }));
        if outcome != Outcome::Held {
            return;
        }
        self.step(Step::Hold(HeldFor::FirstFragment));
        let packet = frame.bytes().get(HEADER_BYTES..).unwrap_or_default();
        if let Some(key) = fragment_key(packet) {
            let tag = self.tag(frame);
            if self.fragments.is_full() {
                self.fragments.remove(0);
            }
            self.fragments.push((key, tag));
        }
    }

    /// What a fragment took along that waited in the NAT.
    pub(crate) fn tag_of_released(&mut self, packet: &ReleasedPacket) -> Tag {
        let key = fragment_key(&packet.bytes);
        let place = self
            .fragments
            .iter()
            .position(|(known, _)| Some(*known) == key);
        place.map_or(Tag::NONE, |place| self.fragments.remove(place).1)
    }

    /// A copy of the batch's frame in this place was sent or dropped, in `bytes` bytes.
    pub(crate) fn sent(
        &mut self,
        place: usize,
        port: PortIndex,
        outcome: Result<(), DropReason>,
        bytes: usize,
    ) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Some(draft) = candidate(&mut self.drafts, place) else {
            return;
        };
        match outcome {
            Ok(()) => draft.copies.0 += 1,
            Err(_) => draft.copies.1 += 1,
        }
        // Another piece of the same copy.
        if let Some(TimedStep {
            step: Step::Tx(tx), ..
        }) = draft.steps.last_mut()
            && (tx.port, tx.outcome) == (port, outcome)
        {
            tx.pieces += 1;
            tx.bytes = tx.bytes.saturating_add(bytes);
            return;
        }
        let pieces = 1;
        self.step_of(
            place,
            Step::Tx(Tx {
                port,
                outcome,
                pieces,
                bytes,
            }),
        );
    }

    /// Who chooses the frame by what is known of it so far.
    fn chosen(&mut self, place: usize, frame: &Frame<'_>) -> Taps {
        let worker = self.worker;
        let Some(draft) = candidate(&mut self.drafts, place) else {
            return 0;
        };
        let fate = Fate {
            steps: &draft.steps,
            verdict: draft.verdict,
        };
        let after = Seen {
            ingress: draft.ingress,
            ..seen(frame, worker)
        };
        let before = Seen {
            bytes: &draft.bytes,
            length: draft.len,
            ..after
        };
        let is_drop = draft.copies.1 > 0 || matches!(draft.verdict, Some(Verdict::Drop(_)));
        let mut chosen = 0;
        for tap in &mut self.taps {
            if !tap.of(draft.candidates) {
                continue;
            }
            let ends = Ends {
                before: before.with(fate),
                after: after.with(fate),
                wanted: tap.of(draft.wanted),
                is_drop,
            };
            let (is_chosen, is_wanted) = if tap.of(draft.tag.chosen) {
                (true, ends.wanted)
            } else {
                tap.chooses(&ends)
            };
            if is_chosen {
                chosen |= tap.bit;
            }
            if is_wanted {
                draft.wanted |= tap.bit;
            }
        }
        chosen
    }

    /// Chooses among the drafts of a batch, and makes records of them.
    pub fn commit(&mut self, batch: &[Frame<'_>]) {
        for (place, frame) in (0..self.used).zip(batch) {
            let chosen = self.chosen(place, frame);
            if chosen != 0 {
                self.keep(place, frame, chosen);
            }
        }
        self.used = 0;
        self.tags.clear();
        self.tick();
    }

    fn keep(&mut self, place: usize, frame: &Frame<'_>, chosen: Taps) {
        let Some(draft) = self.drafts.get(place) else {
            return;
        };
        let after = SnapRef {
            head: head(frame.bytes(), HEAD_BYTES_MAX.min(self.snap_bytes)),
            tail: &[],
            len: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            offload: frame.offload,
        };
        let tail = frame.bytes().get(HEAD_BYTES_MAX..).unwrap_or_default();
        let before = SnapRef {
            head: &draft.bytes,
            // One that has another length now has another content, too, wherever it begins.
            tail: if after.len == draft.len { tail } else { &[] },
            len: draft.len,
            offload: draft.offload,
        };
        let is_changed =
            (after.head, after.len, after.offload) != (before.head, before.len, before.offload);
        let head = Head {
            id: draft.tag.id,
            cause: draft.cause,
            batch: self.batch,
            turn: self.turn,
            began: draft.began,
            ingress: Some(draft.ingress).filter(|port| *port != NOWHERE),
            stage: draft.stage,
            verdict: draft.verdict,
            copies: draft.copies,
            steps_lost: draft.steps_lost,
        };
        for tap in self.taps.iter_mut().filter(|tap| tap.of(chosen)) {
            tap.outbox
                .push(head, &draft.steps, before, is_changed.then_some(after));
        }
    }

    /// The gateway has made `frame`, because of the packet of `cause`; it is place 0 of a batch.
    pub(crate) fn begin_made(&mut self, frame: &Frame<'_>, cause: Tag) {
        self.begin_batch(self.batch);
        let (id, ingress) = (self.name(), frame.ingress);
        self.open(
            frame,
            true,
            Tag {
                id,
                ingress,
                ..cause
            },
        );
        if let Some(draft) = self.current() {
            draft.cause = Some(cause.id).filter(|id| *id != PacketId::NONE);
        }
        self.step(Step::Made);
    }

    /// The frame that the gateway made was sent.
    pub(crate) fn end_made(&mut self, frame: &Frame<'_>) {
        self.commit(std::slice::from_ref(frame));
    }

    /// Records the fate of a fragment that waited in the NAT and goes no further here.
    pub(crate) fn released_aside(
        &mut self,
        packet: &ReleasedPacket,
        (port, tag): (PortIndex, Tag),
        verdict: Verdict,
    ) {
        let mut bytes = ethernet::header(Mac::ZERO, Mac::ZERO, ethernet::IPV4).to_vec();
        bytes.extend_from_slice(&packet.bytes);
        let mut owned = OwnedFrame::new(&bytes, Offload::PLAIN, port);
        self.begin_batch(self.batch);
        self.resume(std::iter::once(tag));
        let frame = owned.borrow();
        self.begin(&frame);
        self.end(verdict);
        self.commit(&[frame]);
    }

    /// Sends what is recorded, where the reader has read what came before, and forgets readers who
    /// have gone.
    pub fn tick(&mut self) {
        let before = self.taps.len();
        self.taps.retain(|tap| {
            tap.outbox.offer();
            !tap.outbox.reader_is_gone()
        });
        if self.taps.len() != before {
            self.measure();
        }
    }

    /// Sends what is recorded: there will be no more.
    pub fn finish(&mut self) {
        self.taps.iter_mut().for_each(|tap| tap.outbox.finish());
    }
}

fn head(bytes: &[u8], count: usize) -> &[u8] {
    bytes.get(..count).unwrap_or(bytes)
}
