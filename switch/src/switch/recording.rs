//! A recording is begun and ended, and what the control thread changes in shared tables is in it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};
use nat::Nanos;

use crate::fdb::{BadAgeing, Fdb, Flush, StaticFull};
use crate::journal::{Change, Entry, Journal};
use crate::mac::Mac;
use crate::neigh::{Link, Neighbours};
use crate::port::PortIndex;
use crate::trace::{Clock, Limits, Selector, TapId};
use crate::worker::Command;

use super::{ANSWER_TIMEOUT, Switch, Trace};

/// A recording that goes on.
#[derive(Debug)]
pub struct Recording {
    /// What came in, in portions, each by one worker in its order.
    pub trace: Trace,
    /// All else that turns began with. An entry is here before a later turn begins.
    pub entries: Receiver<Entry>,
}

/// Why no recording begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// There is one.
    #[error("another recording goes on")]
    Busy,
    /// A worker is stuck.
    #[error("not all workers answer")]
    Late,
}

/// The journal of the recording that goes on, and its tap.
pub(super) type Recorded = (Arc<Journal>, TapId);

impl Switch {
    /// Records all that comes into every worker, and all that changes what they do, from a moment
    /// that is the same for all; see [`journal`](crate::journal). Until it is
    /// [stopped](Self::stop_recording), workers take turns. A reader that is gone ends it within a
    /// tick; one that is slow loses records, which are counted.
    ///
    /// # Errors
    /// See [`RecordError`]. Nothing is recorded then.
    pub fn record(&mut self, limits: Limits, clock: Clock) -> Result<Recording, RecordError> {
        if self.journal().is_some() {
            return Err(RecordError::Busy);
        }
        let selector = Selector {
            timed: false,
            ..Selector::ALL
        };
        let trace = self.trace(selector, limits, clock);
        let is_threaded = !self.threads.is_empty();
        // Workers wait for each other for less time than they are waited for here.
        let patience = ANSWER_TIMEOUT * u32::from(is_threaded) / 2;
        let (journal, entries) = Journal::new(trace.id, self.workers(), patience);
        let (begun, answers) = bounded(usize::from(self.workers()));
        for worker in 0..self.workers() {
            self.command(
                worker,
                Command::Journal(Arc::clone(&journal), begun.clone()),
            );
        }
        self.recorded = Some((journal, trace.id));
        if is_threaded && !all_began(&answers, self.workers()) {
            self.stop_recording(trace.id);
            return Err(RecordError::Late);
        }
        Ok(Recording { trace, entries })
    }

    /// Records no more. What there is still comes; then both channels are at their end.
    pub fn stop_recording(&mut self, id: TapId) {
        if let Some((journal, _)) = self.recorded.take_if(|(_, recorded)| *recorded == id) {
            journal.end();
            for worker in 0..self.workers() {
                self.command(worker, Command::EndJournal);
            }
        }
        self.stop_trace(id);
    }

    /// The journal, while there is one.
    pub(super) fn journal(&self) -> Option<&Journal> {
        let (journal, _) = self.recorded.as_ref()?;
        Some(&**journal).filter(|journal| !journal.is_over())
    }

    /// The tables that all workers share, to be changed.
    #[must_use]
    pub fn tables(&self) -> SharedTables<'_> {
        SharedTables(self)
    }
}

fn all_began(answers: &Receiver<bool>, workers: u16) -> bool {
    let patience = crossbeam_channel::after(ANSWER_TIMEOUT);
    (0..workers).all(|_| {
        crossbeam_channel::select! {
            recv(answers) -> answer => answer.unwrap_or(false),
            recv(patience) -> _ => false,
        }
    })
}

/// Changes of the tables that all workers share. Who only looks takes [`Switch::fdb`] and
/// [`Switch::neighbours`]; a change that goes another way than this one is in no recording.
#[derive(Debug, Clone, Copy)]
pub struct SharedTables<'s>(&'s Switch);

