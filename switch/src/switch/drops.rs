//! What the workers keep of dropped frames.

use crossbeam_channel::unbounded;

use crate::drops::{Kept, kept};
use crate::verdict::DropReason;
use crate::worker::Command;

use super::{ANSWER_TIMEOUT, Switch};

impl Switch {
    /// What is kept of the frames dropped for `reason`, or for any: of every worker that answers
    /// in time. A worker copies its records between two batches, which takes it some 30 µs.
    #[must_use]
    pub fn kept_drops(&self, reason: Option<DropReason>) -> Vec<Kept> {
        let (answer, answers) = unbounded();
        let workers = 0..self.workers();
        let asked = workers
            .filter(|worker| self.command(*worker, Command::Drops(reason, answer.clone())))
            .count();
        drop(answer);
        kept((0..asked).map_while(|_| answers.recv_timeout(ANSWER_TIMEOUT).ok()))
    }

    /// Has every worker forget what it keeps of dropped frames; the counters stay.
    pub fn forget_drops(&self) {
        for worker in 0..self.workers() {
            self.command(worker, Command::ForgetDrops);
        }
    }
}
