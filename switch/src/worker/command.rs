//! What the control plane asks of a worker.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crossbeam_channel::Sender;
use nat::{Census, Nanos, Part, Protocol, Selection, SessionView};

use crate::config::{UplinkView, View};
use crate::drops::DropRecord;
use crate::frame::OwnedFrame;
use crate::gateway;
use crate::journal::{Begin, Journal};
use crate::latency::PairLatency;
use crate::limits::{BATCH_FRAMES_MAX, HANDOVER_FRAMES_MAX};
use crate::port::{PortIndex, Rx};
use crate::trace::{Recorder, TapId};
use crate::verdict::DropReason;

use super::{NatEvents, NatPortion, NatRestore, StationPortion, WhatIf, Worker, count_losses};

/// A command in a worker's mailbox; obeyed between two batches.
#[derive(Debug)]
pub enum Command {
    /// Decide by this view from now on.
    View(Arc<View>),
    /// Receive from this port, in place of what it had before, which is the answer.
    Receive(PortIndex, Box<Rx>, GiveBack),
    /// Receive no more from this port; the answer is what it had.
    Release(PortIndex, GiveBack),
    /// Give the receiving half of this port to that worker, then see to it that the sender hears
    /// of it.
    Move(PortIndex, u16, Sender<()>),
    /// Receive from a port that another worker has given away.
    Take(Box<Moving>),
    /// Tell all stations who the gateway is.
    Announce,
    /// Report the selected sessions of one part of the table.
    NatReport(Arc<Selection>, Part, Sender<NatReport>),
    /// Count the sessions of one part of the table; the answer is how many there are of each kind,
    /// and where the next part begins.
    NatCensus(Part, Sender<(Census, Option<u32>)>),
    /// End the selected sessions of one part of the table; the answer is how many there were, and
    /// where the next part begins.
    NatFlush(Arc<Selection>, Part, Sender<(usize, Option<u32>)>),
    /// Record the NAT's events and send them there, or record none.
    NatEvents(Option<Sender<NatEvents>>),
    /// Report the sessions of one part of the table as records.
    NatSnapshot(Part, Sender<NatPortion>),
    /// Bring sessions back.
    NatRestore(Box<NatRestore>),
    /// Report what is kept of the frames dropped for this reason, or for any.
    Drops(Option<DropReason>, Sender<Vec<DropRecord>>),
    /// Forget what is kept of dropped frames.
    ForgetDrops,
    /// Send news of stations there, or none.
    TellStations(Option<Sender<StationPortion>>),
    /// Trace what this recorder's tap chooses, too.
    Trace(Box<Recorder>),
    /// Trace it no more.
    EndTrace(TapId),
    /// Say what would become of a frame.
    WhatIf(Box<WhatIf>),
    /// Tell what was measured of latency, and forget it.
    TakeLatency(Sender<Vec<PairLatency>>),
    /// Take turns from now on, and tell of them; the answer is whether all do.
    Journal(Arc<Journal>, Sender<bool>),
    /// Take no more turns.
    EndJournal,
    /// Begin as a worker did whose journal is done again.
    Resume(Box<Begin>),
    /// Finish.
    Stop,
}

/// Where a worker gives back a receiving half it no longer needs. Closing one takes the kernel's
/// RTNL lock, which others may hold for seconds on a host where containers come and go; so whoever
/// asked closes it, and not the worker.
pub type GiveBack = Sender<Option<Rx>>;

/// A port on its way from one worker to another.
#[derive(Debug)]
pub struct Moving {
    port: PortIndex,
    rx: Rx,
    /// Frames that waited for a neighbour: in front of all that is in the ring.
    held: Vec<OwnedFrame>,
    done: Sender<()>,
}

