//! The NAT's events and sessions, for threads beside the switch's owner.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use nat::{Part, SessionRecord};

use crate::fdb::Fdb;
use crate::neigh::Neighbours;
use crate::worker::{Command, NatEvents, NatPortion, NatRestore, Shared};

use super::Switch;
use super::sessions::ask_part;

/// Portions of events that may wait for their reader, for each worker: with 16,384 events of 112
/// bytes in each, 29 MB at most.
const EVENT_PORTIONS_MAX: usize = 16;

/// How long a worker may take to bring its sessions back: at 1 µs each, the most there can be
/// (16,777,216) take 17 s.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(30);

/// A way to the NAT of a running switch from another thread than its owner's. Its answers are
/// those of no session once the switch has stopped.
#[derive(Debug, Clone)]
pub struct NatHandle {
    shared: Arc<Shared>,
}

/// A worker that does not answer in time, or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("worker {0} does not answer")]
pub struct NoAnswer(pub u16);

impl NatHandle {
    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> u16 {
        u16::try_from(self.shared.links.len()).unwrap_or(u16::MAX)
    }

    /// Has every worker record events from now on, and returns where they arrive: at each tick of
    /// a worker, so after 0.1 s at most. Who had called it before gets no more. The recording ends
    /// by [`stop_events`](Self::stop_events), or when the receiver is dropped.
    #[must_use]
    pub fn events(&self) -> Receiver<NatEvents> {
        let (to, events) = bounded(EVENT_PORTIONS_MAX * self.shared.links.len());
        for link in &self.shared.links {
            link.command(Command::NatEvents(Some(to.clone())));
        }
        events
    }

    /// Has no worker record events any more.
    pub fn stop_events(&self) {
        for link in &self.shared.links {
            link.command(Command::NatEvents(None));
        }
    }

    /// The sessions in one part of a worker's table.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub fn portion(&self, worker: u16, part: Part) -> Result<NatPortion, NoAnswer> {
        ask_part(&self.shared, worker, part, Command::NatSnapshot).ok_or(NoAnswer(worker))
    }

    /// The forwarding table.
    #[must_use]
    pub fn fdb(&self) -> &Fdb {
        &self.shared.fdb
    }

    /// The gateway's neighbours.
    #[must_use]
    pub fn neighbours(&self) -> &Neighbours {
        &self.shared.neighbours
    }
}

impl Switch {
    /// A way to the NAT for other threads.
    #[must_use]
    pub fn nat_handle(&self) -> NatHandle {
        NatHandle {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Brings sessions back, each with the worker that is to have it. To be called before the first
    /// view with the external addresses `externals`, so that no packet opens a session in the place
    /// of one that comes back. Returns how many did.
    pub fn nat_restore(&self, externals: &[Ipv4Addr], records: Vec<(u16, SessionRecord)>) -> usize {
        let (restored, elsewhere) = self.restore_at(externals, records);
        // What is published may be with another worker than its member's.
        let (moved, _) = self.restore_at(externals, elsewhere);
        restored + moved
    }

    fn restore_at(
        &self,
        externals: &[Ipv4Addr],
        records: Vec<(u16, SessionRecord)>,
    ) -> (usize, Vec<(u16, SessionRecord)>) {
        let mut of_worker = vec![Vec::new(); self.shared.links.len()];
        for (worker, record) in records {
            if let Some(own) = of_worker.get_mut(usize::from(worker)) {
                own.push(record);
            }
        }
        let (answer, answers) = bounded(of_worker.len());
        let mut asked = 0;
        for (worker, records) in (0..).zip(of_worker) {
            let restore = NatRestore {
                externals: externals.to_vec(),
                records,
                answer: answer.clone(),
            };
            asked += usize::from(self.command(worker, Command::NatRestore(Box::new(restore))));
        }
        let (mut restored, mut elsewhere) = (0, Vec::new());
        let answers = (0..asked).map_while(|_| answers.recv_timeout(RESTORE_TIMEOUT).ok());
        for answer in answers {
            restored += answer.restored;
            elsewhere.extend(answer.elsewhere);
        }
        (restored, elsewhere)
    }
}
