//! One reader's part in a worker's recorder: what it wants, and the way to it.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use crate::port::PortIndex;

use super::portion::{Limits, Outbox, TracePortion, outboxes};
use super::selector::{Fate, Followed, Seen, Selector};
use super::steps::Tuple;

/// Readers at a time: each has a bit in the masks of drafts and tags.
pub const TAPS_MAX: usize = 16;

/// A set of taps, by their slots.
pub(super) type Taps = u16;

/// Names a reader's taps, one in each worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TapId(pub(crate) u64);

/// Names that a worker's recorders have given out so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GivenOut {
    /// To packets.
    pub(super) named: u64,
    /// To taps: the last.
    pub(super) last_bit: Taps,
}

/// See the module's first line.
#[derive(Debug)]
pub(crate) struct Tap {
    pub(super) id: TapId,
    /// Its bit, from the moment it is in a recorder.
    pub(super) bit: Taps,
    pub(super) selector: Arc<Selector>,
    pub(super) outbox: Outbox,
    pub(super) followed: Followed,
    /// Frames that came in on ports that are wanted: of those one in so many is taken.
    sampled: u32,
}

/// What a draft knows of a frame at its end.
pub(super) struct Ends<'d> {
    pub(super) before: Seen<'d>,
    pub(super) after: Seen<'d>,
    pub(super) wanted: bool,
    pub(super) is_drop: bool,
}

/// Taps of `workers` workers by one name, and what they record.
pub(crate) fn taps(
    workers: u16,
    id: TapId,
    selector: Selector,
    limits: Limits,
) -> (impl Iterator<Item = Tap>, Receiver<TracePortion>) {
    let (outboxes, reader) = outboxes(workers, limits);
    let selector = Arc::new(selector);
    let taps = outboxes.map(move |outbox| Tap {
        id,
        bit: 0,
        selector: Arc::clone(&selector),
        outbox,
        followed: Followed::new(),
        sampled: 0,
    });
    (taps, reader)
}

impl Tap {
    /// Its bit, where that is among those.
    pub(super) const fn of(&self, taps: Taps) -> bool {
        taps & self.bit != 0
    }

    /// False for what is ruled out whatever becomes of it.
    pub(super) fn may_want(&mut self, ingress: PortIndex, came_before: bool) -> bool {
        if !self.selector.wants_port(ingress) {
            return false;
        }
        if self.selector.one_in <= 1 {
            return true;
        }
        // Drawn once, where it came in.
        if came_before {
            return false;
        }
        self.sampled += 1;
        let is_drawn = self.sampled >= self.selector.one_in;
        if is_drawn {
            self.sampled = 0;
        }
        is_drawn
    }

    /// Whether a candidate becomes a record, and whether the filter wants it by now.
    pub(super) fn chooses(&mut self, ends: &Ends<'_>) -> (bool, bool) {
        let selector = &self.selector;
        if selector.drops_only && !ends.is_drop {
            return (false, ends.wanted);
        }
        let wanted = ends.wanted
            || selector.wants(&ends.after)
            || (selector.needs_fate && selector.wants(&ends.before));
        if !selector.follow || selector.filter.is_none() {
            return (wanted, wanted);
        }
        let mut tuples = [ends.before.bytes, ends.after.bytes]
            .into_iter()
            .filter_map(Tuple::of_frame);
        if wanted {
            tuples.for_each(|tuple| self.followed.add(tuple));
            return (true, true);
        }
        (tuples.any(|tuple| self.followed.has(tuple)), false)
    }
}

impl<'d> Seen<'d> {
    pub(super) const fn with(self, fate: Fate<'d>) -> Self {
        Self {
            fate: Some(fate),
            ..self
        }
    }
}
