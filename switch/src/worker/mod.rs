//! A worker: the only loop of the data plane.
//!
//! # Theory of operation
//!
//! A worker owns the receiving halves of some ports, the NAT sessions of the members behind them,
//! and sockets to send to every port; so it takes no lock for a frame. [`Worker::poll_once`] visits
//! each ring once (of hundreds, those that are not quiet, see `ports`), up to 64 frames at a time,
//! and runs them to completion; the uplink's again after each batch of another port, since it has
//! the answers to them all. [`Worker::tick`] does what is not due for every frame, in bounded
//! portions. Both take the time as an argument: the simulator calls them directly, [`run`] from a
//! thread.
//!
//! What a frame needs from another worker is handed over through that worker's bounded queue: a
//! packet from the uplink whose NAT port lies in another slice, mostly because the kernel could not
//! steer it (fragments), or one that goes by way of an external address to another worker's
//! member, or one from a member whose port was moved here, for the NAT worker it had before, or the
//! answer of a published port whose sessions another worker keeps. A full queue is a counted drop.
//!
//! A port moves between two batches ([`Command::Move`]). What its worker took from the ring is sent
//! by then, or in another worker's queue; what waits for a neighbour goes along. The new worker
//! first empties its queue, where frames of that port may be, then runs those that waited, and only
//! then looks into the ring; so no frame overtakes another of its flow.
//!
//! Sleeping: when all rings are empty a worker spins for `busy_poll` and then sleeps in `ppoll`. It
//! announces that it will (`Link::sleeping`) before it looks at its queues for the last time, and
//! whoever hands something over looks at the announcement after; so either it sees the frame or it
//! is woken, and nothing waits for a timeout.

mod command;
mod drops;
mod engine;
mod events;
mod journal;
mod link;
mod loans;
mod ports;
mod run;
mod sessions;
mod stations;
mod what_if;

use std::sync::Arc;

use crossbeam_channel::Sender;
use nat::{Nanos, Nat};

pub use command::{Command, GiveBack, Moving, NatReport};
pub use events::NatEvents;
pub use link::{Inbox, Link};
pub use run::{Idle, run};
pub use sessions::{NatPortion, NatRestore, NatRestored};
pub use stations::StationPortion;
pub use what_if::WhatIf;

use crate::config::View;
use crate::counters::WorkerCounters;
use crate::dispatch::Dispatcher;
use crate::drops::Drops;
use crate::fdb::Fdb;
use crate::frame::{Batch, Frame, OwnedFrame};
use crate::gateway::{self, Offers, Origin};
use crate::hold::Hold;
use crate::latency::{Probe, WorkerLatency};
use crate::limits::BATCH_FRAMES_MAX;
use crate::neigh::{Neighbour, Neighbours};
use crate::port::sys::usdt;
use crate::port::{FastPath, HotBuffers, Tx};
use crate::stations::Stations;
use crate::trace;
use crate::verdict::DropReason;

use engine::Engine;
use events::EventTap;
use journal::Hand;
use loans::Loans;
use ports::{OwnRx, Ports};

/// Slots of the shared tables one tick looks at: 100 ms apart, a table of 65,536 is swept in 3 s.
const SWEEP_SLOTS: usize = 2048;

/// Sessions one tick may expire.
const EXPIRE_SESSIONS: usize = 4096;

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// The forwarding table.
    pub fdb: Fdb,
    /// The gateway's neighbours.
    pub neighbours: Neighbours,
    /// How to reach each worker.
    pub links: Vec<Link>,
    /// Each worker's counters.
    pub counters: Vec<WorkerCounters>,
    /// What each worker has measured of latency.
    pub latency: Vec<WorkerLatency>,
}

/// One worker. See the module's theory of operation.
pub struct Worker {
    index: u16,
    shared: Arc<Shared>,
    view: Arc<View>,
    inbox: Inbox,
    ports: Ports,
    hot: HotBuffers,
    engine: Engine,
    event_tap: Option<EventTap>,
    stations_to: Option<Sender<StationPortion>>,
    /// The neighbours' generation when held frames were last looked at.
    neighbours_seen: u64,
    /// While its turns are recorded.
    journal: Option<Hand>,
    /// What is lent to the kernel, where there is a fast path.
    loans: Option<Loans>,
    /// What recorders of this worker have given out.
    given_out: trace::GivenOut,
    stopping: bool,
}

