//! What would become of a frame.
//!
//! # Theory of operation
//!
//! The frame goes through [`Engine::run`] as every frame does: the same pipeline, gateway, NAT and
//! dispatch, between two batches, at the worker that would get it. Only what surrounds them is
//! other than usual:
//!
//! ```text
//! forwarding table, neighbours  copies, made by whoever asks: no worker waits for them
//! NAT                           the worker's own, on trial: nat::Nat::begin_trial
//! frames that wait              as many for the same next hops, and empty
//! rates of ICMP errors          a copy
//! ports                         without a way out: Egress::Nowhere
//! queues of the other workers   queues of nobody, with room where those have some
//! counters                      nobody's
//! drops, news of stations       none are kept
//! ```
//!
//! What is handed over lies in one of nobody's queues afterwards. Then the question goes on to the
//! worker whose queue it would be, with all that the frame has changed in the copies; so the story
//! is told to its end, piece by piece, by those who would have had a part in it.
//!
//! What it would set free is not followed: frames that wait for the neighbour it tells of, or for
//! the first fragment that it is.

use std::mem::{replace, swap};

use crossbeam_channel::{Receiver, Sender, bounded};
use nat::Nanos;

use crate::config::View;
use crate::counters::WorkerCounters;
use crate::frame::{Batch, OwnedFrame};
use crate::latency::Probe;
use crate::port::Egress;
use crate::trace::Recorder;

use super::engine::Engine;
use super::{Command, Inbox, Shared, Worker};

/// Times that a frame may be handed over: stages only go on, and there are fewer.
const HANDOVERS_MAX: u32 = 8;

/// A frame to be tried, and what it is tried in. See the module's theory of operation.
pub struct WhatIf {
    frame: OwnedFrame,
    shared: Shared,
    inboxes: Vec<Inbox>,
    view: View,
    /// None: its time is not measured.
    probe: Option<Probe>,
    /// One for each worker.
    recorders: Vec<Option<Box<Recorder>>>,
    handovers: u32,
    /// Where it goes when all is told: what it is made of is no worker's to give back.
    done: Sender<Box<Self>>,
}

impl std::fmt::Debug for WhatIf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WhatIf")
            .field("handovers", &self.handovers)
            .finish_non_exhaustive()
    }
}

impl WhatIf {
    /// The question what would become of `frame` among workers that share `shared` and decide by
    /// `view`, to be told to `recorders`; and where it comes back when it is answered.
    pub(crate) fn new(
        frame: OwnedFrame,
        (shared, view): (&Shared, &View),
        recorders: impl Iterator<Item = Recorder>,
    ) -> (Box<Self>, Receiver<Box<Self>>) {
        let (links, inboxes) = shared.links.iter().map(|link| link.twin()).unzip();
        let counters = shared.counters.iter();
        let surroundings = Shared {
            fdb: shared.fdb.copy(),
            neighbours: shared.neighbours.copy(),
            links,
            counters: counters.map(|_| WorkerCounters::for_nobody()).collect(),
            // Nothing is measured here.
            latency: Vec::new(),
        };
        let mut view = view.clone();
        for port in view.ports.iter_mut().flatten() {
            port.egress = Egress::Nowhere;
        }
        let (done, answer) = bounded(1);
        let what_if = Self {
            frame,
            shared: surroundings,
            inboxes,
            view,
            probe: None,
            recorders: recorders.map(|recorder| Some(Box::new(recorder))).collect(),
            handovers: 0,
            done,
        };
        (Box::new(what_if), answer)
    }

    /// The worker it was handed over to, and the frame as it was.
    fn handed_over(&self) -> Option<(usize, OwnedFrame)> {
        let mut inboxes = self.inboxes.iter().enumerate();
        inboxes.find_map(|(worker, inbox)| Some((worker, inbox.take_frames(1).pop()?)))
    }
}

impl Worker {
    /// Tells its part of what would become of a frame, and hands the question on.
    pub(super) fn what_if(&mut self, mut what_if: Box<WhatIf>, now: Nanos) {
        self.engine.try_out(&mut what_if, now);
        if what_if.handovers < HANDOVERS_MAX
            && let Some((worker, frame)) = what_if.handed_over()
            && let Some(link) = self.shared.links.get(worker)
        {
            what_if.frame = frame;
            what_if.handovers += 1;
            link.command(Command::WhatIf(what_if));
            return;
        }
        let done = what_if.done.clone();
        // Whoever gave up waiting does not need the answer.
        let _ = done.send(what_if);
    }
}

impl Engine {
    fn try_out(&mut self, what_if: &mut WhatIf, now: Nanos) {
        let place = usize::from(self.index);
        let recorder = what_if.recorders.get_mut(place).and_then(Option::take);
        let (hold, origin) = (self.hold.twin(), self.origin.twin());
        let own = (
            replace(&mut self.hold, hold),
            replace(&mut self.origin, origin),
            replace(&mut self.recorder, recorder),
            std::mem::take(&mut self.stations),
            std::mem::take(&mut self.offers),
        );
        self.lend_the_rest(what_if, true);
        let WhatIf {
            frame,
            shared,
            view,
            ..
        } = what_if;
        if let Some(told_to) = &mut self.recorder {
            told_to.resume(std::iter::once(frame.tag()));
        }
        let mut batch: Batch<'_> = std::iter::once(frame.borrow()).collect();
        self.run(shared, view, &mut batch, now);
        drop(batch);
        self.lend_the_rest(what_if, false);
        let (hold, origin, recorder, stations, offers) = own;
        (self.hold, self.origin) = (hold, origin);
        (self.stations, self.offers) = (stations, offers);
        let told_to = replace(&mut self.recorder, recorder);
        if let Some(mut told_to) = told_to {
            told_to.finish();
            // It may come here again.
            if let Some(place) = what_if.recorders.get_mut(place) {
                *place = Some(told_to);
            }
        }
    }

    /// Puts what a frame changes out of its way, or back. All of an engine is named, so that what
    /// is added later is not forgotten here.
    fn lend_the_rest(&mut self, what_if: &mut WhatIf, begins: bool) {
        let Self {
            index: _,
            dispatcher: _,
            nat,
            hold: _,
            origin: _,
            drops,
            stations: _,
            offers: _,
            member_mtu_min: _,
            recorder: _,
            probe,
        } = self;
        // What is tried is not dropped.
        drops.pause(begins);
        swap(probe, &mut what_if.probe);
        match nat {
            Some(nat) if begins => nat.begin_trial(),
            Some(nat) => nat.end_trial(),
            None => {}
        }
    }
}
