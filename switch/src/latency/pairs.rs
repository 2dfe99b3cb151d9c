//! One worker's histograms, by pair of ports.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Counts, Histogram, Stage};
use crate::counters::Counter;
use crate::port::PortIndex;
use crate::verdict::Verdict;

/// Pairs that a worker tells apart, each 14 KB; what goes between others is counted together.
pub const PAIRS_MAX: usize = 32;

/// A place without a pair. No pair is written so: no port has such an index.
const NO_PAIR: u64 = u64::MAX;

/// Where frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum To {
    /// To one port.
    Port(PortIndex),
    /// To all ports of the network but one.
    Flood,
    /// To none: dropped, held, taken in, or handed over to another worker.
    Nowhere,
}

/// Where frames come from and where they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// The port they came in on.
    pub ingress: PortIndex,
    /// Where they go.
    pub to: To,
}

impl Pair {
    /// The pair of a frame with this verdict.
    #[inline]
    pub(super) const fn of(ingress: PortIndex, verdict: Verdict) -> Self {
        let to = match verdict {
            Verdict::Forward(egress) | Verdict::Route(egress) => To::Port(egress),
            Verdict::Answer => To::Port(ingress),
            Verdict::Flood => To::Flood,
            Verdict::Absorb | Verdict::Hold | Verdict::HandOver(_) | Verdict::Drop(_) => {
                To::Nowhere
            }
        };
        Self { ingress, to }
    }

    /// The pair as one number.
    #[inline]
    fn word(self) -> u64 {
        let to = match self.to {
            To::Port(egress) => u64::from(egress.0),
            To::Flood => 1 << 16,
            To::Nowhere => 2 << 16,
        };
        u64::from(self.ingress.0) << 32 | to
    }

    fn from_word(word: u64) -> Option<Self> {
        let low = u16::try_from(word & 0xffff).ok()?;
        let ingress = PortIndex(u16::try_from(word >> 32).ok()?);
        let to = match word >> 16 & 0xffff {
            0 => To::Port(PortIndex(low)),
            1 => To::Flood,
            _ => To::Nowhere,
        };
        Some(Self { ingress, to })
    }

    /// Whether one of its ports is such a one.
    fn has(self, is_such: impl Fn(PortIndex) -> bool) -> bool {
        is_such(self.ingress) || matches!(self.to, To::Port(egress) if is_such(egress))
    }
}

/// The histograms of one pair.
#[derive(Debug, Default)]
pub(super) struct Cells {
    /// Frames that were measured.
    pub(super) samples: Counter,
    stages: [Histogram; Stage::ALL.len()],
}

impl Cells {
    #[inline]
    pub(super) const fn stage(&self, stage: Stage) -> &Histogram {
        &self.stages[stage.index()]
    }

    fn read(&self, pair: Option<Pair>) -> PairLatency {
        PairLatency {
            pair,
            samples: self.samples.get(),
            stages: std::array::from_fn(|stage| self.stages[stage].counts()),
        }
    }

    fn clear(&self) {
        self.samples.clear();
        self.stages.iter().for_each(Histogram::clear);
    }
}

/// What one worker has measured.
#[derive(Debug)]
pub struct WorkerLatency {
    /// The pair of each place, apart from its histograms: to find one of them is to look at four
    /// cache lines, and not at as many pages as there are pairs.
    words: [AtomicU64; PAIRS_MAX],
    pairs: Box<[Cells]>,
    /// Of all pairs that found no place.
    others: Box<Cells>,
}

impl Default for WorkerLatency {
    fn default() -> Self {
        Self {
            words: [const { AtomicU64::new(NO_PAIR) }; PAIRS_MAX],
            pairs: (0..PAIRS_MAX).map(|_| Cells::default()).collect(),
            others: Box::default(),
        }
    }
}

/// What was measured of one pair, since the start or since it was taken last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairLatency {
    /// The pair; `None` for all that found no place.
    pub pair: Option<Pair>,
    /// Frames that were measured. Each counts for several in the histograms, where not all were.
    pub samples: u64,
    stages: [Counts; Stage::ALL.len()],
}

impl PairLatency {
    /// Nothing measured.
    #[must_use]
    pub fn none(pair: Option<Pair>) -> Self {
        Self {
            pair,
            samples: 0,
            stages: Default::default(),
        }
    }

    /// The durations of one stage; none of [`Stage::Wait`] and [`Stage::Total`] where the port does
    /// not know when its frames came.
    #[must_use]
    pub const fn stage(&self, stage: Stage) -> &Counts {
        &self.stages[stage.index()]
    }

    /// Adds what was measured of the same pair by another worker, or before.
    pub fn merge(&mut self, other: &Self) {
        self.samples += other.samples;
        for (own, more) in self.stages.iter_mut().zip(&other.stages) {
            own.merge(more);
        }
    }
}

