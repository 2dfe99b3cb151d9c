//! Which batches are measured, and the measuring.

use nat::Nanos;

use super::{Arrivals, Clocks, Pair, Stage, To, WorkerLatency};
use crate::frame::Batch;
use crate::pipeline::Verdicts;
use crate::random::Random;

/// Batches to be measured a second; below that rate all are.
const SAMPLES_PER_SECOND: u64 = 1000;

/// So many measured since the mean was set make it twice as long at once: a rush that begins after
/// a quiet time does not wait for the tick.
const SAMPLES_AT_ONCE: u32 = 256;

/// The longest mean: one batch in so many.
const EVERY_MAX: u32 = 1 << 16;

/// From one setting of the mean to the next.
const SETTLE: Nanos = Nanos(100_000_000);

/// One worker's measuring.
pub(crate) struct Probe {
    clocks: Clocks,
    random: Random,
    /// On average one batch in so many is measured.
    every: u32,
    /// Batches until the next to be measured, it included; 1 is that one.
    left: u32,
    /// What `left` was when it was drawn, or when the mean was set since.
    drawn: u32,
    /// What a frame of that one counts for: the mean it was drawn with.
    weight: u32,
    /// Batches up to the last drawing and measured ones since the mean was set, and when that was.
    batches: u64,
    samples: u32,
    set_at: Nanos,
    /// The batch being measured.
    under_way: bool,
    began: Nanos,
    began_wall: Nanos,
    decided: Nanos,
    arrivals: Arrivals,
}

impl Probe {
    pub(crate) fn new(clocks: Clocks, seed: u64, now: Nanos) -> Self {
        Self {
            clocks,
            random: Random::new(seed),
            every: 1,
            left: 1,
            drawn: 1,
            weight: 1,
            batches: 0,
            samples: 0,
            set_at: now,
            under_way: false,
            began: Nanos::ZERO,
            began_wall: Nanos::ZERO,
            decided: Nanos::ZERO,
            arrivals: Arrivals::new(),
        }
    }

    /// Before a batch is taken, which may turn out empty: where it is one to be measured, begins,
    /// and says where its arrivals go.
    #[inline]
    pub(crate) fn begin(&mut self) -> Option<&mut Arrivals> {
        if self.left > 1 {
            return None;
        }
        self.begin_measuring();
        Some(&mut self.arrivals)
    }

    #[cold]
    fn begin_measuring(&mut self) {
        self.under_way = true;
        self.arrivals.clear();
        self.began = (self.clocks.steady)();
        self.began_wall = (self.clocks.wall)();
    }

    /// A batch was taken; an empty one does not count.
    #[inline]
    pub(crate) const fn taken(&mut self, frames: usize) {
        if frames == 0 {
            self.under_way = false;
        } else if !self.under_way {
            self.left -= 1;
        }
    }

    /// All verdicts are given.
    #[inline]
    pub(crate) fn decided(&mut self) {
        if self.under_way {
            self.decided = (self.clocks.steady)();
        }
    }

    /// The batch is sent.
    #[inline]
    pub(crate) fn sent(&mut self, into: &WorkerLatency, batch: &Batch<'_>, verdicts: &Verdicts) {
        if self.under_way {
            self.finish(into, batch, verdicts);
        }
    }

    #[cold]
    fn finish(&mut self, into: &WorkerLatency, batch: &Batch<'_>, verdicts: &Verdicts) {
        self.under_way = false;
        let sent = (self.clocks.steady)();
        let weight = u64::from(self.weight);
        let process = self.decided.saturating_sub(self.began);
        let send = sent.saturating_sub(self.decided);
        for (place, (frame, verdict)) in batch.iter().zip(verdicts).enumerate() {
            let pair = Pair::of(frame.ingress, *verdict);
            let cells = into.cells(pair);
            let leaves = pair.to != To::Nowhere;
            let wait = self.wait(place, process);
            cells.samples.add(1);
            cells.stage(Stage::Process).add(process, weight);
            if leaves {
                cells.stage(Stage::Send).add(send, weight);
            }
            if let Some((wait, late)) = wait {
                cells.stage(Stage::Wait).add(wait, weight);
                if leaves {
                    let total = Nanos(wait.0 + process.0 + send.0 - late.0);
                    cells.stage(Stage::Total).add(total, weight);
                }
            }
        }
        self.go_on();
    }

    /// How long the batch's frame in this place lay in its ring, and how long after the beginning
    /// it came, if that is known: one of them is 0, since a batch takes along what comes while it
    /// is taken.
    fn wait(&self, place: usize, process: Nanos) -> Option<(Nanos, Nanos)> {
        let arrival = (*self.arrivals.get(place)?)?;
        if let Some(wait) = self.began_wall.0.checked_sub(arrival.0) {
            return Some((Nanos(wait), Nanos::ZERO));
        }
        // Later still it cannot have come: the clock was set back.
        let late = arrival.saturating_sub(self.began_wall);
        (late <= process).then_some((Nanos::ZERO, late))
    }

    /// After a batch was measured: now and then makes the mean longer, and draws the next.
    fn go_on(&mut self) {
        self.batches += u64::from(self.drawn);
        self.samples += 1;
        if self.samples >= SAMPLES_AT_ONCE && self.every < EVERY_MAX {
            self.every *= 2;
            self.samples = 0;
        }
        self.draw();
    }

    /// Draws how many batches to pass over.
    fn draw(&mut self) {
        let all = 2 * u64::from(self.every) - 1;
        self.left = u32::try_from(1 + self.random.below(all)).unwrap_or(1);
        self.drawn = self.left;
        self.weight = self.every;
    }

    /// Now and then: sets the mean by how many batches there were.
    pub(crate) fn tick(&mut self, now: Nanos) {
        let passed = now.saturating_sub(self.set_at);
        if passed < SETTLE {
            return;
        }
        let wanted = (passed.0 / (1_000_000_000 / SAMPLES_PER_SECOND)).max(1);
        let batches = self.batches + u64::from(self.drawn - self.left);
        let every = u32::try_from(batches.div_ceil(wanted)).unwrap_or(EVERY_MAX);
        self.every = every.clamp(1, EVERY_MAX);
        self.set_at = now;
        (self.batches, self.samples, self.drawn) = (0, 0, self.left);
        // The rush is over: what was drawn in it may be hours away by now.
        if self.left >= 2 * self.every {
            self.draw();
        }
    }
}
