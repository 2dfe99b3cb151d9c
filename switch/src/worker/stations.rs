//! A worker's news of stations on their way to whoever wants them: at each tick, through a bounded
//! channel. What finds it full waits for the next tick, as far as there is room to.

use crossbeam_channel::{Sender, TrySendError};

use crate::stations::StationNews;

use super::Worker;

/// News of stations at one worker, oldest first.
#[derive(Debug, Clone)]
pub struct StationPortion {
    /// The worker.
    pub worker: u16,
    /// What happened.
    pub news: Vec<StationNews>,
    /// News there was no room for since the portion before.
    pub lost: u64,
}

impl Worker {
    /// Sends news there from now on, or none any more.
    pub(super) fn tell_stations(&mut self, to: Option<Sender<StationPortion>>) {
        self.engine.stations.tell(to.is_some());
        self.stations_to = to;
    }

    /// Sends the news since the last call.
    pub(super) fn send_stations(&mut self) {
        let Some(to) = self.stations_to.as_ref().filter(|to| !to.is_full()) else {
            return;
        };
        let Some((news, lost)) = self.engine.stations.take() else {
            return;
        };
        let portion = StationPortion {
            worker: self.index,
            news,
            lost,
        };
        match to.try_send(portion) {
            Ok(()) => {}
            // Another worker was faster between two looks.
            Err(TrySendError::Full(portion)) => {
                let lost = portion.lost + portion.news.len() as u64;
                self.engine.stations.lose(lost);
            }
            Err(TrySendError::Disconnected(_)) => self.tell_stations(None),
        }
    }
}
