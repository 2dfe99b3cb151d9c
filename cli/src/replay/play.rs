//! The capture's packets through the switch, by the capture's clock.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use nat::Nanos;
use switch::config::Role;
use switch::frame::Offload;
use switch::limits::FRAME_BYTES_MAX;
use switch::pcapng::{Direction, Packet};
use switch::port::PortIndex;
use switch::switch::Trace;
use switch::trace::{Limits, RecordView, Selector, Step};

use super::comment::Comment;
use super::compare::Compare;
use super::output::{Output, Written};
use super::report::{Dropped, PortReport, Report, Skipped};
use super::scene::{Names, Scene, Wire};
use super::survey::{self, Survey, Ways};
use super::tally::{Coming, Kind, Numbers, Tally};
use crate::control::api::ReplaySchema;
use crate::error::CliError;
use crate::record::Noted;

/// From one tick of the workers to the next, as an idle worker sleeps.
const TICK: Nanos = Nanos(100_000_000);

/// Ticks between two packets at most: in a longer silence they come less often, lest a capture
/// over years take days.
const TICKS_MAX: u64 = 100_000;

/// Time after the last packet in which those that wait may come to their end: longer than ARP
/// and fragments are waited for.
const AFTER: Nanos = Nanos::from_secs(60);

/// Long before a neighbour grows old.
const REMIND: Nanos = Nanos::from_secs(10);

/// Rounds until a packet has left the switch; some dozens are usual.
const ROUNDS_MAX: u32 = 100_000;

/// Records of one round: batches of 64 frames from as many ports as one worker may have had.
const ROUND_RECORDS: usize = 1 << 16;

/// Copies of one frame that a port has sent.
type Sent = (u32, Option<Rc<Comment>>);

pub(super) struct Player<'s> {
    pub(super) scene: &'s mut Scene,
    trace: Trace,
    output: Option<Output>,
    tally: Tally,
    numbers: Numbers,
    skipped: Skipped,
    pub(super) compare: Compare,
    /// What each port has sent, in order, by the records.
    sent: Vec<VecDeque<Sent>>,
    /// Ports with something in `sent`.
    senders: Vec<usize>,
    /// A flood so wide that not all of its copies are in its record.
    wide: Option<Rc<Comment>>,
    fed: u64,
    delivered: u64,
    records_lost: bool,
    /// The capture's time when the switch began.
    first: u64,
    pub(super) now: Nanos,
    next_tick: Nanos,
    next_remind: Nanos,
}

/// Plays the whole capture.
pub(super) fn play(
    survey: &Survey,
    scene: &mut Scene,
    ways: &Ways,
    output: Option<Output>,
) -> Result<Report, CliError> {
    let mut player = Player::new(survey, scene, output);
    if survey.recording.is_some() {
        player.turns(survey, ways)?;
    } else {
        player.packets(survey, ways)?;
    }
    player.rounds()?;
    player.come_to_rest()?;
    player.report(survey)
}

impl<'s> Player<'s> {
    fn new(survey: &Survey, scene: &'s mut Scene, output: Option<Output>) -> Self {
        let selector = Selector {
            timed: false,
            ..Selector::ALL
        };
        let begin = scene.begin;
        let mut limits = Limits::default();
        if survey.recording.is_some() {
            // What left is compared, as far as a translation reaches.
            limits.snap_bytes = FRAME_BYTES_MAX;
            limits.bytes = 32 << 20;
            // A round takes a batch from each of many ports, and is read when it is over.
            limits.records = ROUND_RECORDS;
        }
        let trace = (scene.switch).trace(selector, limits, Arc::new(move || begin));
        for worker in &mut scene.workers {
            worker.tick(begin);
        }
        let (ports, workers) = (scene.wires.len(), scene.workers.len());
        let lost = survey.recording.as_ref().map(|_| survey.lost);
        Self {
            scene,
            trace,
            output,
            tally: Tally::new(ports),
            numbers: Numbers::new(ports),
            skipped: Skipped::default(),
            compare: Compare::new(lost, workers),
            sent: vec![VecDeque::new(); ports],
            senders: Vec::new(),
            wide: None,
            fed: 0,
            delivered: 0,
            records_lost: false,
            first: survey.first.unwrap_or(0),
            now: begin,
            next_tick: begin + TICK,
            next_remind: begin + REMIND,
        }
    }

