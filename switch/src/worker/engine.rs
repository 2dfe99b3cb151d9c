//! One worker's own state, and a batch's way through it.

use nat::{Nanos, Nat};

use crate::config::View;
use crate::counters::WorkerCounters;
use crate::dispatch::{self, Dispatcher};
use crate::frame::{Batch, OwnedFrame};
use crate::gateway::{self, Context, Origin, Released};
use crate::hold::Hold;
use crate::pipeline;
use crate::port::PortIndex;
use crate::verdict::{DropReason, Verdict};

use super::Shared;

/// What the pipeline needs of a worker, apart from its ports.
pub(super) struct Engine {
    pub(super) index: u16,
    pub(super) dispatcher: Dispatcher,
    pub(super) nat: Option<Nat>,
    pub(super) hold: Hold,
    pub(super) origin: Origin,
    /// Of the view in force; kept here because finding it looks at every port.
    pub(super) member_mtu_min: u32,
}

impl Engine {
    /// Decides every frame of `batch`, sends what is to be sent, counts all of it.
    pub(super) fn run(&mut self, shared: &Shared, view: &View, batch: &mut Batch<'_>, now: Nanos) {
        let counters = self.counters(shared);
        let mut verdicts =
            self.with_context_unsent(shared, view, now, |ctx| pipeline::process(ctx, batch));
        dispatch::finish(batch, &mut verdicts);
        for (frame, verdict) in batch.iter().zip(&mut verdicts) {
            if let Verdict::HandOver(worker) = *verdict {
                *verdict = hand_over(shared, worker, frame.to_owned());
            }
            counters.verdict(*verdict, frame.ingress);
        }
        counters.totals.batches.add(1);
        self.dispatcher.batch(view, counters, batch, &verdicts);
        self.send_originated(shared, view);
    }

    fn counters<'s>(&self, shared: &'s Shared) -> &'s WorkerCounters {
        &shared.counters[usize::from(self.index)]
    }

    /// Lends the pipeline's context, and sends what the gateway made in it.
    pub(super) fn with_context<T>(
        &mut self,
        shared: &Shared,
        view: &View,
        now: Nanos,
        work: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T {
        let result = self.with_context_unsent(shared, view, now, work);
        self.send_originated(shared, view);
        result
    }

    fn with_context_unsent<T>(
        &mut self,
        shared: &Shared,
        view: &View,
        now: Nanos,
        work: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T {
        let mut ctx = Context {
            view,
            fdb: &shared.fdb,
            neighbours: &shared.neighbours,
            nat: self.nat.as_mut(),
            hold: &mut self.hold,
            origin: &mut self.origin,
            worker: self.index,
            member_mtu_min: self.member_mtu_min,
            last_hop: None,
            now,
        };
        work(&mut ctx)
    }

    /// Fragments whose fate the NAT has come to know since the last call, as frames to be run.
    pub(super) fn released_fragments(&mut self, shared: &Shared, view: &View) -> Vec<OwnedFrame> {
        let mut frames = Vec::new();
        let counters = &shared.counters[usize::from(self.index)];
        let Some(nat) = &mut self.nat else {
            return frames;
        };
        while let Some(packet) = nat.released() {
            counters.totals.released.add(1);
            let Some(uplink) = &view.uplink else {
                counters.verdict(Verdict::Drop(DropReason::UplinkDown), PortIndex::default());
                continue;
            };
            match gateway::released(&packet, uplink, view.gateway, self.index) {
                Released::Here(frame) => frames.push(frame),
                Released::Elsewhere(worker, frame) => {
                    counters.verdict(hand_over(shared, worker, frame), uplink.port);
                }
                Released::Dropped(reason) => {
                    counters.verdict(Verdict::Drop(reason), uplink.port);
                }
            }
        }
        frames
    }

    fn send_originated(&mut self, shared: &Shared, view: &View) {
        if !self.origin.frames.is_empty() {
            let counters = self.counters(shared);
            self.dispatcher
                .originated(view, counters, &mut self.origin.frames);
        }
    }
}

/// Hands a frame over, or drops it where the other worker's queue is full.
fn hand_over(shared: &Shared, worker: u16, frame: OwnedFrame) -> Verdict {
    let link = shared.links.get(usize::from(worker));
    if link.is_some_and(|link| link.hand_over(frame)) {
        Verdict::HandOver(worker)
    } else {
        Verdict::Drop(DropReason::HandoverFull)
    }
}
