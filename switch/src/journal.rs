//! What workers do, in the one order in which it can be done again.
//!
//! # Theory of operation
//! While a recording goes on, workers take *turns*: one does a round of its loop or a tick, and the
//! others wait for theirs, in the order in which they came. Every turn in which something happened
//! has a number. What a turn began with is told: frames by the tracer (their records have the
//! turn's number), all else by an [`Entry`]. What the control thread changes in tables that all
//! share is a turn, too. Turns do not overlap; so a switch that is given the same frames and the
//! same entries in the same order, having begun as this one was, does the same.
//!
//! A recording begins between two turns of all workers at once: each writes down what it alone
//! knows ([`Begin`]) and waits; the last to come writes down the tables that all share, and then
//! all go on. One that does not come in time ends the recording before it has begun.
//!
//! Turns cost what workers gain by working side by side. So there are none unless somebody records.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use nat::{Nanos, Part, Remains, Selection, SessionRecord};

use crate::config::View;
use crate::fdb::Flush;
use crate::mac::Mac;
use crate::neigh::Link;
use crate::port::PortIndex;
use crate::table::Row;
use crate::trace::TapId;

/// Entries that may wait for their reader: some minutes of ticks.
const ENTRIES_MAX: usize = 16_384;

/// A turn, but for its frames.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number; 0 for how things were when the recording began.
    pub turn: u64,
    /// The worker whose turn it is; `None` for the control thread.
    pub worker: Option<u16>,
    /// The time it was given.
    pub at: Nanos,
    /// What it was told to do.
    pub what: What,
}

/// What a turn is.
#[derive(Debug, Clone)]
pub enum What {
    /// How a worker began.
    Begin(Box<Begin>),
    /// What all workers knew then.
    Tables(Box<Tables>),
    /// A tick, with the commands it obeyed; true where all of the worker's records up to now are on
    /// their way to the reader.
    Tick(Vec<Told>, bool),
    /// A round that saw no frame, but that a neighbour has answered elsewhere.
    Round,
    /// The control thread changed what all share.
    Change(Box<Change>),
    /// The worker's last word.
    End,
}

/// What one worker alone knows.
#[derive(Debug, Clone, Default)]
pub struct Begin {
    /// Its sessions.
    pub sessions: Vec<SessionRecord>,
    /// What its ended sessions have left.
    pub remains: Remains,
    /// The identification of the next packet its gateway makes, and when all tokens of the limits
    /// of ICMP errors will be back.
    pub gateway: (u16, Vec<Nanos>),
}

/// Tables that all workers share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// The forwarding table.
    pub fdb: Vec<Row>,
    /// The gateway's neighbours.
    pub neighbours: Vec<Row>,
}

/// A command as a worker obeyed it, as far as frames may fare otherwise by it.
#[derive(Debug, Clone)]
pub enum Told {
    /// Decide by the view of this number.
    View(u64),
    /// Receive from this port.
    Receive(PortIndex),
    /// Receive no more from it.
    Release(PortIndex),
    /// Give it to that worker.
    Move(PortIndex, u16),
    /// Tell all stations who the gateway is.
    Announce,
    /// End these sessions.
    NatFlush(Arc<Selection>, Part),
    /// Bring sessions back, and know these external addresses.
    NatRestore(Vec<std::net::Ipv4Addr>, Vec<SessionRecord>),
}

/// What the control thread did.
#[derive(Debug, Clone)]
pub enum Change {
    /// It made a view, which workers are told by its number. Its ports lead nowhere.
    View(View),
    /// It tied a station to a port.
    AddStatic(u16, Mac, PortIndex),
    /// It removed a station.
    Remove(u16, Mac),
    /// It removed many.
    Flush(Flush),
    /// It removed all of a port that is gone.
    ForgetPort(PortIndex),
    /// It bounded a port's stations.
    PortLimit(PortIndex, Option<u32>),
    /// It set the ageing time, in seconds.
    Ageing(u32),
    /// It removed a neighbour.
    RemoveNeighbour(Link, std::net::Ipv4Addr),
    /// It removed those of a link, or all.
    FlushNeighbours(Option<Link>),
}

/// The order of turns, and the way to the reader. See the module's theory of operation.
#[derive(Debug)]
pub struct Journal {
    turns: Mutex<Turns>,
    /// Somebody's turn may have come, or all have begun.
    changed: Condvar,
    entries: Sender<Entry>,
    /// The tap of whoever records.
    tap: TapId,
    workers: u16,
    patience: Duration,
    is_over: AtomicBool,
}

#[derive(Debug, Default)]
struct Turns {
    /// The last turn in which something happened.
    number: u64,
    /// Turns that were asked for, and those that are over.
    asked: u64,
    over: u64,
    begun: u16,
    is_late: bool,
}

