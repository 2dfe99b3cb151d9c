//! How long frames took, as the workers have measured it.

use crossbeam_channel::bounded;

use super::{ANSWER_TIMEOUT, Switch};
use crate::latency::PairLatency;
use crate::port::PortIndex;
use crate::verdict::DropReason;
use crate::worker::Command;

impl Switch {
    /// What one worker has measured since the start or since it was last taken.
    #[must_use]
    pub fn worker_latency(&self, worker: u16) -> Vec<PairLatency> {
        let latency = self.shared.latency.get(usize::from(worker));
        latency.map_or_else(Vec::new, |latency| latency.read())
    }

    /// What all workers that answer in time have measured, which they forget.
    #[must_use]
    pub fn take_latency(&self) -> Vec<Vec<PairLatency>> {
        // All are asked before the first is waited for.
        let ask = |worker| {
            let (answer, answers) = bounded(1);
            self.command(worker, Command::TakeLatency(answer))
                .then_some(answers)
        };
        let asked: Vec<_> = (0..self.workers()).map(ask).collect();
        let taken = asked.into_iter().map(|answers| {
            let taken = answers?.recv_timeout(ANSWER_TIMEOUT);
            taken.ok()
        });
        taken.map(Option::unwrap_or_default).collect()
    }

    /// Frames that one worker has sent to a port, and those that found it full.
    #[must_use]
    pub fn worker_egress(&self, worker: u16, port: PortIndex) -> (u64, u64) {
        let counters = self.shared.counters.get(usize::from(worker));
        counters.map_or((0, 0), |counters| {
            let port = counters.port(port);
            let full = port.dropped(DropReason::EgressFull);
            (port.sent_frames.get(), full)
        })
    }

    /// Frames from a port that found its ring full while this worker received from it.
    #[must_use]
    pub fn worker_overruns(&self, worker: u16, port: PortIndex) -> u64 {
        let counters = self.shared.counters.get(usize::from(worker));
        counters.map_or(0, |counters| {
            counters.port(port).dropped(DropReason::RingFull)
        })
    }
}
