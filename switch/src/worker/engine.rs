//! One worker's own state, and a batch's way through it.

use nat::{Nanos, Nat};

use crate::config::View;
use crate::dispatch::{self, Dispatcher};
use crate::drops::{Account, Drops};
use crate::frame::{Batch, OwnedFrame};
use crate::gateway::{self, Context, Offers, Origin, Released};
use crate::hold::Hold;
use crate::latency::Probe;
use crate::pipeline;
use crate::port::PortIndex;
use crate::stations::Stations;
use crate::trace::{self, Off, On, Recorder, Tag, Tracer};
use crate::verdict::{DropReason, Verdict};

use super::Shared;

/// What the pipeline needs of a worker, apart from its ports.
pub(super) struct Engine {
    pub(super) index: u16,
    pub(super) dispatcher: Dispatcher,
    pub(super) nat: Option<Nat>,
    pub(super) hold: Hold,
    pub(super) origin: Origin,
    /// What was dropped.
    pub(super) drops: Drops,
    /// What is told of stations.
    pub(super) stations: Stations,
    /// What may go by the fast path.
    pub(super) offers: Offers,
    /// Of the view in force; kept here because finding it looks at every port.
    pub(super) member_mtu_min: u32,
    /// While frames are traced.
    pub(super) recorder: Option<Box<Recorder>>,
    /// Measures latency, where there are clocks to do it by.
    pub(super) probe: Option<Probe>,
}

impl Engine {
    /// Decides every frame of `batch`, sends what is to be sent, counts all of it.
    pub(super) fn run(&mut self, shared: &Shared, view: &View, batch: &mut Batch<'_>, now: Nanos) {
        if trace::built_in(self.recorder.as_ref()).is_some() {
            self.run_recorded(shared, view, batch, now);
        } else {
            self.run_traced(shared, view, (batch, now), Off);
        }
        if !self.origin.frames.is_empty() {
            self.send_originated(shared, view, now);
        }
    }

    // Out of line, so that the usual way is compiled as if there were no other.
    #[cold]
    #[inline(never)]
    fn run_recorded(&mut self, shared: &Shared, view: &View, batch: &mut Batch<'_>, now: Nanos) {
        // Taken out, so that it is lent apart from the rest.
        if let Some(mut recorder) = self.recorder.take() {
            recorder.begin_batch(now);
            self.run_traced(shared, view, (batch, now), On(&mut recorder));
            recorder.commit(batch);
            self.recorder = Some(recorder);
        }
    }

    #[inline(always)]
    fn run_traced(
        &mut self,
        shared: &Shared,
        view: &View,
        (batch, now): (&mut Batch<'_>, Nanos),
        mut tracer: impl Tracer,
    ) {
        let mut verdicts = self.with_context_unsent(shared, view, (now, tracer.lend()), |ctx| {
            pipeline::process(ctx, batch)
        });
        dispatch::finish(batch, &mut verdicts);
        let mut account = Account {
            counters: &shared.counters[usize::from(self.index)],
            drops: &mut self.drops,
            now,
        };
        for (place, (frame, verdict)) in batch.iter().zip(&mut verdicts).enumerate() {
            if let Verdict::HandOver(worker) = *verdict {
                let mut owned = frame.to_owned();
                if let Some(recorder) = tracer.recorder() {
                    owned.set_tag(recorder.tag_of(place, frame));
                }
                *verdict = hand_over(shared, worker, owned);
            }
            if let Some(recorder) = tracer.recorder() {
                recorder.corrected(place, *verdict);
            }
            account.verdict(*verdict, frame);
        }
        account.counters.totals.batches.add(1);
        if let Some(probe) = &mut self.probe {
            probe.decided();
        }
        self.dispatcher
            .batch(view, (account, tracer), batch, &verdicts);
        // What is only tried out has nowhere to be written down.
        let latency = shared.latency.get(usize::from(self.index));
        if let Some((probe, latency)) = self.probe.as_mut().zip(latency) {
            probe.sent(latency, batch, &verdicts);
        }
    }

    /// Lends the pipeline's context, and sends what the gateway made in it.
    pub(super) fn with_context<T>(
        &mut self,
        shared: &Shared,
        view: &View,
        now: Nanos,
        work: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T {
        let result = self.with_context_unsent(shared, view, (now, Off), work);
        if !self.origin.frames.is_empty() {
            self.send_originated(shared, view, now);
        }
        result
    }

    fn with_context_unsent<R, T: Tracer>(
        &mut self,
        shared: &Shared,
        view: &View,
        (now, tracer): (Nanos, T),
        work: impl FnOnce(&mut Context<'_, T>) -> R,
    ) -> R {
        let mut ctx = Context {
            view,
            fdb: &shared.fdb,
            neighbours: &shared.neighbours,
            nat: self.nat.as_mut(),
            hold: &mut self.hold,
            origin: &mut self.origin,
            offers: &mut self.offers,
            stations: &mut self.stations,
            worker: self.index,
            member_mtu_min: self.member_mtu_min,
            last_hop: None,
            now,
            tracer,
        };
        work(&mut ctx)
    }

    /// Fragments whose fate the NAT has come to know since the last call, as frames to be run.
    pub(super) fn released_fragments(
        &mut self,
        shared: &Shared,
        view: &View,
        now: Nanos,
    ) -> Vec<OwnedFrame> {
        let mut frames = Vec::new();
        let mut account = Account {
            counters: &shared.counters[usize::from(self.index)],
            drops: &mut self.drops,
            now,
        };
        let Some(nat) = &mut self.nat else {
            return frames;
        };
        while let Some(packet) = nat.released() {
            account.counters.totals.released.add(1);
            let tag = trace::built_in(self.recorder.as_mut())
                .map_or(Tag::NONE, |recorder| recorder.tag_of_released(&packet));
            let released = match &view.uplink {
                Some(uplink) => gateway::released(&packet, uplink, view.gateway, self.index),
                None => Released::Dropped(DropReason::UplinkDown),
            };
            let verdict = match released {
                Released::Here(mut frame) => {
                    frame.set_tag(tag);
                    frames.push(frame);
                    continue;
                }
                Released::Elsewhere(worker, mut frame) => {
                    frame.set_tag(tag);
                    hand_over(shared, worker, frame)
                }
                Released::Dropped(reason) => Verdict::Drop(reason),
            };
            let port = view
                .uplink
                .as_ref()
                .map_or(PortIndex::default(), |it| it.port);
            account.packet_verdict(verdict, port, &packet.bytes);
            if let Some(recorder) = trace::built_in(self.recorder.as_mut()) {
                recorder.released_aside(&packet, (port, tag), verdict);
            }
        }
        frames
    }

    #[inline(never)]
    fn send_originated(&mut self, shared: &Shared, view: &View, now: Nanos) {
        let account = Account {
            counters: &shared.counters[usize::from(self.index)],
            drops: &mut self.drops,
            now,
        };
        let (frames, dispatcher) = (&mut self.origin.frames, &mut self.dispatcher);
        match trace::built_in(self.recorder.as_mut()) {
            Some(recorder) => dispatcher.originated(view, (account, On(recorder)), frames),
            None => dispatcher.originated(view, (account, Off), frames),
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
