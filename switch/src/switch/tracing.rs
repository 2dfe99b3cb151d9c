//! Tracing is switched on and off.

use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;

use crate::trace::{Clock, Limits, Selector, TapId, TracePortion, recorders};
use crate::worker::Command;

use super::Switch;

/// What one reader has asked to see.
#[derive(Debug)]
pub struct Trace {
    /// Its name, to [end](Switch::stop_trace) it by.
    pub id: TapId,
    /// The records in portions, by any worker in its order.
    pub portions: Receiver<TracePortion>,
}

impl Switch {
    /// Traces the packets that `selector` chooses, beside whatever else is traced; at most
    /// [`TAPS_MAX`](crate::trace::TAPS_MAX) at a time, more find their channel at its end. Each
    /// worker begins between two batches; all memory is taken here and now
    /// ([`Limits::memory_bytes`] for each). `clock` times the steps within a batch; the clock of
    /// the first of several is used for all.
    ///
    /// A reader that is slow loses records, which are counted; one that drops the receiver ends the
    /// trace, within a tick.
    #[must_use]
    pub fn trace(&self, selector: Selector, limits: Limits, clock: Clock) -> Trace {
        let id = TapId(self.taps.fetch_add(1, Ordering::Relaxed));
        let (recorders, portions) = recorders(self.workers(), (id, selector), limits, clock);
        for (worker, recorder) in (0..self.workers()).zip(recorders) {
            self.command(worker, Command::Trace(Box::new(recorder)));
        }
        Trace { id, portions }
    }

    /// Traces that no more. What was recorded so far still comes; then the channel is at its end.
    pub fn stop_trace(&self, id: TapId) {
        for worker in 0..self.workers() {
            self.command(worker, Command::EndTrace(id));
        }
    }
}
