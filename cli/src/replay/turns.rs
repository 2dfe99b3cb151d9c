//! A recording, turn by turn; see [`crate::record`].

use std::sync::Arc;

use crossbeam_channel::{bounded, unbounded};
use nat::Nanos;
use switch::pcapng::{Item, Packet};
use switch::port::{PortIndex, Rx};
use switch::worker::{Command, NatRestore};

use super::again::{Beginning, Redo, Round, damaged};
use super::play::Player;
use super::survey::{self, Survey, Ways};
use crate::error::CliError;
use crate::record::{Noted, RecordedChange, RecordedEntry, RecordedTold, RecordedWhat};

impl Player<'_> {
    /// Does all turns again.
    pub(super) fn turns(&mut self, survey: &Survey, ways: &Ways) -> Result<(), CliError> {
        let Some(recording) = &survey.recording else {
            return Ok(());
        };
        let mut redo = Redo::new(recording, self.scene.switch.view());
        let mut reader = survey::open(&survey.path)?;
        let mut number = 0;
        while let Some(item) = reader
            .next_item()
            .map_err(|error| survey::damaged(&survey.path, &error))?
        {
            match item {
                Item::Packet(packet) => {
                    number += 1;
                    self.packet_again(&mut redo, ways, (number, &packet))?;
                }
                Item::Note(note) => {
                    let entry = RecordedEntry::of_note(note).transpose();
                    let entry = entry.map_err(|why| damaged("entries", why))?;
                    if let Some(entry) = entry {
                        self.entry_again(&mut redo, entry)?;
                    }
                }
            }
        }
        self.begin_again(&mut redo)?;
        self.end_round(&mut redo)
    }

    fn packet_again(
        &mut self,
        redo: &mut Redo,
        ways: &Ways,
        (number, packet): (u64, &Packet<'_>),
    ) -> Result<(), CliError> {
        let Some(place) = self.way(ways, packet) else {
            return Ok(());
        };
        let noted = Noted::read(packet.comments()).filter(|noted| noted.turn > 0);
        let Some(noted) = noted else {
            let why = format!("packet {number} does not say in which turn it came");
            return Err(damaged("packets", why));
        };
        let turn = noted.turn;
        self.begin_again(redo)?;
        if redo.round.as_ref().is_none_or(|round| round.turn != turn) {
            self.end_round(redo)?;
            let since = packet.time.unwrap_or(0).saturating_sub(redo.began);
            let worker = packet.queue.and_then(|queue| u16::try_from(queue).ok());
            let at = redo.clock + Nanos(since);
            self.begin_round(redo, (turn, worker.unwrap_or(0), at))?;
        }
        if let Some(round) = &mut redo.round {
            let port = self.scene.wires[place].index;
            if round.port != Some(port) {
                self.end_batch(round)?;
                round.port = Some(port);
            }
            let to = (place, Some(round.worker));
            let taken_by = self.feed(to, (number, packet), Some(noted))?;
            round.elsewhere |= taken_by != round.worker;
        }
        Ok(())
    }

    fn begin_round(
        &mut self,
        redo: &mut Redo,
        (turn, worker, at): (u64, u16, Nanos),
    ) -> Result<(), CliError> {
        self.now = at;
        let place = self.worker(worker)?;
        self.scene.workers[place].begin_round_again(at);
        redo.round = Some(Round {
            turn,
            worker,
            at,
            port: None,
            elsewhere: false,
        });
        Ok(())
    }

    /// Has the worker take the frames of a port that it took together.
    fn end_batch(&mut self, round: &Round) -> Result<(), CliError> {
        if let Some(port) = round.port {
            let place = self.worker(round.worker)?;
            self.scene.workers[place].visit_again(port, round.at);
        }
        Ok(())
    }

    /// Has the worker end its round, if there is one.
    fn end_round(&mut self, redo: &mut Redo) -> Result<(), CliError> {
        let Some(round) = redo.round.take() else {
            return Ok(());
        };
        self.end_batch(&round)?;
        let worker = self.worker(round.worker)?;
        self.scene.workers[worker].end_round_again(round.at);
        self.collect(worker)?;
        if round.elsewhere {
            return self.rounds();
        }
        self.rest();
        Ok(())
    }

    fn worker(&self, worker: u16) -> Result<usize, CliError> {
        let place = usize::from(worker);
        let known = (place < self.scene.workers.len()).then_some(place);
        known.ok_or_else(|| damaged("turns", format!("there is no worker {worker}")))
    }

    fn entry_again(&mut self, redo: &mut Redo, entry: RecordedEntry) -> Result<(), CliError> {
        let Some(entry) = redo.beginning(entry) else {
            return Ok(());
        };
        self.begin_again(redo)?;
        self.end_round(redo)?;
        let at = Nanos(entry.at);
        let worker = entry.worker.unwrap_or(0);
        match entry.what {
            RecordedWhat::Tick { told, digest } => {
                self.tick_again(redo, (worker, at), (&told, digest))?;
            }
            RecordedWhat::Round => {
                self.begin_round(redo, (entry.turn, worker, at))?;
                self.end_round(redo)?;
            }
            RecordedWhat::Change(change) => self.change_again(redo, &change, at)?,
            RecordedWhat::End(digests) => {
                let time = at.saturating_sub(redo.clock);
                for (worker, digest) in digests.iter().enumerate() {
                    if let Some(digest) = digest {
                        self.compare.digest(worker, digest, time);
                    }
                }
            }
            RecordedWhat::Missing(turns) => self.compare.missing(turns),
            RecordedWhat::Sessions(_)
            | RecordedWhat::Remains(_)
            | RecordedWhat::Gateway(..)
            | RecordedWhat::Fdb(_)
            | RecordedWhat::Neighbours(_) => {
                return Err(damaged("entries", "the beginning is told after it"));
            }
        }
        Ok(())
    }

    /// Puts things in place as they were, before the first turn.
    fn begin_again(&mut self, redo: &mut Redo) -> Result<(), CliError> {
        let Some(Beginning { tables, workers }) = redo.beginning.take() else {
            return Ok(());
        };
        self.scene.switch.fdb().restore(&tables.fdb);
        self.scene.switch.neighbours().restore(&tables.neighbours);
        self.scene.remind(redo.clock);
        for (worker, (begin, at)) in workers {
            let place = self.worker(worker)?;
            self.scene
                .switch
                .command(worker, Command::Resume(Box::new(begin)));
            self.scene.workers[place].tick(at);
            self.collect(place)?;
        }
        self.compare.begin();
        Ok(())
    }

    fn tick_again(
        &mut self,
        redo: &mut Redo,
        (worker, at): (u16, Nanos),
        (told, digest): (&[RecordedTold], Option<String>),
    ) -> Result<(), CliError> {
        let place = self.worker(worker)?;
        self.now = at;
        let time = at.saturating_sub(redo.clock);
        if let Some(digest) = digest {
            self.compare.digest(place, &digest, time);
        }
        for told in told {
            if let RecordedTold::Move(_, to) = told {
                self.worker(*to)?;
            }
            if let Some(command) = self.command_again(redo, worker, told) {
                self.scene.switch.command(worker, command);
            }
        }
        self.remind_if_due();
        self.scene.workers[place].tick(at);
        self.collect(place)?;
        self.rest();
        Ok(())
    }

    /// A command once more. Nobody listens to what it answers.
    fn command_again(
        &mut self,
        redo: &mut Redo,
        worker: u16,
        told: &RecordedTold,
    ) -> Option<Command> {
        Some(match told {
            RecordedTold::View(number) => Command::View(redo.tell_view(worker, *number)?),
            RecordedTold::Receive(port) => {
                let rx = self.scene.wire(*port)?.plug_in(worker);
                Command::Receive(PortIndex(*port), Box::new(Rx::Sim(rx)), unbounded().0)
            }
            RecordedTold::Release(port) => {
                self.scene.wire(*port)?.plug_out(worker);
                Command::Release(PortIndex(*port), unbounded().0)
            }
            RecordedTold::Move(port, to) => {
                self.scene.wire(*port)?.hand_on(worker, *to);
                let (done, asked) = bounded(1);
                redo.moves.push(asked);
                Command::Move(PortIndex(*port), *to, done)
            }
            RecordedTold::Announce => Command::Announce,
            RecordedTold::NatFlush(selection) => {
                let (selection, part) = selection.selection();
                Command::NatFlush(Arc::new(selection), part, unbounded().0)
            }
            RecordedTold::NatRestore(externals, sessions) => {
                Command::NatRestore(Box::new(NatRestore {
                    externals: externals.clone(),
                    records: sessions.iter().map(nat::SessionRecord::from).collect(),
                    answer: unbounded().0,
                }))
            }
        })
    }

    fn change_again(
        &mut self,
        redo: &mut Redo,
        change: &RecordedChange,
        at: Nanos,
    ) -> Result<(), CliError> {
        if let Some(change) = change.to_change() {
            change.again(self.scene.switch.tables(), at);
        }
        if let RecordedChange::View(change) = change {
            let scene = &self.scene;
            let applied = change.apply(&mut redo.view, |port| scene.way(port));
            applied.map_err(|why| damaged("views", why))?;
            for port in &change.ports {
                if let Some((device, _)) = &port.new {
                    self.scene.rename(port.index, device);
                }
            }
            redo.keep_view()?;
        }
        Ok(())
    }
}
