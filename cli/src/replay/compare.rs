//! What became of a recording's packets, then and now.

use nat::Nanos;
use switch::trace::RecordView;

use super::report::{Differing, Recorded};
use super::scene::Names;
use super::tally::Coming;
use crate::record::{Digest, fate_words, plain_fate, same_fate};

/// Fates that are not as they were, of which so many are told.
const EXAMPLES_MAX: usize = 10;

/// Compares, where something was recorded.
pub(super) struct Compare {
    recorded: Option<Recorded>,
    /// What each worker has decided since the beginning.
    digests: Vec<Digest>,
    /// As far as they have been in a turn that is over.
    turns: Vec<Option<Digest>>,
}

impl Compare {
    /// `lost` packets are not in the recording, if it is one.
    pub(super) fn new(lost: Option<u64>, workers: usize) -> Self {
        let recorded = lost.map(|lost| Recorded {
            lost,
            ..Recorded::default()
        });
        Self {
            recorded,
            digests: vec![Digest::default(); workers],
            turns: vec![None; workers],
        }
    }

    /// All is as it was when the recording began.
    pub(super) fn begin(&mut self) {
        self.digests.fill(Digest::default());
        self.turns.fill(None);
    }

    /// Takes another piece of a packet's way, at this worker; `fresh` is the packet, if it came in.
    pub(super) fn record(
        &mut self,
        (worker, record): (usize, &RecordView<'_>),
        fresh: Option<&Coming>,
        names: &Names<'_>,
    ) {
        let Some(recorded) = &mut self.recorded else {
            return;
        };
        if let Some(turn) = self.turns.get_mut(worker) {
            turn.get_or_insert_default().add(record);
        }
        let Some(packet) = fresh else { return };
        let (Some(was), Some(verdict)) = (&packet.fate, record.head.verdict) else {
            return;
        };
        let is = fate_words(verdict, record.after, names);
        if same_fate(was, &is) {
            recorded.same += 1;
            return;
        }
        recorded.differ += 1;
        if recorded.examples.len() < EXAMPLES_MAX {
            recorded.examples.push(Differing {
                packet: packet.number,
                was: plain_fate(was),
                is: plain_fate(&is),
            });
        }
    }

    /// A worker's turn is over.
    pub(super) fn rest(&mut self) {
        for (digest, turn) in self.digests.iter_mut().zip(&mut self.turns) {
            if let Some(turn) = turn.take() {
                digest.append(turn);
            }
        }
    }

    /// Compares all that a worker has decided up to now, `time` after the beginning.
    pub(super) fn digest(&mut self, worker: usize, was: &str, time: Nanos) {
        let (Some(recorded), Some(is)) = (&mut self.recorded, self.digests.get(worker)) else {
            return;
        };
        if *was == is.to_hex() {
            recorded.ticks_same += 1;
        } else {
            // From there on nothing is the same any more.
            recorded
                .differs_from
                .get_or_insert(super::play::seconds(time.0));
        }
    }

    /// So many turns are not known.
    pub(super) const fn missing(&mut self, turns: u64) {
        if let Some(recorded) = &mut self.recorded {
            recorded.turns_missing = recorded.turns_missing.saturating_add(turns);
        }
    }

    pub(super) fn finish(self) -> Option<Recorded> {
        self.recorded
    }
}
