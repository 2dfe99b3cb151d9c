//! What was, for as long as a screen is wide: the samples of sparklines.

use std::collections::{BTreeMap, VecDeque};

use super::heat::Bands;
use super::snapshot::Snapshot;

/// Samples kept: a wide screen's columns.
const SAMPLES_MAX: usize = 300;

/// One figure over time, the latest last; `None` where it was not known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series(VecDeque<Option<f64>>);

impl Series {
    fn push(&mut self, sample: Option<f64>) {
        if self.0.len() == SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// The last so many samples, the latest first.
    pub fn latest(&self, count: usize) -> impl Iterator<Item = Option<f64>> + '_ {
        self.0.iter().rev().take(count).copied()
    }

    /// The largest of the last so many samples.
    #[must_use]
    pub fn max(&self, count: usize) -> f64 {
        self.latest(count).flatten().fold(0.0, f64::max)
    }
}

/// All figures that are drawn over time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// Bits each port received and sent, by device.
    pub ports: BTreeMap<String, [Series; 2]>,
    /// Sessions.
    pub sessions: Series,
    /// Drops a second.
    pub drops: Series,
    /// How many frames took how long, by pair of ports; nothing for a look that did not ask.
    pub latency: BTreeMap<String, VecDeque<Option<Bands>>>,
}

impl History {
    /// Adds what a tick saw; ports that are gone are forgotten.
    pub fn push(&mut self, snapshot: &Snapshot) {
        let named = |name: &str| snapshot.ports.iter().any(|port| port.ifname == name);
        self.ports.retain(|name, _| named(name));
        for port in &snapshot.ports {
            let [rx, tx] = self.ports.entry(port.ifname.clone()).or_default();
            rx.push(port.rx.bits_per_second);
            tx.push(port.tx.bits_per_second);
        }
        let sessions = snapshot.nat.as_ref().map(|nat| nat.sessions as f64);
        self.sessions.push(sessions);
        self.drops.push(snapshot.totals.drops_per_second);
        let pairs = snapshot.latency.iter();
        let pairs = pairs.flat_map(|latency| [&latency.all].into_iter().chain(&latency.pairs));
        let mut seen: BTreeMap<String, Bands> = pairs.map(|p| (p.name(), p.bands)).collect();
        for (name, columns) in &mut self.latency {
            columns.push_front(seen.remove(name));
            columns.truncate(SAMPLES_MAX);
        }
        // Of pairs that have come and gone nothing is left to be drawn.
        self.latency
            .retain(|_, columns| columns.iter().any(Option::is_some));
        let new = seen.into_iter();
        self.latency
            .extend(new.map(|(name, bands)| (name, VecDeque::from([Some(bands)]))));
    }

    /// The bits of a port both ways, the latest first.
    #[must_use]
    pub fn both_ways(&self, port: &str, count: usize) -> Vec<Option<f64>> {
        let Some([rx, tx]) = self.ports.get(port) else {
            return Vec::new();
        };
        let both = rx.latest(count).zip(tx.latest(count));
        both.map(|(rx, tx)| Some(rx? + tx?)).collect()
    }
}
