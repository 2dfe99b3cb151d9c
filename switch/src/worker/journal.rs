//! A worker's part in a journal: it takes its turns, and tells what they began with.

use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};
use nat::{Nanos, Part};

use crate::journal::{Begin, Entry, Journal, Tables, Told, What};
use crate::port::PortIndex;
use crate::trace;

use super::{Command, NatRestore, Worker};

/// A worker's hand in the journal.
pub(super) struct Hand {
    journal: Arc<Journal>,
    /// The number its turn has, should something happen.
    turn: u64,
    /// Commands obeyed in this turn.
    told: Vec<Told>,
}

impl Hand {
    fn tell(&mut self, (worker, at): (u16, Nanos), what: What) {
        self.journal.tell(Entry {
            turn: self.turn,
            worker: Some(worker),
            at,
            what,
        });
    }
}

impl Worker {
    /// Waits for this worker's turn, where turns are taken.
    #[inline]
    pub(super) fn take_turn(&mut self) {
        if let Some(hand) = trace::built_in(self.journal.as_mut()) {
            hand.turn = hand.journal.take_turn();
            if let Some(recorder) = &mut self.engine.recorder {
                recorder.begin_turn(hand.turn);
            }
        }
    }

    /// The turn of a round is over, in which so many frames were run.
    #[inline]
    pub(super) fn end_round(&mut self, now: Nanos, frames: usize, has_news: bool) {
        if let Some(hand) = trace::built_in(self.journal.as_mut()) {
            if frames == 0 && has_news {
                hand.tell((self.index, now), What::Round);
            }
            hand.journal.end_turn(frames > 0 || has_news);
        }
    }

    /// The turn of a tick is over.
    pub(super) fn end_tick(&mut self, now: Nanos) {
        if let Some(mut hand) = self.journal.take() {
            let told = std::mem::take(&mut hand.told);
            let recorder = self.engine.recorder.as_ref();
            let is_out = recorder.is_none_or(|recorder| recorder.is_out(hand.journal.tap()));
            hand.tell((self.index, now), What::Tick(told, is_out));
            hand.journal.end_turn(true);
            self.journal = Some(hand).filter(|hand| !hand.journal.is_over());
            self.forget_turns();
        }
    }

    /// Notes a command that is obeyed in this turn.
    pub(super) fn note(&mut self, command: &Command) {
        if let Some(hand) = &mut self.journal {
            hand.told.extend(told(command));
        }
    }

    /// Begins a journal, in the middle of a tick of which the rest is its first turn.
    pub(super) fn begin_journal(
        &mut self,
        journal: Arc<Journal>,
        begun: &Sender<bool>,
        now: Nanos,
    ) {
        self.end_journal(now);
        let mut begin = Begin {
            gateway: self.engine.origin.standing(),
            ..Begin::default()
        };
        if let Some(nat) = &self.engine.nat {
            (begin.sessions, _) = nat.snapshot(Part::ALL, now);
            begin.remains = nat.remains(now);
        }
        let shared = &self.shared;
        let tables = || Tables {
            fdb: shared.fdb.rows(),
            neighbours: shared.neighbours.rows(),
        };
        let all_began = journal.begin((self.index, now), begin, tables);
        if all_began {
            self.journal = Some(Hand {
                journal,
                turn: 0,
                told: Vec::new(),
            });
            self.take_turn();
        }
        // Whoever gave up waiting ends the journal.
        let _ = begun.send(all_began);
    }

    /// Takes no more turns. What is left of this one is not in the journal.
    pub(super) fn end_journal(&mut self, now: Nanos) {
        if let Some(mut hand) = self.journal.take() {
            hand.tell((self.index, now), What::End);
            hand.journal.end_turn(true);
        }
        self.forget_turns();
    }

    fn forget_turns(&mut self) {
        if self.journal.is_none()
            && let Some(recorder) = &mut self.engine.recorder
        {
            recorder.begin_turn(0);
        }
    }

    /// Begins as another worker did whose journal is done again.
    pub(super) fn resume(&mut self, begin: Begin, now: Nanos) {
        let Begin {
            sessions,
            remains,
            gateway: (ip_id, moments),
        } = begin;
        let (answer, _) = bounded(1);
        let externals = self.view.uplink.iter();
        let externals = externals.flat_map(|uplink| uplink.externals()).collect();
        self.nat_restore(
            NatRestore {
                externals,
                records: sessions,
                answer,
            },
            now,
        );
        if let Some(nat) = &mut self.engine.nat {
            nat.leave_behind(&remains, now);
        }
        self.engine.origin.go_on_from(ip_id, &moments);
    }

    /// Begins a round of a journal that is done again.
    pub fn begin_round_again(&mut self, now: Nanos) {
        self.heed_neighbours(now);
    }

    /// Takes the next batch of that round, from this port's ring.
    pub fn visit_again(&mut self, port: PortIndex, now: Nanos) {
        if let Some(place) = self.ports.place(port) {
            self.poll_port(place, now);
        }
    }

    /// Ends that round with what other workers handed over.
    pub fn end_round_again(&mut self, now: Nanos) {
        self.take_over(now);
    }
}

/// What a journal has of a command.
fn told(command: &Command) -> Option<Told> {
    Some(match command {
        Command::View(view) => Told::View(view.number),
        Command::Receive(port, ..) => Told::Receive(*port),
        Command::Release(port, _) => Told::Release(*port),
        Command::Move(port, to, _) => Told::Move(*port, *to),
        Command::Announce => Told::Announce,
        Command::NatFlush(selection, part, _) => Told::NatFlush(Arc::clone(selection), *part),
        Command::NatRestore(restore) => {
            Told::NatRestore(restore.externals.clone(), restore.records.clone())
        }
        // What one worker gives to another comes of what it was told itself; the others only look.
        Command::Take(_)
        | Command::NatReport(..)
        | Command::NatCensus(..)
        | Command::NatEvents(_)
        | Command::NatSnapshot(..)
        | Command::Drops(..)
        | Command::ForgetDrops
        | Command::TellStations(_)
        | Command::Trace(_)
        | Command::EndTrace(_)
        | Command::WhatIf(_)
        | Command::TakeLatency(_)
        | Command::Journal(..)
        | Command::EndJournal
        | Command::Resume(_)
        | Command::Stop => return None,
    })
}
