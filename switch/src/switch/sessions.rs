//! The NAT's sessions, asked of every worker part by part: between two parts it forwards frames, so
//! that a table of a million sessions holds up nobody.

use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};
use nat::{Census, Part, Selection};

use super::{ANSWER_TIMEOUT, Switch};
use crate::worker::{Command, NatReport, Shared};

/// Sessions a worker looks at between two batches: 2 MiB of memory, less than a millisecond.
const PART_PLACES: u32 = 16_384;

impl Switch {
    /// The selected sessions of every worker that answers in time, one report for each.
    #[must_use]
    pub fn nat_reports(&self, selection: &Selection) -> Vec<NatReport> {
        let selection = Arc::new(selection.clone());
        let workers = 0..self.workers();
        workers
            .filter_map(|worker| self.nat_report(worker, &selection))
            .collect()
    }

    fn nat_report(&self, worker: u16, selection: &Arc<Selection>) -> Option<NatReport> {
        let ask = |part, answer| Command::NatReport(Arc::clone(selection), part, answer);
        let mut whole = self.nat_part(worker, 0, ask)?;
        while let Some(from) = whole.next {
            let part = self.nat_part(worker, from, ask)?;
            let mut sessions = std::mem::take(&mut whole.sessions);
            sessions.extend(&part.sessions);
            whole = NatReport { sessions, ..part };
        }
        Some(whole)
    }

    /// How full every worker's table is, without any session.
    #[must_use]
    pub fn nat_sizes(&self) -> Vec<NatReport> {
        let selection = Arc::new(Selection::default());
        let ask = |part, answer| Command::NatReport(Arc::clone(&selection), part, answer);
        let workers = 0..self.workers();
        // Beyond the end of every table there is no session to report.
        let size = |worker| self.nat_part(worker, u32::MAX, ask);
        workers.filter_map(size).collect()
    }

    /// How many sessions of each kind all workers have that answer in time.
    #[must_use]
    pub fn nat_census(&self) -> Census {
        let mut census = Census::default();
        for worker in 0..self.workers() {
            let mut next = Some(0);
            while let Some((part, rest)) =
                next.and_then(|from| self.nat_part(worker, from, Command::NatCensus))
            {
                part.kinds().for_each(|kind| census.add(kind));
                next = rest;
            }
        }
        census
    }

    /// Ends the selected sessions and returns how many there were.
    #[must_use]
    pub fn nat_flush(&self, selection: &Selection) -> usize {
        let selection = Arc::new(selection.clone());
        let ask = |part, answer| Command::NatFlush(Arc::clone(&selection), part, answer);
        let flush = |worker| {
            let (mut ended, mut next) = (0, Some(0));
            while let Some((count, rest)) = next.and_then(|from| self.nat_part(worker, from, ask)) {
                ended += count;
                next = rest;
            }
            ended
        };
        (0..self.workers()).map(flush).sum()
    }

    fn nat_part<T>(
        &self,
        worker: u16,
        from: u32,
        ask: impl FnOnce(Part, Sender<T>) -> Command,
    ) -> Option<T> {
        let part = Part {
            from,
            places: PART_PLACES,
        };
        ask_part(&self.shared, worker, part, ask)
    }
}

/// A worker's answer about one part of its table; `None` if it gives none in time.
pub(super) fn ask_part<T>(
    shared: &Shared,
    worker: u16,
    part: Part,
    ask: impl FnOnce(Part, Sender<T>) -> Command,
) -> Option<T> {
    let link = shared.links.get(usize::from(worker))?;
    let (answer, answers) = bounded(1);
    link.command(ask(part, answer)).then_some(())?;
    answers.recv_timeout(ANSWER_TIMEOUT).ok()
}
