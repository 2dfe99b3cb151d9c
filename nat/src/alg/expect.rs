//! Sessions that are expected from outside.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use crate::Nanos;
use crate::hash::HashKey;
use crate::index::Index;
use crate::slab::Slab;

#[derive(Clone)]
struct Expectation {
    mapping: u32,
    remote: Ipv4Addr,
    deadline: Nanos,
    /// Its session has come: it waits in the queue only.
    done: bool,
}

/// A fixed number of expectations, which all live equally long.
pub(super) struct Expectations {
    slab: Slab<Expectation>,
    index: Index,
    /// By age. Each is here until its time is over, fulfilled or not.
    queue: VecDeque<u32>,
    key: HashKey,
}

impl Expectations {
    pub(super) fn new(max: usize, key: HashKey) -> Self {
        Self {
            slab: Slab::new(max),
            index: Index::new(max),
            queue: VecDeque::with_capacity(max),
            key,
        }
    }

    /// Returns the bytes taken.
    pub(super) fn memory(&self) -> usize {
        let queue = self.queue.capacity() * size_of::<u32>();
        self.slab.memory() + self.index.memory() + queue
    }

    /// Returns whether a remote address is expected on a mapping.
    pub(super) fn contains(&self, mapping: u32, remote: Ipv4Addr, now: Nanos) -> bool {
        self.find(mapping, remote)
            .and_then(|id| self.slab.get(id))
            .is_some_and(|expectation| expectation.deadline > now)
    }

    /// Adds an expectation if it is not there. Returns whether the mapping is held once more, and
    /// a mapping that is held once less.
    pub(super) fn add(
        &mut self,
        mapping: u32,
        remote: Ipv4Addr,
        deadline: Nanos,
    ) -> (bool, Option<u32>) {
        let given_up = match self.find(mapping, remote) {
            // Asked for again: it is the youngest now.
            Some(id) => self.remove(id),
            None if self.slab.is_full() => {
                let oldest = self.queue.front().copied();
                oldest.and_then(|id| self.remove(id))
            }
            None => None,
        };
        let expectation = Expectation {
            mapping,
            remote,
            deadline,
            done: false,
        };
        let Some(id) = self.slab.insert(expectation) else {
            return (false, given_up);
        };
        if !self.index.insert(self.hash(mapping, remote), id) {
            self.slab.remove(id);
            return (false, given_up);
        }
        self.queue.push_back(id);
        (true, given_up)
    }

    /// Ends an expectation; returns whether the mapping is held once less.
    pub(super) fn fulfil(&mut self, mapping: u32, remote: Ipv4Addr) -> bool {
        let Some(id) = self.find(mapping, remote) else {
            return false;
        };
        if let Some(expectation) = self.slab.get_mut(id) {
            expectation.done = true;
        }
        self.index.remove(self.hash(mapping, remote), id);
        true
    }

    /// Takes out the oldest if its time is over; returns the mapping it held, unless fulfilled.
    pub(super) fn pop_due(&mut self, now: Nanos) -> Option<Option<u32>> {
        let &id = self.queue.front()?;
        let due = self
            .slab
            .get(id)
            .is_none_or(|oldest| oldest.deadline <= now);
        due.then(|| self.remove(id))
    }

    /// Returns when the oldest one's time is over.
    pub(super) fn next_expiry(&self) -> Option<Nanos> {
        let oldest = self.slab.get(*self.queue.front()?)?;
        Some(oldest.deadline)
    }

    fn remove(&mut self, id: u32) -> Option<u32> {
        let expectation = self.slab.remove(id)?;
        if self.queue.front() == Some(&id) {
            self.queue.pop_front();
        } else {
            self.queue.retain(|&other| other != id);
        }
        if expectation.done {
            return None;
        }
        let hash = self.hash(expectation.mapping, expectation.remote);
        self.index.remove(hash, id);
        Some(expectation.mapping)
    }

    /// Lays the tables aside; see [`Cells::lay_aside`](crate::cells::Cells::lay_aside).
    pub(super) fn lay_aside(&mut self) -> Self {
        let Self {
            ref mut slab,
            ref mut index,
            ref queue,
            key,
        } = *self;
        Self {
            slab: slab.lay_aside(),
            index: index.lay_aside(),
            queue: queue.clone(),
            key,
        }
    }

    pub(super) fn take_back(&mut self, twin: Self) {
        self.slab.take_back(twin.slab);
        self.index.take_back(twin.index);
    }

    fn find(&self, mapping: u32, remote: Ipv4Addr) -> Option<u32> {
        self.index.find(self.hash(mapping, remote), |id| {
            self.slab
                .get(id)
                .is_some_and(|e| e.mapping == mapping && e.remote == remote && !e.done)
        })
    }

    fn hash(&self, mapping: u32, remote: Ipv4Addr) -> u64 {
        self.key
            .hash(u64::from(mapping), u64::from(remote.to_bits()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a5_5_expectations_are_bounded_and_end() {
        let remote = Ipv4Addr::new(203, 0, 113, 1);
        let at = |n: u32| Nanos::from_secs(u64::from(n));
        let mut all = Expectations::new(3, HashKey::new(1, 7));
        for n in 0..3 {
            assert_eq!(all.add(n, remote, at(n + 60)), (true, None));
        }
        assert_eq!(all.add(3, remote, at(63)), (true, Some(0)), "the oldest");
        assert!(!all.contains(0, remote, at(4)) && all.contains(1, remote, at(4)));
        // Asked for again: held as often as before, and the youngest.
        assert_eq!(all.add(1, remote, at(64)), (true, Some(1)));
        assert!(all.fulfil(2, remote) && !all.fulfil(2, remote));
        assert!(!all.contains(2, remote, at(4)));
        assert_eq!(all.next_expiry(), Some(at(62)));
        assert_eq!(all.pop_due(at(61)), None);
        assert_eq!(all.pop_due(at(63)), Some(None), "fulfilled");
        assert!(!all.contains(3, remote, at(63)), "to the nanosecond");
        assert_eq!(all.pop_due(at(63)), Some(Some(3)));
        assert_eq!(all.pop_due(at(64)), Some(Some(1)));
        assert_eq!((all.pop_due(at(99)), all.next_expiry()), (None, None));
    }
}