/// One worker's sessions, as the command line shows them.
#[derive(Debug, Clone, Default)]
pub struct NatReport {
    /// The worker's time, to which the sessions' times relate.
    pub now: Nanos,
    /// The sessions that were selected.
    pub sessions: Vec<SessionView>,
    /// Where the next part of the table begins, unless this was the last.
    pub next: Option<u32>,
    /// All sessions there are.
    pub total: usize,
    /// What was counted since the start.
    pub counters: nat::Counters,
    /// What the engine was made with, the external addresses now in force; `None` without one.
    pub config: Option<nat::Config>,
    /// External TCP ports, UDP ports and echo ids in use.
    pub ports_used: [u32; 3],
    /// Sessions there is room for.
    pub capacity: usize,
}

impl Worker {
    /// Obeys all commands that wait.
    pub(super) fn obey(&mut self, now: Nanos) {
        while let Some(command) = self.inbox.next_command() {
            self.note(&command);
            match command {
                Command::View(view) => self.set_view(view, now),
                Command::Receive(port, rx, give_back) => {
                    let before = self.receive(port, *rx);
                    // Nobody waits for it any more: then it is closed here after all.
                    let _ = give_back.send(before);
                }
                Command::Release(port, give_back) => {
                    let _ = give_back.send(self.release(port));
                }
                Command::Move(port, to, done) => self.give_away(port, to, done),
                Command::Take(moving) => self.take(*moving, now),
                Command::Announce => {
                    let (shared, view) = (&self.shared, &self.view);
                    self.engine
                        .with_context(shared, view, now, gateway::announce);
                }
                Command::NatReport(selection, part, answer) => {
                    let _ = answer.send(self.nat_part(&selection, part, now));
                }
                Command::NatCensus(part, answer) => {
                    let mut census = Census::default();
                    let nat = self.engine.nat.as_ref();
                    let next = nat.and_then(|nat| nat.count_sessions(part, &mut census));
                    let _ = answer.send((census, next));
                }
                Command::NatFlush(selection, part, answer) => {
                    let nat = self.engine.nat.as_mut();
                    let ended = nat.map_or((0, None), |nat| nat.end_selected(&selection, part));
                    let _ = answer.send(ended);
                }
                Command::NatEvents(to) => self.tap_events(to),
                Command::NatSnapshot(part, answer) => {
                    let _ = answer.send(self.nat_portion(part, now));
                }
                Command::NatRestore(restore) => self.nat_restore(*restore, now),
                Command::Drops(reason, answer) => {
                    let _ = answer.send(self.drops(reason));
                }
                Command::ForgetDrops => self.engine.drops.forget(),
                Command::TellStations(to) => self.tell_stations(to),
                Command::Trace(recorder) => self.trace(recorder),
                Command::EndTrace(id) => self.end_trace(id),
                Command::WhatIf(what_if) => self.what_if(what_if, now),
                Command::TakeLatency(answer) => {
                    let _ = answer.send(self.shared.latency[usize::from(self.index)].take());
                }
                Command::Journal(journal, begun) => self.begin_journal(journal, &begun, now),
                Command::EndJournal => self.end_journal(now),
                Command::Resume(begin) => self.resume(*begin, now),
                Command::Stop => {
                    self.end_journal(now);
                    self.end_traces();
                    self.stop_loans(now);
                    self.count_losses();
                    self.stopping = true;
                }
            }
        }
    }

    fn trace(&mut self, mut recorder: Box<Recorder>) {
        match &mut self.engine.recorder {
            Some(present) => present.join(recorder),
            none => {
                recorder.go_on_from(self.given_out);
                *none = Some(recorder);
            }
        }
    }

    fn end_trace(&mut self, id: TapId) {
        if let Some(recorder) = &mut self.engine.recorder {
            recorder.end_tap(id);
        }
        self.rest_recorder();
    }

    fn end_traces(&mut self) {
        if let Some(recorder) = &mut self.engine.recorder {
            recorder.finish();
        }
        self.engine.recorder = None;
    }

