//! Which packets are traced.

use std::fmt;
use std::sync::Arc;

use nat::Outcome;

use crate::frame::Frame;
use crate::port::PortIndex;
use crate::verdict::{DropReason, Verdict};

use super::steps::{Nat, Step, TimedStep, Tuple, Tx};

/// A frame that a filter is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// As it came or as it left: its first bytes at least.
    pub bytes: &'a [u8],
    /// How many it has.
    pub length: u32,
    /// Where it came in.
    pub ingress: PortIndex,
    /// The worker that has it.
    pub worker: u16,
    /// What became of it, where that is known by now.
    pub fate: Option<Fate<'a>>,
}

/// A frame as it is now.
pub(super) fn seen<'f>(frame: &'f Frame<'_>, worker: u16) -> Seen<'f> {
    Seen {
        bytes: frame.bytes(),
        length: u32::try_from(frame.len()).unwrap_or(u32::MAX),
        ingress: frame.ingress,
        worker,
        fate: None,
    }
}

/// What became of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Fate<'a> {
    /// All that was decided.
    pub steps: &'a [TimedStep],
    /// Its verdict.
    pub verdict: Option<Verdict>,
}

impl<'a> Fate<'a> {
    /// The reason it was dropped for, or a copy of it.
    #[must_use]
    pub fn reason(self) -> Option<DropReason> {
        if let Some(Verdict::Drop(reason)) = self.verdict {
            return Some(reason);
        }
        self.sent().find_map(|tx| tx.outcome.err())
    }

    /// True where the NAT rewrote it.
    #[must_use]
    pub fn is_translated(self) -> bool {
        self.steps.iter().any(|timed| {
            let translated =
                |nat: Nat| matches!(nat.outcome, Outcome::Translated | Outcome::Hairpin { .. });
            matches!(timed.step, Step::Nat(nat) if translated(nat))
        })
    }

    /// What became of its copies.
    pub fn sent(self) -> impl Iterator<Item = Tx> + use<'a> {
        self.steps.iter().filter_map(|timed| {
            let Step::Tx(tx) = timed.step else {
                return None;
            };
            Some(tx)
        })
    }
}

/// Whether a frame is wanted. It is asked about the frame as it came, and again as it left.
pub type Filter = Arc<dyn Fn(&Seen<'_>) -> bool + Send + Sync>;

/// Endpoint pairs that are followed at once; the oldest makes room.
const FOLLOWED_MAX: usize = 128;

/// Which packets are traced: those of which everything said here is true.
#[derive(Clone)]
pub struct Selector {
    /// One frame in so many of those that come in, 1 or more: taken before the filter is asked.
    pub one_in: u32,
    /// Only what comes in on these ports.
    pub ports: Option<Vec<PortIndex>>,
    /// Only what this wants.
    pub filter: Option<Filter>,
    /// The filter asks for the frame's fate: it is only asked when that is known.
    pub needs_fate: bool,
    /// Only what is dropped, or a copy of it. Of a packet that changed hands, the last piece.
    pub drops_only: bool,
    /// What belongs to the session of a packet that the filter wanted is wanted too.
    pub follow: bool,
    /// Each step gets its time, which costs a look at the clock; else all have the first one's.
    pub timed: bool,
}

impl Selector {
    /// Everything.
    pub const ALL: Self = Self {
        one_in: 1,
        ports: None,
        filter: None,
        needs_fate: false,
        drops_only: false,
        follow: false,
        timed: true,
    };

    /// What `filter` wants.
    #[must_use]
    pub fn filter(filter: impl Fn(&Seen<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self {
            filter: Some(Arc::new(filter)),
            ..Self::ALL
        }
    }

    /// True if it wants the frame as it is now.
    pub(super) fn wants(&self, seen: &Seen<'_>) -> bool {
        (self.filter.as_ref())
            .is_none_or(|filter| (seen.fate.is_some() || !self.needs_fate) && filter(seen))
    }

    pub(super) fn wants_port(&self, ingress: PortIndex) -> bool {
        (self.ports.as_ref()).is_none_or(|ports| ports.contains(&ingress))
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selector")
            .field("one_in", &self.one_in)
            .field("ports", &self.ports)
            .field("filter", &self.filter.is_some())
            .field("needs_fate", &self.needs_fate)
            .field("drops_only", &self.drops_only)
            .field("follow", &self.follow)
            .field("timed", &self.timed)
            .finish()
    }
}

/// The endpoint pairs of sessions that are followed, either way round.
#[derive(Debug)]
pub(super) struct Followed {
    tuples: Vec<Tuple>,
    oldest: usize,
}

impl Followed {
    pub(super) fn new() -> Self {
        Self {
            tuples: Vec::with_capacity(FOLLOWED_MAX),
            oldest: 0,
        }
    }

    pub(super) fn has(&self, tuple: Tuple) -> bool {
        let reversed = tuple.reversed();
        let mut tuples = self.tuples.iter();
        tuples.any(|known| *known == tuple || *known == reversed)
    }

    pub(super) fn add(&mut self, tuple: Tuple) {
        if self.has(tuple) {
            return;
        }
        if self.tuples.len() < FOLLOWED_MAX {
            self.tuples.push(tuple);
            return;
        }
        self.tuples[self.oldest] = tuple;
        self.oldest = (self.oldest + 1) % FOLLOWED_MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(port: u16) -> Tuple {
        Tuple {
            protocol: 17,
            source: [10, 9, 0, 2].into(),
            source_port: Some(port),
            destination: [1, 1, 1, 1].into(),
            destination_port: Some(53),
        }
    }

    #[test]
    fn a_session_is_followed_either_way_and_the_oldest_makes_room() {
        let mut followed = Followed::new();
        for port in 0..=128 {
            followed.add(tuple(port));
            followed.add(tuple(port).reversed());
        }
        assert_eq!(followed.tuples.len(), FOLLOWED_MAX);
        assert!(!followed.has(tuple(0)) && followed.has(tuple(1)));
        assert!(followed.has(tuple(128).reversed()));
    }
}