impl SharedTables<'_> {
    fn change<T>(self, change: Change, work: impl FnOnce(&Fdb, &Neighbours) -> T) -> T {
        let work = || work(&self.0.shared.fdb, &self.0.shared.neighbours);
        match self.0.journal() {
            None => work(),
            Some(journal) => journal.change(Nanos::ZERO, change, work),
        }
    }

    /// See [`Fdb::add_static`].
    ///
    /// # Errors
    /// [`StaticFull`].
    pub fn add_static(
        self,
        network: u16,
        mac: Mac,
        port: PortIndex,
        now: Nanos,
    ) -> Result<(), StaticFull> {
        let work = |fdb: &Fdb| fdb.add_static(network, mac, port, now);
        match self.0.journal() {
            None => work(&self.0.shared.fdb),
            Some(journal) => {
                let change = Change::AddStatic(network, mac, port);
                journal.change(now, change, || work(&self.0.shared.fdb))
            }
        }
    }

    /// See [`Fdb::remove`].
    pub fn remove(self, network: u16, mac: Mac) -> Option<PortIndex> {
        self.change(Change::Remove(network, mac), |fdb, _| {
            fdb.remove(network, mac)
        })
    }

    /// See [`Fdb::flush`].
    pub fn flush(self, what: Flush) -> usize {
        self.change(Change::Flush(what), |fdb, _| fdb.flush(what))
    }

    /// See [`Fdb::forget_port`].
    pub fn forget_port(self, port: PortIndex) -> usize {
        self.change(Change::ForgetPort(port), |fdb, _| fdb.forget_port(port))
    }

    /// See [`Fdb::set_port_limit`].
    pub fn set_port_limit(self, port: PortIndex, entries_max: Option<u32>) {
        let change = Change::PortLimit(port, entries_max);
        self.change(change, |fdb, _| fdb.set_port_limit(port, entries_max));
    }

    /// See [`Fdb::set_ageing_secs`].
    ///
    /// # Errors
    /// [`BadAgeing`].
    pub fn set_ageing_secs(self, secs: u32) -> Result<(), BadAgeing> {
        self.change(Change::Ageing(secs), |fdb, _| fdb.set_ageing_secs(secs))
    }

    /// See [`Neighbours::remove`].
    pub fn remove_neighbour(self, link: Link, address: Ipv4Addr) -> bool {
        let change = Change::RemoveNeighbour(link, address);
        self.change(change, |_, neighbours| neighbours.remove(link, address))
    }

    /// See [`Neighbours::flush`].
    pub fn flush_neighbours(self, link: Option<Link>) -> usize {
        self.change(Change::FlushNeighbours(link), |_, neighbours| {
            neighbours.flush(link)
        })
    }
}

impl Change {
    /// Changes the tables of a switch in the same way; a [`View`](Self::View) is none of them.
    pub fn again(&self, tables: SharedTables<'_>, at: Nanos) {
        match self {
            Self::View(_) => {}
            Self::AddStatic(network, mac, port) => {
                // Where there was no room then, there is none now.
                let _ = tables.add_static(*network, *mac, *port, at);
            }
            Self::Remove(network, mac) => {
                let _ = tables.remove(*network, *mac);
            }
            Self::Flush(what) => {
                let _ = tables.flush(*what);
            }
            Self::ForgetPort(port) => {
                let _ = tables.forget_port(*port);
            }
            Self::PortLimit(port, entries_max) => tables.set_port_limit(*port, *entries_max),
            Self::Ageing(secs) => {
                // It was in range then.
                let _ = tables.set_ageing_secs(*secs);
            }
            Self::RemoveNeighbour(link, address) => {
                let _ = tables.remove_neighbour(*link, *address);
            }
            Self::FlushNeighbours(link) => {
                let _ = tables.flush_neighbours(*link);
            }
        }
    }
}