impl WorkerLatency {
    /// The histograms of a pair, those of all others where it finds no place. Only the owner may
    /// call this.
    #[inline]
    pub(super) fn cells(&self, pair: Pair) -> &Cells {
        let word = pair.word();
        let is_its = |place: &AtomicU64| {
            let here = place.load(Relaxed);
            here == word || here == NO_PAIR
        };
        let Some(place) = self.words.iter().position(is_its) else {
            return &self.others;
        };
        self.words[place].store(word, Relaxed);
        &self.pairs[place]
    }

    /// What was measured so far, pair by pair. A pair that loses its place meanwhile is left out.
    #[must_use]
    pub fn read(&self) -> Vec<PairLatency> {
        let places = self.words.iter().zip(&self.pairs);
        let pairs = places.filter_map(|(place, cells)| {
            let word = place.load(Relaxed);
            let read = cells.read(Some(Pair::from_word(word)?));
            (place.load(Relaxed) == word).then_some(read)
        });
        let all = pairs.chain([self.others.read(None)]);
        all.filter(|read| read.samples > 0).collect()
    }

    /// As [`read`](Self::read), and forgets it. Only the owner may call this.
    pub(crate) fn take(&self) -> Vec<PairLatency> {
        let taken = self.read();
        self.pairs.iter().for_each(Cells::clear);
        self.others.clear();
        taken
    }

    /// Another port has an index now, or none: what went there and came from there is one of the
    /// others from now on. Only the owner may call this.
    pub(crate) fn forget_ports(&self, is_another: impl Fn(PortIndex) -> bool) {
        for (place, cells) in self.words.iter().zip(&self.pairs) {
            let pair = Pair::from_word(place.load(Relaxed));
            if pair.is_some_and(|pair| pair.has(&is_another)) {
                self.others.samples.add(cells.samples.get());
                for (own, gone) in self.others.stages.iter().zip(&cells.stages) {
                    own.add_all(&gone.counts());
                }
                place.store(NO_PAIR, Relaxed);
                cells.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nat::Nanos;

    fn pair(ingress: u16, egress: u16) -> Pair {
        Pair::of(PortIndex(ingress), Verdict::Forward(PortIndex(egress)))
    }

    fn measure(latency: &WorkerLatency, pair: Pair, nanos: u64) {
        let cells = latency.cells(pair);
        cells.samples.add(1);
        cells.stage(Stage::Total).add(Nanos(nanos), 1);
    }

    #[test]
    fn a_pair_is_a_number_and_back() {
        for to in [
            To::Port(PortIndex(0)),
            To::Port(PortIndex(4095)),
            To::Flood,
            To::Nowhere,
        ] {
            for ingress in [0, 1, 4095, u16::MAX] {
                let pair = Pair {
                    ingress: PortIndex(ingress),
                    to,
                };
                assert_eq!(Pair::from_word(pair.word()), Some(pair));
            }
        }
        assert_eq!(Pair::from_word(NO_PAIR), None);
    }

    #[test]
    fn pairs_beyond_the_bound_are_counted_together() {
        let latency = WorkerLatency::default();
        let more = u16::try_from(PAIRS_MAX).unwrap() + 3;
        for ingress in 0..more {
            measure(&latency, pair(ingress, 9), 1000);
        }
        let read = latency.read();
        assert_eq!(read.len(), PAIRS_MAX + 1);
        let others = read.iter().find(|read| read.pair.is_none()).unwrap();
        assert_eq!((others.samples, others.stage(Stage::Total).count()), (3, 3));
        assert_eq!(latency.take(), read);
        assert!(latency.read().is_empty());
    }

    #[test]
    fn what_a_gone_port_had_is_not_its_successors() {
        let latency = WorkerLatency::default();
        measure(&latency, pair(1, 2), 500);
        measure(&latency, pair(3, 1), 7000);
        measure(&latency, pair(3, 2), 9000);
        latency.forget_ports(|port| port == PortIndex(1));
        let read = latency.read();
        let samples = |of| {
            let found = read.iter().find(|read| read.pair == of);
            found.map_or(0, |read| read.samples)
        };
        assert_eq!(samples(Some(pair(3, 2))), 1);
        assert_eq!(
            (samples(Some(pair(1, 2))), samples(Some(pair(3, 1)))),
            (0, 0)
        );
        assert_eq!(samples(None), 2);
        let others = read.iter().find(|read| read.pair.is_none()).unwrap();
        assert_eq!(others.stage(Stage::Total).max(), 7000);
        measure(&latency, pair(4, 5), 1);
        assert!(
            latency
                .read()
                .iter()
                .any(|read| read.pair == Some(pair(4, 5)))
        );
    }
}
