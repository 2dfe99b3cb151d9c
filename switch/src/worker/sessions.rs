//! A worker's NAT sessions written down and brought back, in portions.
//!
//! Whoever wants all sessions asks for one portion after the other, each obeyed between two
//! batches, so that no frame waits for more than one portion. A session that comes, goes or changes
//! meanwhile is seen as it was when its portion was taken.

use std::net::Ipv4Addr;

use crossbeam_channel::Sender;
use nat::{Nanos, Nat, Part, RestoreError, SessionRecord};

use super::Worker;

/// A portion of one worker's sessions.
#[derive(Debug, Clone)]
pub struct NatPortion {
    /// The sessions.
    pub records: Vec<SessionRecord>,
    /// Where the next portion begins; `None` after the last.
    pub next: Option<u32>,
    /// A number that is another one if anything happened to any session since.
    pub activity: u64,
}

/// Sessions to be brought back, before there are any.
#[derive(Debug)]
pub struct NatRestore {
    /// The external addresses in force from now on.
    pub externals: Vec<Ipv4Addr>,
    /// The sessions of this worker.
    pub records: Vec<SessionRecord>,
    /// The way back.
    pub answer: Sender<NatRestored>,
}

/// What became of sessions to be brought back. Those that are neither (their port is taken, or no
/// longer ours) are lost.
#[derive(Debug, Clone, Default)]
pub struct NatRestored {
    /// How many are back.
    pub restored: usize,
    /// Sessions whose port is with another worker, and that worker.
    pub elsewhere: Vec<(u16, SessionRecord)>,
}

impl Worker {
    /// The sessions of one part of the table.
    pub(super) fn nat_portion(&self, part: Part, now: Nanos) -> NatPortion {
        let Some(nat) = &self.engine.nat else {
            return NatPortion {
                records: Vec::new(),
                next: None,
                activity: 0,
            };
        };
        let (records, next) = nat.snapshot(part, now);
        NatPortion {
            records,
            next,
            activity: activity(nat),
        }
    }

    /// Brings sessions back.
    pub(super) fn nat_restore(&mut self, restore: NatRestore, now: Nanos) {
        let NatRestore {
            externals,
            records,
            answer,
        } = restore;
        let mut done = NatRestored::default();
        if let Some(nat) = &mut self.engine.nat {
            nat.set_externals(&externals);
            for record in records {
                match nat.restore(&record, now) {
                    Ok(()) => done.restored += 1,
                    Err(RestoreError::Elsewhere(owner)) => done.elsewhere.push((owner, record)),
                    Err(_) => {}
                }
            }
        }
        // Whoever gave up waiting does not need the answer.
        let _ = answer.send(done);
    }
}

fn activity(nat: &Nat) -> u64 {
    let counters = nat.counters();
    [
        counters.translated_outbound,
        counters.translated_inbound,
        counters.hairpinned,
        counters.sessions_created,
        counters.sessions_removed,
    ]
    .into_iter()
    .fold(0, u64::wrapping_add)
}
