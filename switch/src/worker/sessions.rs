//! A worker's NAT sessions written down and brought back, in portions.
//!
//! Whoever wants all sessions asks for one portion after the other, each obeyed between two
//! batches, so that no frame waits for more than one portion. A session that comes, goes or changes
//! meanwhile is seen as it was when its portion was taken.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crossbeam_channel::Sender;
use nat::{Adopted, Nanos, Nat, SessionRecord};

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

/// Sessions to be brought back, in place of all there are.
#[derive(Debug)]
pub struct NatRestore {
    /// The external address in force from now on.
    pub external: Ipv4Addr,
    /// Who keeps which port against the arithmetic.
    pub adopted: Arc<Adopted>,
    /// The sessions of this worker.
    pub records: Vec<SessionRecord>,
    /// Told how many came back.
    pub answer: Sender<usize>,
}

impl Worker {
    /// Up to `max` slots of the session table, from slot `from` on.
    pub(super) fn nat_portion(&self, from: u32, max: u32, now: Nanos) -> NatPortion {
        let Some(nat) = &self.engine.nat else {
            return NatPortion {
                records: Vec::new(),
                next: None,
                activity: 0,
            };
        };
        let (records, next) = nat.snapshot(from, max, now);
        NatPortion {
            records,
            next,
            activity: activity(nat),
        }
    }

    /// Brings sessions back; one that cannot be (its port is taken, the table is full) is left out.
    pub(super) fn nat_restore(&mut self, restore: NatRestore, now: Nanos) {
        let NatRestore {
            external,
            adopted,
            records,
            answer,
        } = restore;
        let restored = self.engine.nat.as_mut().map_or(0, |nat| {
            nat.set_external(external);
            nat.adopt(adopted);
            let restored = |record: &&SessionRecord| nat.restore(record, now).is_ok();
            records.iter().filter(restored).count()
        });
        // Whoever gave up waiting does not need the number.
        let _ = answer.send(restored);
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
