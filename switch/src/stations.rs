//! What is told of stations: those that move, that move too often, or that are not where they are
//! fixed to.
//!
//! A worker writes it down where the forwarding table says so, which is no frame's usual way, into
//! room taken at its start, and sends it at its next tick. Of a station that goes on the same way a
//! count goes up instead: a loop that turns a million frames is one line.

use arrayvec::ArrayVec;
use nat::Nanos;

use crate::fdb::Learned;
use crate::limits::STATION_NEWS_MAX;
use crate::mac::Mac;
use crate::port::PortIndex;

/// What happened to a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StationFate {
    /// It is on the port it was heard on now.
    Moved {
        /// The port it was on.
        from: PortIndex,
    },
    /// It moves too often, and was left where it is.
    Damped {
        /// The port it stays on.
        at: PortIndex,
    },
    /// It is fixed to another port: what it sent was refused.
    Locked {
        /// The port it is fixed to.
        at: PortIndex,
    },
}

/// Something that happened to a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StationNews {
    /// When it was first so, by the workers' clock.
    pub at: Nanos,
    /// Its network.
    pub network: u16,
    /// The station.
    pub mac: Mac,
    /// The port it was heard on.
    pub heard_on: PortIndex,
    /// What happened.
    pub fate: StationFate,
    /// How often.
    pub times: u32,
}

/// One worker's news of stations.
#[derive(Debug, Default)]
pub struct Stations {
    is_told: bool,
    news: ArrayVec<StationNews, STATION_NEWS_MAX>,
    lost: u64,
}

impl Stations {
    /// Writes down what the table learned of a station, if that is news and somebody listens.
    // Out of line: most frames come from where the last one did.
    #[cold]
    #[inline(never)]
    pub fn note(
        &mut self,
        at: Nanos,
        (network, mac): (u16, Mac),
        heard_on: PortIndex,
        learned: Learned,
    ) {
        let fate = match learned {
            Learned::Moved { from } => StationFate::Moved { from },
            Learned::Damped { at } => StationFate::Damped { at },
            Learned::Locked { at } => StationFate::Locked { at },
            Learned::New | Learned::Refreshed | Learned::Full => return,
        };
        if !self.is_told {
            return;
        }
        let is_same = |news: &&mut StationNews| {
            (news.network, news.mac, news.heard_on, news.fate) == (network, mac, heard_on, fate)
        };
        if let Some(news) = self.news.iter_mut().find(is_same) {
            news.times = news.times.saturating_add(1);
            return;
        }
        let news = StationNews {
            at,
            network,
            mac,
            heard_on,
            fate,
            times: 1,
        };
        if self.news.try_push(news).is_err() {
            self.lost += 1;
        }
    }

    /// Writes news down from now on, or none any more.
    pub fn tell(&mut self, is_told: bool) {
        *self = Self {
            is_told,
            ..Self::default()
        };
    }

    /// Counts news that were lost on their way.
    pub(crate) const fn lose(&mut self, news: u64) {
        self.lost += news;
    }

    /// What was written down since the last call, oldest first, and how much there was no room for.
    /// `None` where that is nothing.
    pub fn take(&mut self) -> Option<(Vec<StationNews>, u64)> {
        self.have_news().then(|| {
            (
                self.news.drain(..).collect(),
                std::mem::take(&mut self.lost),
            )
        })
    }

    /// True where something is to be told.
    pub(crate) const fn have_news(&self) -> bool {
        !self.news.is_empty() || self.lost > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(stations: &mut Stations, station: u64, times: u32) {
        let from = PortIndex(1);
        for moment in 0..times {
            let (at, to) = (Nanos(u64::from(moment)), PortIndex(2));
            stations.note(at, (0, Mac::local(station)), to, Learned::Moved { from });
        }
    }

    #[test]
    fn news_are_told_once_each_with_how_often_they_came() {
        let mut stations = Stations::default();
        moved(&mut stations, 1, 1);
        assert_eq!(stations.take(), None, "nobody listens");
        stations.tell(true);
        for learned in [Learned::New, Learned::Refreshed, Learned::Full] {
            stations.note(Nanos(1), (0, Mac::local(1)), PortIndex(2), learned);
        }
        assert_eq!(stations.take(), None, "no news");
        moved(&mut stations, 1, 3);
        moved(&mut stations, 2, 1);
        let locked = Learned::Locked { at: PortIndex(7) };
        stations.note(Nanos(9), (0, Mac::local(1)), PortIndex(2), locked);
        let (news, lost) = stations.take().unwrap();
        let told: Vec<_> = news.iter().map(|it| (it.mac, it.times, it.fate)).collect();
        let from = PortIndex(1);
        let expected = [
            (Mac::local(1), 3, StationFate::Moved { from }),
            (Mac::local(2), 1, StationFate::Moved { from }),
            (Mac::local(1), 1, StationFate::Locked { at: PortIndex(7) }),
        ];
        assert_eq!((told.as_slice(), lost), (&expected[..], 0));
        assert_eq!(stations.take(), None);
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let mut stations = Stations::default();
        stations.tell(true);
        let many = STATION_NEWS_MAX as u64 + 5;
        for station in 0..many {
            moved(&mut stations, station, 1);
        }
        let (news, lost) = stations.take().unwrap();
        assert_eq!((news.len(), lost), (STATION_NEWS_MAX, 5));
        moved(&mut stations, 1, 1);
        assert_eq!(
            stations.take().map(|(news, lost)| (news.len(), lost)),
            Some((1, 0))
        );
    }
}