    /// Plays a capture that is no recording.
    fn packets(&mut self, survey: &Survey, ways: &Ways) -> Result<(), CliError> {
        let mut reader = survey::open(&survey.path)?;
        let (mut number, mut time) = (0, self.first);
        while let Some(packet) = reader
            .next_packet()
            .map_err(|error| survey::damaged(&survey.path, &error))?
        {
            number += 1;
            // Packets may be out of order, and the clock does not go back.
            time = time.max(packet.time.unwrap_or(time));
            if let Some(place) = self.way(ways, &packet) {
                self.rounds()?;
                self.advance(self.scene.begin + Nanos(time - self.first))?;
                self.feed((place, None), (number, &packet), None)?;
            }
        }
        Ok(())
    }

    /// Where a packet goes in; `None` where it does not, which is counted.
    pub(super) fn way(&mut self, ways: &Ways, packet: &Packet<'_>) -> Option<usize> {
        let place = ways.get(packet.interface).copied().flatten();
        let skipped = &mut self.skipped;
        let why = match packet.direction {
            Some(Direction::Outbound) => &mut skipped.outbound,
            _ if place.is_none() => &mut skipped.no_port,
            _ if packet.is_cut() => &mut skipped.cut,
            _ if packet.bytes.len() > FRAME_BYTES_MAX => &mut skipped.too_long,
            _ => return place,
        };
        *why += 1;
        None
    }

    /// Lets time pass, with the ticks that fall into it.
    fn advance(&mut self, to: Nanos) -> Result<(), CliError> {
        let silence = to.saturating_sub(self.now);
        let step = TICK.max(Nanos(silence.0 / TICKS_MAX));
        while self.next_tick <= to {
            self.now = self.next_tick;
            self.remind_if_due();
            for worker in 0..self.scene.workers.len() {
                self.scene.workers[worker].tick(self.now);
                self.collect(worker)?;
            }
            self.rounds()?;
            self.next_tick += step;
            if self.next_tick == Nanos::MAX {
                // Time has no end that it could go beyond.
                break;
            }
        }
        self.next_tick = self.next_tick.min(to + TICK);
        self.now = to;
        Ok(())
    }

    /// Confirms those neighbours now and then that are always known.
    pub(super) fn remind_if_due(&mut self) {
        if self.now >= self.next_remind {
            self.scene.remind(self.now);
            self.next_remind = self.now + REMIND;
        }
    }

