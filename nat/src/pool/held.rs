//! The ports of a pool that are held, by their offsets.

use std::net::Ipv4Addr;

use super::{Holder, scale};
use crate::Nanos;
use crate::cells::Cells;
use crate::list::{Chain, List};

/// Buckets of hosts for whom ports are held.
const HOST_BUCKETS: usize = 1_024;
/// Held ports looked at for one of a host's own.
const LOOKED_AT: usize = 32;

/// What is known of one port, side by side, since all of it is read and written together: when and
/// for whom it is held, and its links in both lists. Words, so that fresh memory is all zeros.
type Port = [u32; 4];

/// First second at which the port is free for all; 0: not held.
const UNTIL: usize = 0;
const HOST: usize = 1;
/// Links in the list of all, in the order in which they came free: two numbers of 16 bits.
const IN_ORDER: usize = 2;
/// Links in the list of its host's bucket.
const IN_BUCKET: usize = 3;

/// One of the two lists.
struct Thread<'p> {
    ports: &'p mut Cells<Port>,
    word: usize,
}

impl Chain for Thread<'_> {
    fn ends(&self, offset: u32) -> [u32; 2] {
        ends(self.ports.get(offset).map_or(0, |port| port[self.word]))
    }

    fn set(&mut self, offset: u32, end: usize, value: u32) {
        if let Some(port) = self.ports.get_mut(offset) {
            let shift = 16 * (end & 1);
            let word = &mut port[self.word];
            // A pool has 65,535 ports at most.
            *word = *word & !(0xffff << shift) | (value & 0xffff) << shift;
        }
    }
}

fn ends(word: u32) -> [u32; 2] {
    [word & 0xffff, word >> 16]
}

/// See the module above.
pub(super) struct Held {
    hold: Nanos,
    ports: Cells<Port>,
    order: List,
    buckets: Cells<List>,
    count: u32,
}

impl Held {
    pub(super) fn new(ports: usize, hold: Nanos) -> Self {
        let buckets = ports.next_power_of_two().min(HOST_BUCKETS);
        Self {
            hold,
            ports: Cells::defaults(ports),
            order: List::default(),
            buckets: Cells::defaults(buckets),
            count: 0,
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.ports.memory() + self.buckets.memory()
    }

    /// Returns how many there are.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    fn thread(&mut self, word: usize) -> Thread<'_> {
        Thread {
            ports: &mut self.ports,
            word,
        }
    }

    /// Holds a port for its last host; returns `false` if nothing is ever held.
    pub(super) fn insert(&mut self, offset: u32, who: Holder) -> bool {
        // The second that begins at or after the end: never too short.
        let end = (who.now + self.hold + Nanos(999_999_999)).as_secs();
        let until = u32::try_from(end).unwrap_or(u32::MAX).max(1);
        self.insert_until(offset, who.host, until)
    }

    /// As [`insert`](Self::insert), until that second, which is not 0.
    pub(super) fn insert_until(&mut self, offset: u32, host: Ipv4Addr, until: u32) -> bool {
        if self.hold == Nanos::ZERO {
            return false;
        }
        let host = host.to_bits();
        let in_order = self.order.append(offset);
        let bucket = self.bucket(host);
        let bucket = self.buckets.get_mut(bucket);
        let in_bucket = bucket.map_or(0, |bucket| bucket.append(offset));
        // As the last of both lists it has no link to a next one.
        self.ports.set(offset, [until, host, in_order, in_bucket]);
        for (prev, word) in [(in_order, IN_ORDER), (in_bucket, IN_BUCKET)] {
            if let Some(prev) = prev.checked_sub(1) {
                self.thread(word).set(prev, 1, offset + 1);
            }
        }
        self.count += 1;
        true
    }

    pub(super) fn remove(&mut self, offset: u32) {
        let Some(port) = self.ports.get_mut(offset) else {
            return;
        };
        port[UNTIL] = 0;
        let host = port[HOST];
        let mut order = self.order;
        self.thread(IN_ORDER).unlink(&mut order, offset);
        self.order = order;
        let bucket = self.bucket(host);
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            let mut thread = Thread {
                ports: &mut self.ports,
                word: IN_BUCKET,
            };
            thread.unlink(bucket, offset);
        }
        self.count -= 1;
    }

    pub(super) fn contains(&self, offset: u32) -> bool {
        self.word(offset, UNTIL) != 0
    }

    pub(super) fn is_for(&self, offset: u32, host: Ipv4Addr) -> bool {
        self.contains(offset) && self.word(offset, HOST) == host.to_bits()
    }

    fn word(&self, offset: u32, word: usize) -> u32 {
        self.ports.get(offset).map_or(0, |port| port[word])
    }

    /// Returns all of them in the order in which they came free: offset, host, and until when.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Ipv4Addr, u32)> {
        let next = |&offset: &u32| ends(self.word(offset, IN_ORDER))[1].checked_sub(1);
        std::iter::successors(self.order.first(), next).map(|offset| {
            let host = Ipv4Addr::from_bits(self.word(offset, HOST));
            (offset, host, self.word(offset, UNTIL))
        })
    }

    /// Returns the port that came free first, if its time is up.
    pub(super) fn next_due(&self, now: Nanos) -> Option<u32> {
        let first = self.order.first()?;
        (u64::from(self.word(first, UNTIL)) <= now.as_secs()).then_some(first)
    }

    /// Finds a port in `low..high` held for this host that suits, looking at a bounded number.
    pub(super) fn find(
        &self,
        host: Ipv4Addr,
        low: u32,
        high: u32,
        suits: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let bucket = self.buckets.copy(self.bucket(host.to_bits()));
        let next = |&offset: &u32| ends(self.word(offset, IN_BUCKET))[1].checked_sub(1);
        std::iter::successors(bucket.first(), next)
            .take(LOOKED_AT)
            .find(|&offset| {
                (low..high).contains(&offset) && self.is_for(offset, host) && suits(offset)
            })
    }

    fn bucket(&self, host: u32) -> u32 {
        let mixed = scale(host.wrapping_mul(0x9e37_79b9), 1 << 16);
        // A power of two, and so at least one.
        mixed & (u32::try_from(self.buckets.len()).unwrap_or(1) - 1)
    }

    /// Lays the tables aside; see [`Cells::lay_aside`].
    pub(super) fn lay_aside(&mut self) -> Self {
        let Self {
            hold,
            ref mut ports,
            order,
            ref mut buckets,
            count,
        } = *self;
        Self {
            hold,
            ports: ports.lay_aside(),
            order,
            buckets: buckets.lay_aside(),
            count,
        }
    }

    pub(super) fn take_back(&mut self, twin: Self) {
        self.ports.take_back(twin.ports);
        self.buckets.take_back(twin.buckets);
    }
}