impl Journal {
    /// A journal of so many workers, which wait so long for each other when it begins: not at all
    /// where one thread steps them all.
    pub(crate) fn new(
        tap: TapId,
        workers: u16,
        patience: Duration,
    ) -> (Arc<Self>, Receiver<Entry>) {
        let (entries, reader) = bounded(ENTRIES_MAX);
        let journal = Self {
            turns: Mutex::default(),
            changed: Condvar::new(),
            entries,
            tap,
            workers,
            patience,
            is_over: AtomicBool::new(false),
        };
        (Arc::new(journal), reader)
    }

    /// The tap of whoever records.
    pub(crate) const fn tap(&self) -> TapId {
        self.tap
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        // No code that holds the lock can panic, and numbers are whole at any time.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the caller's turn, and returns its number.
    pub(crate) fn take_turn(&self) -> u64 {
        let mut turns = self.turns();
        let mine = turns.asked;
        turns.asked += 1;
        let not_yet = |turns: &mut Turns| turns.over != mine;
        let turns =
            (self.changed.wait_while(turns, not_yet)).unwrap_or_else(PoisonError::into_inner);
        turns.number + 1
    }

    /// The turn is over; `counts` is false if nothing happened in it.
    pub(crate) fn end_turn(&self, counts: bool) {
        let mut turns = self.turns();
        turns.over += 1;
        turns.number += u64::from(counts);
        if turns.asked > turns.over {
            self.changed.notify_all();
        }
    }

    /// Says how a worker begins, and waits until all have. The last to come says what all know.
    /// False where one is late.
    pub(crate) fn begin(
        &self,
        (worker, at): (u16, Nanos),
        begin: Begin,
        tables: impl FnOnce() -> Tables,
    ) -> bool {
        let entry = |worker, what| Entry {
            turn: 0,
            worker,
            at,
            what,
        };
        self.tell(entry(Some(worker), What::Begin(Box::new(begin))));
        let mut turns = self.turns();
        turns.begun += 1;
        if turns.begun == self.workers {
            self.tell(entry(None, What::Tables(Box::new(tables()))));
            self.changed.notify_all();
        } else if self.patience > Duration::ZERO {
            let not_all = |turns: &mut Turns| turns.begun < self.workers && !turns.is_late;
            let waited = (self.changed).wait_timeout_while(turns, self.patience, not_all);
            (turns, _) = waited.unwrap_or_else(PoisonError::into_inner);
            turns.is_late |= turns.begun < self.workers;
        }
        !turns.is_late
    }

    /// Tells the reader. One that does not keep up with a tick now and then will find numbers
    /// missing; one that is gone ends the recording.
    pub(crate) fn tell(&self, entry: Entry) {
        if let Err(TrySendError::Disconnected(_)) = self.entries.try_send(entry) {
            self.end();
        }
    }

    /// There will be no more turns.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// True where nobody reads any more.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Does `work` in a turn of the control thread, and tells what it was.
    pub(crate) fn change<T>(&self, at: Nanos, change: Change, work: impl FnOnce() -> T) -> T {
        let turn = self.take_turn();
        let done = work();
        self.tell(Entry {
            turn,
            worker: None,
            at,
            what: What::Change(Box::new(change)),
        });
        self.end_turn(true);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_do_not_overlap_and_only_those_that_count_have_numbers() {
        let (journal, entries) = Journal::new(TapId(0), 3, Duration::from_secs(10));
        let inside = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for worker in 0..3 {
                let (journal, inside) = (&journal, &inside);
                scope.spawn(move || {
                    let at = Nanos(worker.into());
                    assert!(journal.begin((worker, at), Begin::default(), Tables::default));
                    for round in 0..300 {
                        let turn = journal.take_turn();
                        assert!(!inside.swap(true, Ordering::SeqCst));
                        let (worker, what) = (Some(worker), What::Round);
                        if round % 3 == 0 {
                            journal.tell(Entry {
                                turn,
                                worker,
                                at,
                                what,
                            });
                        }
                        inside.store(false, Ordering::SeqCst);
                        journal.end_turn(round % 3 == 0);
                    }
                });
            }
        });
        let entries: Vec<Entry> = entries.try_iter().collect();
        let numbers: Vec<u64> = entries.iter().map(|entry| entry.turn).collect();
        let expected: Vec<u64> = [0; 4].into_iter().chain(1..=300).collect();
        assert_eq!(numbers, expected);
        assert!(
            matches!(entries[3].what, What::Tables(_)),
            "the last to come"
        );
    }

    #[test]
    fn who_is_late_ends_it_for_all() {
        let (journal, _entries) = Journal::new(TapId(0), 2, Duration::from_millis(1));
        let begin =
            |worker| journal.begin((worker, Nanos::ZERO), Begin::default(), Tables::default);
        assert!(!begin(0));
        assert!(!begin(1), "the others do not record any more");
    }

    #[test]
    fn a_reader_who_goes_ends_it() {
        let (journal, entries) = Journal::new(TapId(0), 1, Duration::ZERO);
        drop(entries);
        assert!(!journal.is_over());
        let forget = Change::ForgetPort(PortIndex(1));
        assert_eq!(journal.change(Nanos::ZERO, forget, || 7), 7);
        assert!(journal.is_over());
    }
}