    /// Puts a packet on its wire, to this worker if that receives from there; returns to which.
    /// `noted` is what a recording says of it.
    pub(super) fn feed(
        &mut self,
        (place, worker): (usize, Option<u16>),
        (number, packet): (u64, &Packet<'_>),
        noted: Option<Noted>,
    ) -> Result<u16, CliError> {
        let wire = &self.scene.wires[place];
        let offload = noted.as_ref().map_or(Offload::PLAIN, |noted| noted.offload);
        let Some(taken_by) = wire.send(worker, packet.bytes, offload) else {
            let why = "nobody receives from it, or more came than it can hold";
            return Err(CliError::failed(&wire.name, why, ""));
        };
        let needed = self.output.is_some();
        let coming = Coming {
            number,
            bytes: packet.bytes.iter().copied().filter(|_| needed).collect(),
            fate: noted.and_then(|noted| noted.fate),
        };
        self.numbers.comes(place, coming);
        self.fed += 1;
        Ok(taken_by)
    }

    /// A turn is over, and nothing moves.
    pub(super) fn rest(&mut self) {
        self.numbers.rest();
        self.compare.rest();
    }

    /// Runs all workers in turn until nothing moves any more.
    pub(super) fn rounds(&mut self) -> Result<(), CliError> {
        for _ in 0..ROUNDS_MAX {
            let mut moved = 0;
            for worker in 0..self.scene.workers.len() {
                moved += self.scene.workers[worker].poll_once(self.now);
                self.collect(worker)?;
            }
            if moved == 0 {
                self.rest();
                return Ok(());
            }
        }
        let why = "frames go round and round; this is a mistake in vswitch";
        Err(CliError::failed("the switch", why, ""))
    }

    /// Reads what a worker has recorded since it was last asked, and takes what it sent off the
    /// wires: its records and its frames are in the same order at each port.
    pub(super) fn collect(&mut self, worker: usize) -> Result<(), CliError> {
        loop {
            self.scene.workers[worker].send_records();
            let Ok(portion) = self.trace.portions.try_recv() else {
                break;
            };
            self.records_lost |= portion.lost > 0;
            for record in portion.views() {
                self.take(worker, &record)?;
            }
        }
        self.deliver()
    }

    fn take(&mut self, worker: usize, record: &RecordView<'_>) -> Result<(), CliError> {
        self.tally.count(record);
        let fresh = self.numbers.fresh(record);
        let number = fresh.as_ref().map(|coming| coming.number);
        let (kind, number) = (Kind::of(record), self.numbers.of(record, number));
        let names = Names(&self.scene.wires);
        (self.compare).record((worker, record), fresh.as_ref(), &names);
        let comment = self.output.is_some().then(|| {
            let names = Names(&self.scene.wires);
            Rc::new(Comment::new(&record.to_record(), kind, number, &names))
        });
        for timed in record.steps {
            if let Step::Tx(tx) = timed.step
                && tx.outcome.is_ok()
                && let Some(sent) = self.sent.get_mut(tx.port.index())
            {
                sent.push_back((tx.pieces, comment.clone()));
                self.senders.push(tx.port.index());
            }
        }
        if record.head.steps_lost > 0 {
            self.wide.clone_from(&comment);
            self.senders.extend(0..self.scene.wires.len());
        }
        let ingress = record.head.ingress.map(PortIndex::index);
        if let (Some(comment), Some(port), Some(fresh)) = (comment, ingress, fresh) {
            let time = self.time();
            let packet = Written {
                port,
                time,
                bytes: &fresh.bytes,
                direction: Direction::Inbound,
                number,
                comments: &comment.inbound(),
            };
            if let Some(output) = &mut self.output {
                output.packet(&packet)?;
            }
        }
        Ok(())
    }

    fn deliver(&mut self) -> Result<(), CliError> {
        let time = self.time();
        for port in self.senders.drain(..) {
            let (sent, wire) = (&mut self.sent[port], &self.scene.wires[port]);
            while let Some(frame) = wire.receive() {
                self.delivered += 1;
                let comment = match sent.front_mut() {
                    Some((pieces, comment)) => {
                        let comment = comment.clone();
                        *pieces -= 1;
                        if *pieces == 0 {
                            sent.pop_front();
                        }
                        comment
                    }
                    None => self.wide.clone(),
                };
                let Some(output) = &mut self.output else {
                    continue;
                };
                let lines = comment.as_ref().map(|comment| comment.outbound());
                output.packet(&Written {
                    port,
                    time,
                    bytes: frame.bytes(),
                    direction: Direction::Outbound,
                    number: comment.and_then(|comment| comment.number),
                    comments: &lines.unwrap_or_default(),
                })?;
            }
        }
        self.wide = None;
        Ok(())
    }

    /// The time now, as the capture has it.
    const fn time(&self) -> u64 {
        let since = self.now.0.saturating_sub(self.scene.begin.0);
        self.first.saturating_add(since)
    }

    /// Goes on after the last packet until nothing waits any more.
    fn come_to_rest(&mut self) -> Result<(), CliError> {
        let end = self.now + AFTER;
        while self.tally.waiting() > 0 && self.now < end {
            self.advance(self.now + TICK)?;
        }
        self.scene.switch.stop_trace(self.trace.id);
        for worker in 0..self.scene.workers.len() {
            self.scene.workers[worker].tick(self.now);
            self.collect(worker)?;
        }
        Ok(())
    }

    fn report(mut self, survey: &Survey) -> Result<Report, CliError> {
        let time = self.time();
        let ports: Vec<PortReport> = (self.scene.wires.iter())
            .filter(|wire| wire.is_port())
            .map(|wire| {
                let totals = self.scene.switch.port_totals(wire.index);
                let drops = totals.drops.iter().map(|(reason, count)| Dropped {
                    reason: reason.word(),
                    count: *count,
                    fix: reason.fix(),
                });
                PortReport {
                    port: wire.name.clone(),
                    role: role(wire.role),
                    received_frames: totals.received_frames,
                    received_bytes: totals.received_bytes,
                    verdicts: self.tally.of(wire.index),
                    drops: drops.collect(),
                    sent_frames: totals.sent_frames,
                    sent_bytes: totals.sent_bytes,
                }
            })
            .collect();
        let totals = self.scene.switch.totals();
        let judged: u64 = ports.iter().map(|port| port.verdicts.all()).sum();
        let conserved = totals.conserved()
            && !self.records_lost
            && (totals.received, judged) == (self.fed, self.fed)
            && totals.sent == self.delivered;
        if let Some(output) = self.output.take() {
            let totals = |wire: &Wire| self.scene.switch.port_totals(wire.index);
            let received = self.scene.wires.iter().map(totals);
            output.finish(time, received.map(|totals| totals.received_frames))?;
        }
        Ok(Report {
            schema: ReplaySchema,
            file: survey.path.display().to_string(),
            packets: survey.packets,
            seconds: seconds(survey.nanoseconds()),
            skipped: self.skipped,
            recorded: self.compare.finish(),
            ports,
            conserved,
        })
    }
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Host => "host",
        Role::Uplink => "uplink",
    }
}

/// To the microsecond, which a double holds for a thousand years.
pub(super) fn seconds(nanoseconds: u64) -> f64 {
    std::time::Duration::from_micros(nanoseconds / 1000).as_secs_f64()
}