    /// Without a reader nothing is traced; the next recorder goes on naming packets.
    pub(super) fn rest_recorder(&mut self) {
        if let Some(last) = self.engine.recorder.take_if(|recorder| recorder.is_idle()) {
            self.given_out = last.given_out();
        }
    }

    fn set_view(&mut self, view: Arc<View>, now: Nanos) {
        self.stop_loans(now);
        if let Some(nat) = &mut self.engine.nat {
            let before = self.view.uplink.iter().flat_map(UplinkView::externals);
            if let Some(uplink) = &view.uplink
                && !uplink.externals().eq(before)
            {
                let externals: Vec<Ipv4Addr> = uplink.externals().collect();
                nat.set_externals(&externals);
            }
            if !Arc::ptr_eq(&self.view.publishes, &view.publishes) {
                nat.set_publishes(Arc::clone(&view.publishes), now);
            }
        }
        // A port of the same index may come after one that is gone, and is another.
        for (index, port) in (0..).zip(&view.ports) {
            if port.is_none() {
                self.engine.dispatcher.forget(PortIndex(index));
            }
        }
        let is_gone = |port: PortIndex| view.ports.get(port.index()).is_some_and(Option::is_none);
        self.shared.latency[usize::from(self.index)].forget_ports(is_gone);
        self.forget_replaced_ports(&view);
        self.engine.member_mtu_min = view.member_mtu_min();
        self.view = view;
    }

    fn receive(&mut self, port: PortIndex, rx: Rx) -> Option<Rx> {
        let before = self.release(port);
        self.ports.push(port, rx);
        before
    }

    fn release(&mut self, port: PortIndex) -> Option<Rx> {
        let mut own = self.ports.remove(port)?;
        count_losses(&self.shared.counters[usize::from(self.index)], &mut own);
        Some(own.rx)
    }

    /// Gives a port to worker `to`, with the frames from it that wait here. Straight to it and not
    /// by way of the control plane: a port that nobody waits for any more is not lost.
    fn give_away(&mut self, port: PortIndex, to: u16, done: Sender<()>) {
        let (Some(rx), Some(link)) = (self.release(port), self.shared.links.get(usize::from(to)))
        else {
            // Its device is gone: there is nothing to move but the port's entry.
            let _ = done.send(());
            return;
        };
        let held = self.engine.hold.take_from(port);
        // A worker that is gone receives from nothing more, and nor does this one then.
        link.command(Command::Take(Box::new(Moving {
            port,
            rx,
            held,
            done,
        })));
    }

    /// Receives from a port that another worker had. See the module's theory of operation.
    fn take(&mut self, moving: Moving, now: Nanos) {
        let Moving {
            port,
            rx,
            mut held,
            done,
        } = moving;
        for _ in 0..HANDOVER_FRAMES_MAX.div_ceil(BATCH_FRAMES_MAX) {
            if self.take_over(now) == 0 {
                break;
            }
        }
        self.counters().totals.released.add(held.len() as u64);
        self.run_owned(&mut held, now);
        // Nobody listens where the port was closed, or given another half, while this one was on
        // its way.
        if done.send(()).is_ok() {
            self.receive(port, rx);
        }
    }

    /// All sessions of this worker's slice; empty without an uplink.
    #[must_use]
    pub fn nat_report(&self, now: Nanos) -> NatReport {
        self.nat_part(&Selection::default(), Part::ALL, now)
    }

    fn nat_part(&self, selection: &Selection, part: Part, now: Nanos) -> NatReport {
        let Some(nat) = &self.engine.nat else {
            return NatReport {
                now,
                ..NatReport::default()
            };
        };
        let mut sessions = Vec::new();
        let next = nat.select(selection, part, &mut sessions);
        NatReport {
            now,
            sessions,
            next,
            total: nat.len(),
            counters: nat.counters().clone(),
            config: Some(nat.config().clone()),
            ports_used: [Protocol::Tcp, Protocol::Udp, Protocol::Icmp].map(|p| nat.ports_used(p)),
            capacity: nat.capacity(),
        }
    }
}
