//! What became of each packet, from the tracer's records.

use std::collections::{HashMap, VecDeque};

use switch::port::PortIndex;
use switch::trace::{PacketId, RecordView, Step};
use switch::verdict::Verdict;

use super::report::Verdicts;

/// Where a record stands in its packet's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The packet came in.
    Fresh,
    /// It goes on.
    Resumed,
    /// The gateway made it.
    Made,
}

impl Kind {
    pub(super) fn of(record: &RecordView<'_>) -> Self {
        match record.steps.first().map(|timed| timed.step) {
            Some(Step::Resumed(_)) => Self::Resumed,
            Some(Step::Made) => Self::Made,
            _ => Self::Fresh,
        }
    }
}

/// Verdicts by port.
#[derive(Debug)]
pub(super) struct Tally(Vec<Verdicts>);

impl Tally {
    pub(super) fn new(ports: usize) -> Self {
        Self(vec![Verdicts::default(); ports])
    }

    /// Counts a record. A frame that waits, or goes on at another worker, gets another one.
    pub(super) fn count(&mut self, record: &RecordView<'_>) {
        let port = record.head.ingress.map(PortIndex::index);
        let Some(counts) = port.and_then(|port| self.0.get_mut(port)) else {
            return;
        };
        if Kind::of(record) == Kind::Resumed {
            counts.waiting = counts.waiting.saturating_sub(1);
        }
        let Some(verdict) = record.head.verdict else {
            return;
        };
        *match verdict {
            Verdict::Forward(_) => &mut counts.forwarded,
            Verdict::Route(_) => &mut counts.routed,
            Verdict::Flood => &mut counts.flooded,
            Verdict::Answer => &mut counts.answered,
            Verdict::Absorb => &mut counts.absorbed,
            Verdict::Drop(_) => &mut counts.dropped,
            Verdict::Hold | Verdict::HandOver(_) => &mut counts.waiting,
        } += 1;
    }

    pub(super) fn of(&self, port: PortIndex) -> Verdicts {
        self.0.get(port.index()).copied().unwrap_or_default()
    }

    /// Frames that still wait.
    pub(super) fn waiting(&self) -> u64 {
        self.0.iter().map(|counts| counts.waiting).sum()
    }
}

/// A packet on its wire.
#[derive(Debug, Default)]
pub(super) struct Coming {
    pub(super) number: u64,
    /// Where they are needed.
    pub(super) bytes: Vec<u8>,
    /// What became of it when it was recorded.
    pub(super) fate: Option<String>,
}

/// The place of packets in the capture, counted from 1 as Wireshark counts frames.
#[derive(Debug)]
pub(super) struct Numbers {
    /// Packets a port has yet to take, in their order.
    coming: Vec<VecDeque<Coming>>,
    /// Those that wait.
    waiting: HashMap<PacketId, u64>,
    /// Those seen since the last packet came in: what the gateway makes names its cause.
    seen: HashMap<PacketId, u64>,
}

impl Numbers {
    pub(super) fn new(ports: usize) -> Self {
        Self {
            coming: std::iter::repeat_with(VecDeque::new).take(ports).collect(),
            waiting: HashMap::new(),
            seen: HashMap::new(),
        }
    }

    /// A packet is put on the wire to that port.
    pub(super) fn comes(&mut self, port: usize, packet: Coming) {
        if let Some(coming) = self.coming.get_mut(port) {
            coming.push_back(packet);
        }
    }

    /// All that was seen has left the switch, or waits.
    pub(super) fn rest(&mut self) {
        self.seen.clear();
    }

    /// The packet of a record, if it is fresh.
    pub(super) fn fresh(&mut self, record: &RecordView<'_>) -> Option<Coming> {
        if Kind::of(record) != Kind::Fresh {
            return None;
        }
        let port = record.head.ingress?;
        self.coming.get_mut(port.index())?.pop_front()
    }

    /// The packet of a record, or that which it came of; `fresh` is its number where it just came.
    pub(super) fn of(&mut self, record: &RecordView<'_>, fresh: Option<u64>) -> Option<u64> {
        let id = record.head.id;
        let known = |numbers: &Self, id| {
            let waiting = numbers.waiting.get(&id);
            waiting.or_else(|| numbers.seen.get(&id)).copied()
        };
        let number = match Kind::of(record) {
            Kind::Fresh => fresh,
            Kind::Resumed => known(self, id),
            Kind::Made => return record.head.cause.and_then(|cause| known(self, cause)),
        }?;
        self.seen.insert(id, number);
        match record.head.verdict {
            Some(Verdict::Hold | Verdict::HandOver(_)) => self.waiting.insert(id, number),
            Some(_) | None => self.waiting.remove(&id),
        };
        Some(number)
    }
}