impl Worker {
    /// Worker `index` of those that share `shared`; `nat` is its slice of the sessions, `probe`
    /// measures latency.
    #[must_use]
    pub(crate) fn new(
        index: u16,
        shared: Arc<Shared>,
        inbox: Inbox,
        tx: Tx,
        (nat, probe, fast_path): (Option<Nat>, Option<Probe>, Option<Arc<FastPath>>),
        now: Nanos,
    ) -> Self {
        Self {
            index,
            shared,
            view: Arc::default(),
            inbox,
            ports: Ports::default(),
            hot: HotBuffers::new(),
            engine: Engine {
                index,
                dispatcher: Dispatcher::new(tx),
                nat,
                hold: Hold::default(),
                origin: Origin::new(now),
                drops: Drops::default(),
                stations: Stations::default(),
                offers: Offers::default(),
                member_mtu_min: View::default().member_mtu_min(),
                recorder: None,
                probe,
            },
            event_tap: None,
            stations_to: None,
            neighbours_seen: 0,
            journal: None,
            loans: fast_path.map(Loans::new),
            given_out: trace::GivenOut::default(),
            stopping: false,
        }
    }

    /// True once it was told to stop.
    #[must_use]
    pub const fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Frames waiting for a neighbour here.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.engine.hold.len()
    }

    fn counters(&self) -> &WorkerCounters {
        &self.shared.counters[usize::from(self.index)]
    }

    /// Visits every ring that may have frames, and the hand-over queue, once. Returns the frames
    /// handled.
    pub fn poll_once(&mut self, now: Nanos) -> usize {
        self.take_turn();
        // Before new frames are taken, so that those that waited go first.
        let has_news = self.heed_neighbours(now);
        let frames = self.poll_ports(now) + self.take_over(now);
        self.end_round(now, frames, has_news);
        let totals = &self.counters().totals;
        totals.polls.add(1);
        totals.busy_polls.add(u64::from(frames > 0));
        frames
    }

    /// Visits the rings in turn, the uplink's after each batch of another port and once at least.
    ///
    /// The uplink's ring has the answers to all members, in one queue. Were it visited as often as
    /// each of theirs, a member that floods, and is answered, would have a queue stand there that
    /// everybody's answers wait in, and it would be no shorter for what the flood's own ring loses.
    fn poll_ports(&mut self, now: Nanos) -> usize {
        let uplink = self.visited_uplink();
        let mut frames = 0;
        for place in 0..self.ports.visited() {
            if Some(place) == uplink {
                continue;
            }
            let taken = self.poll_port(place, now);
            frames += taken;
            if let (true, Some(uplink)) = (taken > 0, uplink) {
                frames += self.poll_port(uplink, now);
            }
        }
        if let (0, Some(uplink)) = (frames, uplink) {
            frames += self.poll_port(uplink, now);
        }
        frames
    }

    /// The place of the uplink's ring, if it is one of those that are visited.
    fn visited_uplink(&self) -> Option<usize> {
        let uplink = self.view.uplink.as_ref()?;
        let place = self.ports.place(uplink.port)?;
        (place < self.ports.visited()).then_some(place)
    }

    #[inline]
    fn poll_port(&mut self, place: usize, now: Nanos) -> usize {
        let own = self.ports.get_mut(place);
        if own.is_some_and(|own| own.look || own.rx.has_frames()) {
            self.visit_port(place, now)
        } else {
            0
        }
    }

    // Out of line, so that a look at an empty ring is part of the loop over them.
    #[inline(never)]
    fn visit_port(&mut self, place: usize, now: Nanos) -> usize {
        let Self {
            ports,
            hot,
            shared,
            view,
            engine,
            ..
        } = self;
        let Some(own) = ports.get_mut(place) else {
            return 0;
        };
        let probe = engine.probe.as_mut();
        let mut batch = match probe.and_then(Probe::begin) {
            None => own.rx.fill(hot),
            Some(arrivals) => own.rx.fill_noting(hot, arrivals),
        };
        let count = batch.len();
        if let Some(probe) = &mut engine.probe {
            probe.taken(count);
        }
        own.look = count > 0;
        if count > 0 {
            let bytes: usize = batch.iter().map(Frame::len).sum();
            let counters = &shared.counters[usize::from(engine.index)];
            counters.totals.received.add(count as u64);
            counters.port(own.port).received_frames.add(count as u64);
            counters.port(own.port).received_bytes.add(bytes as u64);
            usdt::received(own.port, engine.index, &batch);
            engine.run(shared, view, &mut batch, now);
        }
        drop(batch);
        own.rx.release();
        own.heat(count);
        if count > 0 {
            self.after_batch(now);
        }
        count
    }

    /// Frames other workers handed over.
    fn take_over(&mut self, now: Nanos) -> usize {
        let mut frames = self.inbox.take_frames(BATCH_FRAMES_MAX);
        if frames.is_empty() {
            return 0;
        }
        self.counters().totals.taken_over.add(frames.len() as u64);
        self.run_owned(&mut frames, now);
        self.after_batch(now);
        frames.len()
    }

    fn run_owned(&mut self, frames: &mut [OwnedFrame], now: Nanos) {
        for chunk in frames.chunks_mut(BATCH_FRAMES_MAX) {
            if let Some(recorder) = trace::built_in(self.engine.recorder.as_mut()) {
                recorder.resume(trace::tags(chunk));
            }
            let mut batch: Batch<'_> = chunk.iter_mut().map(OwnedFrame::borrow).collect();
            self.engine.run(&self.shared, &self.view, &mut batch, now);
        }
    }

    fn release_fragments(&mut self, now: Nanos) {
        if self.engine.nat.as_ref().is_some_and(Nat::has_released) {
            let mut released = (self.engine).released_fragments(&self.shared, &self.view, now);
            self.run_owned(&mut released, now);
        }
    }

    /// What a batch may have made possible: frames that waited for an answer, or for the first
    /// fragment of their packet.
    fn after_batch(&mut self, now: Nanos) {
        self.release_fragments(now);
        self.tend_loans(now);
        self.send_events_early(now);
        if self.heed_neighbours(now) {
            // Another worker may hold frames for the neighbour that answered here.
            for link in &self.shared.links {
                link.rouse();
            }
        }
    }

    /// Releases held frames if a neighbour has answered since the last look, here or at another
    /// worker. True if one has.
    fn heed_neighbours(&mut self, now: Nanos) -> bool {
        let generation = self.shared.neighbours.generation();
        let is_new = generation != self.neighbours_seen;
        if is_new {
            self.neighbours_seen = generation;
            self.release_held(now);
        }
        is_new
    }

    /// Runs the frames again whose next hop has answered, or has been given up.
    fn release_held(&mut self, now: Nanos) {
        loop {
            let neighbours = &self.shared.neighbours;
            let released = self.engine.hold.take(now, |hop| {
                neighbours.lookup(hop.link, hop.address, now) != Neighbour::Unknown
            });
            let Some(mut frames) = released else { return };
            self.counters().totals.released.add(frames.len() as u64);
            self.run_owned(&mut frames, now);
        }
    }

    /// Does what is due now and then: commands, expiry, ageing, ARP retries, losses in the rings.
    pub fn tick(&mut self, now: Nanos) {
        self.take_turn();
        self.obey(now);
        self.count_losses();
        if let Some(nat) = &mut self.engine.nat {
            nat.expire(now, EXPIRE_SESSIONS);
        }
        self.tick_loans(now);
        self.release_fragments(now);
        if self.index == 0 {
            self.shared.fdb.age(now, SWEEP_SLOTS);
        }
        self.ask_again(now);
        self.release_held(now);
        self.send_events(now);
        self.send_stations();
        self.send_records();
        self.end_tick(now);
        if let Some(probe) = &mut self.engine.probe {
            probe.tick(now);
        }
        self.shared.links[usize::from(self.index)].tick(now);
    }

    /// Repeats the ARP requests that frames wait for.
    fn ask_again(&mut self, now: Nanos) {
        if self.engine.hold.is_empty() {
            return;
        }
        let hops: Vec<gateway::Hop> = self.engine.hold.hops().collect();
        self.engine
            .with_context(&self.shared, &self.view, now, |ctx| {
                for hop in hops {
                    gateway::ask(ctx, hop);
                }
            });
    }

    /// Sends what was traced, if its reader has read all before it; a tick does so, too. Nobody
    /// traces what nobody reads.
    pub fn send_records(&mut self) {
        if let Some(recorder) = &mut self.engine.recorder {
            recorder.tick();
        }
        self.rest_recorder();
    }

    fn count_losses(&mut self) {
        let counters = &self.shared.counters[usize::from(self.index)];
        for own in self.ports.iter_mut() {
            count_losses(counters, own);
        }
    }
}

/// Losses were frames too: they count as received, and as dropped for their reason.
fn count_losses(counters: &WorkerCounters, own: &mut OwnRx) {
    let losses = own.rx.losses();
    let port = counters.port(own.port);
    for (count, reason) in [
        (losses.ring_full, DropReason::RingFull),
        (losses.truncated, DropReason::Truncated),
        (losses.unknown_offload, DropReason::UnknownOffload),
        (losses.malformed, DropReason::FrameTooShort),
        (losses.syn_flood, DropReason::NatSynFlood),
        (losses.fast_path, DropReason::FastPathGone),
    ] {
        if count > 0 {
            counters.totals.received.add(count);
            port.received_frames.add(count);
            port.drop_frames(reason, count);
            if usdt::wants_dropped() {
                usdt::dropped(own.port, reason, count);
            }
        }
    }
}
