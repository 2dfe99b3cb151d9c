//! How long frames take, and what each worker is bound by.
//!
//! The workers have the histograms. What a reset takes out of them is kept here for `/metrics`,
//! whose counts never fall; and what the workers had done at the last ticks, so that a verdict is
//! about the last seconds and not about a life.

use std::collections::{HashMap, VecDeque};

use nat::Nanos;
use switch::latency::{Pair, PairLatency, Stage, To};
use switch::port::PortIndex;

use crate::control::api::{self, Bound, LatencyTo, WorkerLoad};
use crate::latency::stage;
use crate::metrics::Forwarded;
use crate::show::moment;

use super::Daemon;
use super::answer::{done, seconds};

/// Ticks that a verdict on the workers looks back: 5 s.
const LOADS_MAX: usize = 10;

/// What is kept beside the workers' own figures.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// When the last reset was.
    reset_at: Option<Nanos>,
    /// What was measured up to it.
    taken: Forwarded,
    /// What every worker had done at the last ticks, the oldest first.
    loads: VecDeque<(Nanos, Vec<Load>)>,
}

/// What a worker had done at one moment.
#[derive(Debug, Clone, Default)]
struct Load {
    busy: Nanos,
    frames: u64,
    ring_full: u64,
    /// By port: copies sent, and those that found it full.
    egress: HashMap<u16, (u64, u64)>,
}

impl Daemon {
    /// Takes down what the workers have done so far.
    pub(super) fn note_loads(&mut self) {
        let now = self.clock.now();
        let loads = self.loads();
        self.latency.loads.push_back((now, loads));
        if self.latency.loads.len() > LOADS_MAX {
            self.latency.loads.pop_front();
        }
    }

    fn loads(&self) -> Vec<Load> {
        let load = |worker| {
            let totals = self.switch.worker_totals(worker);
            let ports = self.all_ports();
            let egress = ports.map(|(port, _)| (port.0, self.switch.worker_egress(worker, port)));
            let rings = self.all_ports();
            let full = rings.map(|(port, _)| self.switch.worker_overruns(worker, port));
            Load {
                busy: Nanos(totals.busy_nanos),
                frames: totals.received,
                ring_full: full.sum(),
                egress: egress.collect(),
            }
        };
        (0..self.switch.workers()).map(load).collect()
    }

    fn loads_answer(&self) -> Vec<WorkerLoad> {
        let now = self.clock.now();
        let none = Load::default();
        let (since, before) = match self.latency.loads.front() {
            Some((at, loads)) => (*at, loads.as_slice()),
            None => (self.ready_at, Default::default()),
        };
        let window = seconds(now.saturating_sub(since));
        let loads = (0u16..).zip(self.loads());
        let answer = loads.map(|(index, load)| {
            let before = before.get(usize::from(index)).unwrap_or(&none);
            let egress = load.egress.iter().map(|(port, (sent, full))| {
                let (sent_before, full_before) = before.egress.get(port).unwrap_or(&(0, 0));
                let full = full.saturating_sub(*full_before);
                (full, sent.saturating_sub(*sent_before), *port)
            });
            let most = egress.max().filter(|(full, sent, _)| full + sent > 0);
            let (egress_full, egress_sent, _) = most.unwrap_or_default();
            let busy = seconds(load.busy.saturating_sub(before.busy));
            let load = WorkerLoad {
                index,
                window,
                busy_share: (busy / window.max(f64::MIN_POSITIVE)).min(1.0),
                frames: load.frames.saturating_sub(before.frames),
                ring_full: load.ring_full.saturating_sub(before.ring_full),
                egress: most.map(|(_, _, port)| self.name_of(PortIndex(port))),
                egress_sent,
                egress_full,
                bound: Bound::Idle,
            };
            load.judged()
        });
        answer.collect()
    }

    pub(super) fn latency_answer(&self) -> api::Latency {
        let mut pairs: Vec<PairLatency> = Vec::new();
        for worker in 0..self.switch.workers() {
            for read in self.switch.worker_latency(worker) {
                match pairs.iter_mut().find(|known| known.pair == read.pair) {
                    Some(known) => known.merge(&read),
                    None => pairs.push(read),
                }
            }
        }
        let mut pairs: Vec<_> = pairs.iter().map(|pair| self.pair_answer(pair)).collect();
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.frames));
        let since = self.latency.reset_at.unwrap_or(self.ready_at);
        let interval = seconds(self.clock.now().saturating_sub(since));
        api::Latency {
            schema: api::LatencySchema,
            since: moment::now().as_secs_f64() - interval,
            interval,
            workers: self.loads_answer(),
            pairs,
        }
    }

    fn pair_answer(&self, read: &PairLatency) -> api::LatencyPair {
        let (to, egress) = match read.pair.map(|pair| pair.to) {
            None => (LatencyTo::Others, None),
            Some(To::Port(port)) => (LatencyTo::Port, Some(self.name_of(port))),
            Some(To::Flood) => (LatencyTo::Flood, None),
            Some(To::Nowhere) => (LatencyTo::Nowhere, None),
        };
        api::LatencyPair {
            ingress: read.pair.map(|pair| self.name_of(pair.ingress)),
            egress,
            to,
            frames: read.stage(Stage::Process).count(),
            samples: read.samples,
            wait: stage(read.stage(Stage::Wait)),
            process: stage(read.stage(Stage::Process)),
            send: stage(read.stage(Stage::Send)),
            total: stage(read.stage(Stage::Total)),
        }
    }

    pub(super) fn latency_reset(&mut self) -> api::Done {
        let taken = self.switch.take_latency();
        let count = taken.iter().map(Vec::len).sum();
        let forwarded = self.forwarded((0u16..).zip(taken));
        self.latency.taken.merge(&forwarded);
        self.latency.reset_at = Some(self.clock.now());
        let plural = if count == 1 { "" } else { "s" };
        done(format!("latency of {count} pair{plural} forgotten"), count)
    }

    /// All that was measured since the start.
    pub(super) fn forwarded_ever(&self) -> Forwarded {
        let workers = 0..self.switch.workers();
        let now = workers.map(|worker| (worker, self.switch.worker_latency(worker)));
        let mut forwarded = self.forwarded(now);
        forwarded.merge(&self.latency.taken);
        forwarded
    }

    fn forwarded(&self, read: impl Iterator<Item = (u16, Vec<PairLatency>)>) -> Forwarded {
        let mut forwarded = Forwarded::default();
        for (worker, pairs) in read {
            for pair in pairs {
                for stage in Stage::ALL {
                    let sum = forwarded.stages.entry((worker, stage.word())).or_default();
                    sum.merge(pair.stage(stage));
                }
                let total = pair.stage(Stage::Total);
                if let Some(names) = self.names_of(pair.pair).filter(|_| total.count() > 0) {
                    forwarded.pairs.entry(names).or_default().merge(total);
                }
            }
        }
        forwarded
    }

    /// Where frames came in and went out, as labels; `None` for those that went nowhere.
    fn names_of(&self, pair: Option<Pair>) -> Option<(String, String)> {
        let Some(Pair { ingress, to }) = pair else {
            return Some(("others".into(), "others".into()));
        };
        let egress = match to {
            To::Port(egress) => self.name_of(egress),
            To::Flood => "flood".into(),
            To::Nowhere => return None,
        };
        Some((self.name_of(ingress), egress))
    }
}
