//! News of stations, for whoever watches.

use crossbeam_channel::{Receiver, bounded};

use crate::worker::{Command, StationPortion};

use super::Switch;

/// Portions that may wait for the reader, for each worker: of 64 news of 40 bytes, 80 KB.
const PORTIONS_MAX: usize = 32;

impl Switch {
    /// Has every worker tell of stations that move, that move too often or that are not where they
    /// are fixed to, at each of its ticks, so after 0.1 s at most. Who had called it before hears
    /// no more. It ends when the receiver is dropped.
    #[must_use]
    pub fn watch_stations(&self) -> Receiver<StationPortion> {
        let workers = self.workers();
        let (to, portions) = bounded(PORTIONS_MAX * usize::from(workers));
        for worker in 0..workers {
            self.command(worker, Command::TellStations(Some(to.clone())));
        }
        portions
    }

    /// Has no worker tell of stations any more.
    pub fn stop_watching_stations(&self) {
        for worker in 0..self.workers() {
            self.command(worker, Command::TellStations(None));
        }
    }
}
