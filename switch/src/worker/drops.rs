//! What a worker tells of the frames it dropped.

use crate::config::View;
use crate::drops::DropRecord;
use crate::verdict::DropReason;

use super::Worker;

impl Worker {
    /// What is kept of the frames dropped for `reason`, or for any, the oldest of each first.
    #[must_use]
    pub fn drops(&self, reason: Option<DropReason>) -> Vec<DropRecord> {
        self.engine.drops.records(reason)
    }

    /// A port that comes with `next` has an index that another may have had.
    pub(super) fn forget_replaced_ports(&mut self, next: &View) {
        let before = &self.view.ports;
        let is_new = |index: usize| before.get(index).is_none_or(Option::is_none);
        let mut ports = next.ports.iter().enumerate();
        if ports.any(|(index, port)| port.is_some() && is_new(index)) {
            (self.engine.drops)
                .forget_ports(|port| is_new(port.index()) && next.port(port).is_some());
        }
    }
}
