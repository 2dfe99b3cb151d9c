//! Tracing is switched on and off.

use crossbeam_channel::Receiver;

use crate::trace::{Clock, Limits, Selector, TracePortion, recorders};
use crate::worker::Command;

use super::Switch;

impl Switch {
    /// Traces the packets that `selector` chooses, in place of what was traced before. Each worker
    /// begins between two batches; all memory is taken here and now
    /// ([`Limits::memory_bytes`] for each). `clock` times the steps within a batch.
    ///
    /// The records come in portions, by any worker in its order. A reader that is slow loses
    /// records, which are counted; one that drops the receiver ends the trace, within a tick.
    #[must_use]
    pub fn trace(
        &self,
        selector: Selector,
        limits: Limits,
        clock: Clock,
    ) -> Receiver<TracePortion> {
        let (recorders, reader) = recorders(self.workers(), selector, limits, clock);
        for (worker, recorder) in (0..self.workers()).zip(recorders) {
            self.command(worker, Command::Trace(Some(Box::new(recorder))));
        }
        reader
    }

    /// Traces no more. What was recorded so far still comes; then the channel is at its end.
    pub fn stop_trace(&self) {
        for worker in 0..self.workers() {
            self.command(worker, Command::Trace(None));
        }
    }
}
